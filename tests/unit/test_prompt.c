/* SPDX-License-Identifier: Apache-2.0
 * Prompts on Vulkan: whatever the kernels and the size of a batch, the logits are those of going token by token. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "unit/session_fixture.h"

/* The last row of logits after count tokens; step: one by one. The caller frees it. */
static float *last_logits(const char *caps, const char *batch, const char *type, uint32_t count, bool step) {
  fixture f;
  setenv("WISP_CAPS", caps, 1);
  setenv("WISP_BATCH", batch, 1);
  wisp_engine_params params = fixture_params(&f, "vulkan", "tiny");
  params.source.synthetic_type = type;
  params.max_context = 2048;
  fixture_create(&f, &params);
  int32_t *ids = malloc(count * sizeof *ids);
  cr_assert_not_null(ids);
  fixture_ids(&f, ids, count);
  float *row = fixture_rows(&f, 1);
  wisp_session *session = fixture_session(&f, count);
  for (uint32_t i = 0; i + 1 < count && step; i++) fixture_append(session, ids + i, 1, WISP_LOGITS_NONE, NULL);
  if (step)
    fixture_append(session, ids + count - 1, 1, WISP_LOGITS_LAST, row);
  else
    fixture_append(session, ids, count, WISP_LOGITS_LAST, row);
  wisp_session_destroy(&session);
  cr_assert_eq(f.witness.capture.replaced, 0, "WISP_CAPS=%s WISP_BATCH=%s, %s: a kernel was replaced", caps, batch, type);
  fixture_close(&f);
  free(ids);
  return row;
}

enum { VOCABULARY = 300 };

static void same(const float *expected, const char *caps, const char *batch, const char *type, uint32_t count) {
  float *found = last_logits(caps, batch, type, count, false);
  const double nmse = fixture_nmse(found, expected, VOCABULARY);
  cr_expect(nmse <= 1e-5, "WISP_CAPS=%s WISP_BATCH=%s, %s, %u tokens: NMSE %.2g", caps, batch, type, count, nmse);
  free(found);
}

/* Families of batch kernels: the device's own, of a large GPU with and without cooperative matrices, of a phone, of tier T0; of
 * a phone with integer dot products, which software drivers take long to compile. */
static const char *const families[] = {
    "", "kind=discrete", "kind=discrete,-cooperative_matrix", "kind=integrated", "tier0", "kind=integrated,+int_dot"};
enum { FAMILIES = sizeof families / sizeof *families, QUICK_FAMILIES = FAMILIES - 1 };

/* Rows of logits of count tokens one by one. The caller frees them. */
static float *stepped_rows(uint32_t count) {
  fixture f;
  unsetenv("WISP_CAPS");
  unsetenv("WISP_BATCH");
  fixture_open(&f, "vulkan", "tiny");
  int32_t *ids = malloc(count * sizeof *ids);
  cr_assert_not_null(ids);
  fixture_ids(&f, ids, count);
  float *rows = fixture_rows(&f, count);
  wisp_session *session = fixture_session(&f, count);
  for (uint32_t i = 0; i < count; i++) fixture_append(session, ids + i, 1, WISP_LOGITS_LAST, rows + (size_t)i * VOCABULARY);
  wisp_session_destroy(&session);
  fixture_close(&f);
  free(ids);
  return rows;
}

enum { LONGEST = 512, TAIL = 5 }; /* tokens; the model has room for so many */

/* Of a family: a prompt of each size at once up to 66 (every 11th under sanitizers), then of every 29th as far as batches reach
 * (with step 1 they all pass, which takes minutes), and now and then some tokens more behind it. */
static void check_sizes(const char *caps, const float *expected, uint32_t largest_batch) {
  fixture f;
  int32_t ids[LONGEST];
  setenv("WISP_CAPS", caps, 1);
  fixture_open(&f, "vulkan", "tiny");
  fixture_ids(&f, ids, LONGEST);
  float *row = fixture_rows(&f, 1);
  wisp_session *session = fixture_session(&f, LONGEST);
  for (uint32_t size = 1; size <= LONGEST; size += size < 66 ? (FIXTURE_SANITIZED ? 11 : 1) : size < largest_batch ? 29 : 64) {
    cr_assert_eq(wisp_session_truncate(session, 0), WISP_OK);
    fixture_append(session, ids, size, WISP_LOGITS_LAST, row);
    double nmse = fixture_nmse(row, expected + (size_t)(size - 1) * VOCABULARY, VOCABULARY);
    cr_expect(nmse <= 1e-5, "WISP_CAPS=%s, %u tokens: NMSE %.2g", caps, size, nmse);
    if (size % 8 > 1 || size + TAIL > LONGEST) continue;
    fixture_append(session, ids + size, TAIL, WISP_LOGITS_LAST, row);
    nmse = fixture_nmse(row, expected + (size_t)(size + TAIL - 1) * VOCABULARY, VOCABULARY);
    cr_expect(nmse <= 1e-5, "WISP_CAPS=%s, %u tokens behind %u: NMSE %.2g", caps, TAIL, size, nmse);
  }
  cr_assert_eq(f.witness.capture.replaced, 0, "WISP_CAPS=%s: a kernel was replaced", caps);
  wisp_session_destroy(&session);
  fixture_close(&f);
  free(row);
}

Test(prompt_vulkan, batches_of_every_size) {
  float *expected = stepped_rows(LONGEST);
  for (size_t family = 0; family < FAMILIES; family++)
    check_sizes(families[family], expected, strstr(families[family], "discrete") ? LONGEST : 66);
  free(expected);
}

Test(prompt_vulkan, every_type) {
  enum { COUNT = 70 };
  static const char *const types[] = {"f32", "f16", "bf16", "q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "w8a8"};
  for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
    float *expected = last_logits("", "1", types[i], COUNT, true);
    const size_t count = strcmp(types[i], "w8a8") ? QUICK_FAMILIES : 2; /* rounded inputs take long to compile */
    for (size_t family = 0; family < count; family++) same(expected, families[family], "512", types[i], COUNT);
    free(expected);
  }
}

Test(prompt_vulkan, long_context) {
  enum { COUNT = FIXTURE_SANITIZED ? 600 : 1100 }; /* over two batches of 512, and attention in splits */
  float *expected = last_logits("", "1", "q8_0", COUNT, true);
  for (size_t family = 0; family < FAMILIES; family++) same(expected, families[family], "512", "q8_0", COUNT);
  same(expected, "kind=discrete", "177", "q8_0", COUNT);
  free(expected);
}

typedef struct progress {
  wisp_session *session;
  size_t done, calls, stop; /* stop: cancel once so many are done; 0 = never */
} progress;

static void on_progress(void *user, size_t done, size_t count) {
  progress *p = user;
  cr_assert(done > p->done && done <= count && count == 100);
  p->done = done;
  p->calls++;
  if (p->stop && done >= p->stop) wisp_session_cancel(p->session);
}

/* Batches of 16: progress after each of them, and a cancel from there ends the append before the next. */
Test(prompt_vulkan, progress_and_cancel) {
  fixture f;
  int32_t ids[100];
  setenv("WISP_BATCH", "16", 1);
  fixture_open(&f, "vulkan", "tiny");
  fixture_ids(&f, ids, 100);
  progress p = {.session = NULL};
  wisp_session_params params = wisp_session_params_defaults();
  params.progress = on_progress;
  params.progress_user = &p;
  cr_assert_eq(wisp_session_create(&p.session, f.engine, &params), WISP_OK);
  fixture_append(p.session, ids, 100, WISP_LOGITS_NONE, NULL);
  cr_assert_eq(p.done, 100);
  cr_assert_eq(p.calls, 7);
  p = (progress){.session = p.session, .stop = 40};
  cr_assert_eq(wisp_session_append(p.session, ids, 100, WISP_LOGITS_NONE, NULL), WISP_ERROR_CANCELLED);
  fixture_said(&f, "cancelled");
  cr_assert_eq(p.calls, 3);
  cr_assert_eq(wisp_session_length(p.session), 148);
  wisp_session_destroy(&p.session);
  fixture_close(&f);
}
