/* SPDX-License-Identifier: Apache-2.0
 * Prompts that share a beginning with what a session holds; states that are saved and loaded, on the CPU, on Vulkan, and from
 * one to the other; files that are no good state are refused, and the session is as it was. */
#include <criterion/criterion.h>

#include "base/hash.h"
#include "base/little_endian.h"
#include "unit/session_fixture.h"
#include "unit/small_model.h"

#define ON_BOTH(name)                                                                                                          \
  static void name(const char *device);                                                                                        \
  Test(state_cpu, name) {                                                                                                      \
    name("cpu");                                                                                                               \
  }                                                                                                                            \
  Test(state_vulkan, name) {                                                                                                   \
    name("vulkan");                                                                                                            \
  }                                                                                                                            \
  static void name(const char *device)

enum { TOKENS = 40, MORE = 8, CONTEXT = 64 };

/* As in docs/formats.md. */
enum {
  AT_VERSION = 8,
  AT_KV_TYPE = 12,
  AT_FINGERPRINT = 16,
  AT_SLOTS = 24,
  AT_ROW_BYTES = 28,
  AT_LENGTH = 32,
  AT_ZERO = 36,
  AT_SUM = 40,
  HEADER = 48,
  SUM = 8
};

/* ---- Files in memory ------------------------------------------------------------------------------------------------- */

typedef struct file {
  uint8_t *bytes;
  size_t size, room; /* room 0: as much as comes */
} file;

static bool take(void *user, const void *data, size_t size) {
  file *f = user;
  if (f->room && f->size + size > f->room) return false;
  f->bytes = realloc(f->bytes, f->size + size + 1);
  cr_assert_not_null(f->bytes);
  memcpy(f->bytes + f->size, data, size);
  f->size += size;
  return true;
}

static file save(fixture *f, wisp_session *session) {
  file saved = {.bytes = NULL};
  cr_assert_eq(wisp_session_save(session, take, &saved), WISP_OK, "%s", f->witness.capture.error);
  return saved;
}

static wisp_status load(wisp_session *session, const uint8_t *bytes, size_t size) {
  return wisp_session_load(session, &(wisp_model_source){.data = bytes, .size = size, .fd = -1});
}

/* Makes both sums right again after a change. */
static void seal(file *f) {
  wisp_store_u64(f->bytes + AT_SUM, wisp_hash_bytes(f->bytes, AT_SUM));
  wisp_store_u64(f->bytes + f->size - SUM, wisp_hash_bytes(f->bytes + HEADER, f->size - HEADER - SUM));
}

static wisp_session *session_of(fixture *f, uint32_t context, wisp_kv_type kv_type) {
  wisp_session_params params = wisp_session_params_defaults();
  wisp_session *session;
  params.context = context;
  params.kv_type = kv_type;
  cr_assert_eq(wisp_session_create(&session, f->engine, &params), WISP_OK, "%s", f->witness.capture.error);
  return session;
}

static void same_logits(const fixture *f, bool same_bits, const float *a, const float *b, const char *what) {
  const double nmse = fixture_nmse(a, b, f->vocabulary);
  if (same_bits)
    cr_assert_arr_eq(a, b, f->vocabulary * sizeof *a, "%s: not the same bits", what);
  else
    cr_assert(nmse <= 1e-5, "%s: NMSE %g", what, nmse);
}

/* ---- Prefixes -------------------------------------------------------------------------------------------------------- */

/* What the session holds, the prompt, how much of it is not run again. */
ON_BOTH(prompts_share_a_beginning) {
  static const struct {
    uint32_t held, prompt, differs; /* differs: the position where the prompt has another token, >= prompt: none */
    uint32_t reused;
  } cases[] = {
      {0, 12, 99, 0},   {12, 20, 99, 12}, {12, 12, 99, 11}, {20, 12, 99, 11}, {20, 20, 7, 7},   {20, 20, 0, 0},
      {20, 20, 19, 19}, {20, 30, 20, 20}, {1, 1, 99, 0},    {20, 1, 99, 0},   {64, 64, 99, 63},
  };
  fixture f;
  int32_t ids[CONTEXT], prompt[CONTEXT];
  fixture_open(&f, device, "tiny");
  fixture_ids(&f, ids, CONTEXT);
  float *again = fixture_rows(&f, 1), *fresh = fixture_rows(&f, 1);
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    memcpy(prompt, ids, sizeof prompt);
    if (cases[i].differs < cases[i].prompt) prompt[cases[i].differs] = (prompt[cases[i].differs] + 1) % (int32_t)f.vocabulary;
    wisp_session *session = fixture_session(&f, CONTEXT), *other = fixture_session(&f, CONTEXT);
    if (cases[i].held) fixture_append(session, ids, cases[i].held, WISP_LOGITS_NONE, NULL);
    uint32_t reused = 99;
    cr_assert_eq(wisp_session_prompt(session, prompt, cases[i].prompt, again, &reused), WISP_OK);
    cr_assert_eq(reused, cases[i].reused, "case %zu: %u reused, expected %u", i, reused, cases[i].reused);
    cr_assert_eq(wisp_session_length(session), cases[i].prompt);
    fixture_append(other, prompt, cases[i].prompt, WISP_LOGITS_LAST, fresh);
    same_logits(&f, !strcmp(device, "cpu"), again, fresh, "a prompt");
    if (cases[i].prompt + MORE <= CONTEXT) {
      int32_t made[2][MORE];
      fixture_generate(session, made[0], MORE);
      fixture_generate(other, made[1], MORE);
      cr_assert_arr_eq(made[0], made[1], sizeof made[0], "case %zu: goes on otherwise", i);
    }
    wisp_session_destroy(&session);
    wisp_session_destroy(&other);
  }
  fixture_close(&f);
  free(again), free(fresh);
}

/* K and V that no token would give are still there afterwards: their tokens were not run again. */
ON_BOTH(prompts_run_only_the_rest) {
  enum { ROW = 2 * 2 * 16 * 2, SLOTS = 3, LENGTH = TOKENS + MORE, REST = 4 };
  fixture f;
  int32_t ids[CONTEXT];
  fixture_open(&f, device, "tiny");
  fixture_ids(&f, ids, CONTEXT);
  wisp_session *session = fixture_session(&f, CONTEXT);
  cr_assert_eq(wisp_session_prompt(session, ids, TOKENS, NULL, NULL), WISP_OK);
  fixture_generate(session, ids + TOKENS, MORE); /* a chat: the reply becomes a part of the next prompt */
  file strange = save(&f, session);
  cr_assert_eq(strange.size, HEADER + LENGTH * (4 + SLOTS * ROW) + SUM);
  for (size_t i = 0; i < LENGTH * SLOTS * ROW / 2; i++)
    wisp_store_u16(strange.bytes + HEADER + LENGTH * 4 + 2 * i, (uint16_t)(0x3000 + i % 1021));
  seal(&strange);
  cr_assert_eq(load(session, strange.bytes, strange.size), WISP_OK);
  uint32_t reused;
  cr_assert_eq(wisp_session_prompt(session, ids, LENGTH + REST, NULL, &reused), WISP_OK);
  cr_assert_eq(reused, LENGTH);
  file after = save(&f, session);
  for (uint32_t slot = 0; slot < SLOTS; slot++)
    cr_assert_arr_eq(after.bytes + HEADER + (LENGTH + REST) * (4 + slot * ROW),
                     strange.bytes + HEADER + LENGTH * (4 + slot * ROW), LENGTH * ROW, "slot %u", slot);
  wisp_session_destroy(&session);
  fixture_close(&f);
  free(strange.bytes), free(after.bytes);
}

ON_BOTH(prompts_that_cannot_be_run) {
  fixture f;
  int32_t ids[CONTEXT + 1];
  fixture_open(&f, device, "tiny");
  fixture_ids(&f, ids, CONTEXT + 1);
  wisp_session *session = fixture_session(&f, CONTEXT);
  fixture_append(session, ids, TOKENS, WISP_LOGITS_NONE, NULL);
  uint32_t reused = 99;
  cr_assert_eq(wisp_session_prompt(session, ids, 0, NULL, &reused), WISP_ERROR_ARGUMENT);
  fixture_said(&f, "at least one token");
  cr_assert_eq(wisp_session_prompt(session, ids, CONTEXT + 1, NULL, &reused), WISP_ERROR_CONTEXT_FULL);
  fixture_said(&f, "the prompt has 65 tokens, there is room for 64");
  ids[3] = (int32_t)f.vocabulary;
  cr_assert_eq(wisp_session_prompt(session, ids, 10, NULL, &reused), WISP_ERROR_ARGUMENT);
  fixture_said(&f, "outside the vocabulary");
  cr_assert_eq(reused, 0);
  cr_assert_eq(wisp_session_length(session), TOKENS);
  wisp_session_destroy(&session);
  fixture_close(&f);
}

/* ---- Saved and loaded ------------------------------------------------------------------------------------------------ */

ON_BOTH(states_go_on) {
  static const struct {
    const char *shape;
    wisp_kv_type kv_type;
  } kinds[] = {{"tiny", WISP_KV_F16},
               {"tiny", WISP_KV_F32},
               {"tiny-ls", WISP_KV_F16},
               {"tiny-ls", WISP_KV_F32},
               {"tiny-32", WISP_KV_Q8_0}};
  for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
    fixture f;
    int32_t ids[TOKENS + 2], made[2][MORE];
    fixture_open(&f, device, kinds[i].shape);
    fixture_ids(&f, ids, TOKENS + 2);
    float *here = fixture_rows(&f, 1), *there = fixture_rows(&f, 1);
    const wisp_kv_type kv_type = kinds[i].kv_type;
    wisp_session *session = session_of(&f, CONTEXT, kv_type), *other = session_of(&f, 2 * CONTEXT, kv_type);
    fixture_append(session, ids, TOKENS, WISP_LOGITS_NONE, NULL);
    fixture_append(other, ids + 7, 20, WISP_LOGITS_NONE, NULL); /* which is replaced */
    file saved = save(&f, session), again = {.bytes = NULL};
    cr_assert_eq(load(other, saved.bytes, saved.size), WISP_OK, "%s", f.witness.capture.error);
    cr_assert_eq(wisp_session_length(other), TOKENS);
    again = save(&f, other);
    cr_assert_eq(again.size, saved.size);
    cr_assert_arr_eq(again.bytes, saved.bytes, saved.size, "saved, loaded and saved again");
    fixture_append(session, ids + TOKENS, 2, WISP_LOGITS_LAST, here);
    fixture_append(other, ids + TOKENS, 2, WISP_LOGITS_LAST, there);
    same_logits(&f, true, there, here, "behind a loaded state");
    fixture_generate(session, made[0], MORE);
    fixture_generate(other, made[1], MORE);
    cr_assert_arr_eq(made[0], made[1], sizeof made[0]);
    uint32_t reused;
    cr_assert_eq(wisp_session_prompt(other, ids, TOKENS, NULL, &reused), WISP_OK); /* its ids are known */
    cr_assert_eq(reused, TOKENS - 1);
    wisp_session_destroy(&session);
    wisp_session_destroy(&other);
    fixture_close(&f);
    free(here), free(there), free(saved.bytes), free(again.bytes);
  }
}

/* Generating at once: the last token's logits have to be found again. */
ON_BOTH(states_generate) {
  fixture f;
  int32_t ids[TOKENS], made[2][MORE];
  fixture_open(&f, device, "tiny");
  fixture_ids(&f, ids, TOKENS);
  wisp_session *session = fixture_session(&f, CONTEXT), *other = fixture_session(&f, CONTEXT);
  fixture_append(session, ids, TOKENS, WISP_LOGITS_NONE, NULL);
  file saved = save(&f, session);
  cr_assert_eq(load(other, saved.bytes, saved.size), WISP_OK);
  fixture_generate(session, made[0], MORE);
  fixture_generate(other, made[1], MORE);
  cr_assert_arr_eq(made[0], made[1], sizeof made[0]);
  wisp_session_destroy(&session);
  wisp_session_destroy(&other);
  fixture_close(&f);
  free(saved.bytes);
}

ON_BOTH(empty_states) {
  fixture f;
  int32_t ids[TOKENS];
  fixture_open(&f, device, "tiny");
  fixture_ids(&f, ids, TOKENS);
  wisp_session *session = fixture_session(&f, CONTEXT), *other = fixture_session(&f, CONTEXT);
  fixture_append(other, ids, TOKENS, WISP_LOGITS_NONE, NULL);
  file saved = save(&f, session);
  cr_assert_eq(saved.size, HEADER + SUM);
  cr_assert_eq(load(other, saved.bytes, saved.size), WISP_OK);
  cr_assert_eq(wisp_session_length(other), 0);
  wisp_session_destroy(&session);
  wisp_session_destroy(&other);
  fixture_close(&f);
  free(saved.bytes);
}

/* Rows that do not fit into one piece of staging. */
ON_BOTH(long_states) {
  enum { LONG = 16384 };
  fixture f;
  wisp_engine_params params = fixture_params(&f, device, "tiny");
  params.max_context = LONG;
  fixture_create(&f, &params);
  wisp_session *session = session_of(&f, LONG, WISP_KV_F32), *other = session_of(&f, LONG, WISP_KV_F32);
  int32_t ids[16];
  fixture_ids(&f, ids, 16);
  fixture_append(session, ids, 16, WISP_LOGITS_NONE, NULL);
  file saved = save(&f, session), again;
  const size_t row = 2 * 2 * 16 * 4, slots = 3, body = LONG * (4 + slots * row);
  cr_assert_gt(slots * LONG * row, (size_t)(8 << 20));
  file made = {.bytes = calloc(1, HEADER + body + SUM), .size = HEADER + body + SUM};
  cr_assert_not_null(made.bytes);
  memcpy(made.bytes, saved.bytes, HEADER);
  wisp_store_u32(made.bytes + AT_LENGTH, LONG);
  for (size_t i = 0; i < slots * LONG * row / 4; i++)
    wisp_store_u32(made.bytes + HEADER + LONG * 4 + 4 * i, wisp_bits_of_float((float)(i % 65521)));
  seal(&made);
  cr_assert_eq(load(other, made.bytes, made.size), WISP_OK, "%s", f.witness.capture.error);
  cr_assert_eq(wisp_session_length(other), LONG);
  again = save(&f, other);
  cr_assert_eq(again.size, made.size);
  cr_assert(!memcmp(again.bytes, made.bytes, made.size), "other rows came back");
  wisp_session_destroy(&session);
  wisp_session_destroy(&other);
  fixture_close(&f);
  free(saved.bytes), free(made.bytes), free(again.bytes);
}

/* Device memory that the host does not see: rows go through staging. */
Test(state_vulkan, long_states_staged) {
  cr_assert_eq(setenv("WISP_CAPS", "-unified_memory", 1), 0);
  long_states("vulkan");
}

static void change_devices(const char *shape, wisp_kv_type kv_type, double bound) {
  static const char *const devices[] = {"cpu", "vulkan"};
  for (int from = 0; from < 2; from++) {
    fixture f[2];
    int32_t ids[TOKENS];
    wisp_session *sessions[2];
    float *logits[2];
    for (int i = 0; i < 2; i++) {
      fixture_open(&f[i], devices[i], shape);
      sessions[i] = session_of(&f[i], CONTEXT, kv_type);
      logits[i] = fixture_rows(&f[i], 1);
    }
    fixture_ids(&f[0], ids, TOKENS);
    fixture_append(sessions[from], ids, TOKENS - 1, WISP_LOGITS_NONE, NULL);
    file saved = save(&f[from], sessions[from]);
    cr_assert_eq(load(sessions[!from], saved.bytes, saved.size), WISP_OK, "%s", f[!from].witness.capture.error);
    for (int i = 0; i < 2; i++) fixture_append(sessions[i], ids + TOKENS - 1, 1, WISP_LOGITS_LAST, logits[i]);
    const double nmse = fixture_nmse(logits[!from], logits[from], f[0].vocabulary);
    cr_assert(nmse <= bound, "from %s, %s: NMSE %g", devices[from], shape, nmse);
    for (int i = 0; i < 2; i++) {
      wisp_session_destroy(&sessions[i]);
      fixture_close(&f[i]);
      free(logits[i]);
    }
    free(saved.bytes);
  }
}

Test(state_vulkan, states_change_devices) {
  change_devices("tiny-ls", WISP_KV_F16, 1e-5);
  change_devices("tiny-32", WISP_KV_Q8_0, 1e-4); /* the last token's own values may round to another step */
}

/* ---- Refused --------------------------------------------------------------------------------------------------------- */

/* A session of TOKENS tokens, its state, and what it says behind them. */
typedef struct scene {
  fixture f;
  wisp_session *session;
  int32_t ids[TOKENS + 1];
  file saved;
  float *logits;
} scene;

static void scene_open(scene *s, const char *device) {
  fixture_open(&s->f, device, "tiny");
  fixture_ids(&s->f, s->ids, TOKENS + 1);
  s->session = fixture_session(&s->f, CONTEXT);
  s->logits = fixture_rows(&s->f, 2);
  fixture_append(s->session, s->ids, TOKENS + 1, WISP_LOGITS_LAST, s->logits);
  cr_assert_eq(wisp_session_truncate(s->session, TOKENS), WISP_OK);
  s->saved = save(&s->f, s->session);
  fixture_append(s->session, s->ids + TOKENS, 1, WISP_LOGITS_LAST, s->logits);
  cr_assert_eq(wisp_session_truncate(s->session, TOKENS), WISP_OK);
}

/* The session is as it was: same tokens, same K and V, same logits. */
static void scene_close(scene *s) {
  file now = save(&s->f, s->session);
  cr_assert_eq(now.size, s->saved.size);
  cr_assert_arr_eq(now.bytes, s->saved.bytes, now.size, "the session has changed");
  fixture_append(s->session, s->ids + TOKENS, 1, WISP_LOGITS_LAST, s->logits + s->f.vocabulary);
  same_logits(&s->f, true, s->logits + s->f.vocabulary, s->logits, "after files that were refused");
  wisp_session_destroy(&s->session);
  fixture_close(&s->f);
  free(s->logits), free(s->saved.bytes), free(now.bytes);
}

static void refused(scene *s, const uint8_t *bytes, size_t size, wisp_status expected, const char *words) {
  const wisp_status status = load(s->session, bytes, size);
  cr_assert_eq(status, expected, "%s: %s", wisp_status_name(status), s->f.witness.capture.error);
  fixture_said(&s->f, words);
  cr_assert_eq(wisp_session_length(s->session), TOKENS);
}

ON_BOTH(damaged_states) {
  scene s;
  scene_open(&s, device);
  for (size_t at = 0; at < s.saved.size; at++) { /* every byte, with bits that change from byte to byte */
    s.saved.bytes[at] ^= (uint8_t)(1u << at % 8);
    const bool version = at >= AT_VERSION && at < AT_KV_TYPE;
    refused(&s, s.saved.bytes, s.saved.size, version ? WISP_ERROR_UNSUPPORTED : WISP_ERROR_FORMAT,
            at < AT_VERSION ? "no saved session"
            : version       ? "version"
            : at < HEADER   ? "header is damaged"
                            : "is damaged");
    s.saved.bytes[at] ^= (uint8_t)(1u << at % 8);
  }
  scene_close(&s);
}

ON_BOTH(truncated_states) {
  scene s;
  scene_open(&s, device);
  for (size_t size = 1; size < s.saved.size; size += size < HEADER + 4 * TOKENS + 16 || size + 16 > s.saved.size ? 1 : 13) {
    uint8_t *part = malloc(size); /* of its own, so that reading past it is seen */
    cr_assert_not_null(part);
    memcpy(part, s.saved.bytes, size);
    refused(&s, part, size, WISP_ERROR_FORMAT,
            size < AT_VERSION ? "no saved session"
            : size < HEADER   ? "cut short"
                              : "tokens need");
    free(part);
  }
  uint8_t *longer = calloc(1, s.saved.size + 9);
  cr_assert_not_null(longer);
  memcpy(longer, s.saved.bytes, s.saved.size);
  for (size_t more = 1; more <= 9; more++) refused(&s, longer, s.saved.size + more, WISP_ERROR_FORMAT, "tokens need");
  free(longer);
  scene_close(&s);
}

/* Sums that are right say nothing about the figures. */
ON_BOTH(forged_states) {
  static const struct {
    size_t at;
    uint32_t value;
    wisp_status status;
    const char *words;
  } forged[] = {
      {AT_VERSION, 0, WISP_ERROR_UNSUPPORTED, "version 0"},
      {AT_VERSION, 2, WISP_ERROR_UNSUPPORTED, "version 2"},
      {AT_KV_TYPE, WISP_KV_F32, WISP_ERROR_UNSUPPORTED, "K and V are f32, the session's f16"},
      {AT_KV_TYPE, 77, WISP_ERROR_UNSUPPORTED, "unknown type"},
      {AT_FINGERPRINT, 1, WISP_ERROR_UNSUPPORTED, "another model"},
      {AT_FINGERPRINT + 4, 1, WISP_ERROR_UNSUPPORTED, "another model"},
      {AT_SLOTS, 0, WISP_ERROR_FORMAT, "contradicts"},
      {AT_SLOTS, UINT32_MAX, WISP_ERROR_FORMAT, "contradicts"},
      {AT_ROW_BYTES, 0, WISP_ERROR_FORMAT, "contradicts"},
      {AT_ROW_BYTES, UINT32_MAX, WISP_ERROR_FORMAT, "contradicts"},
      {AT_LENGTH, 0, WISP_ERROR_FORMAT, "tokens need"},
      {AT_LENGTH, TOKENS - 1, WISP_ERROR_FORMAT, "tokens need"},
      {AT_LENGTH, TOKENS + 1, WISP_ERROR_FORMAT, "tokens need"},
      {AT_LENGTH, CONTEXT + 1, WISP_ERROR_CONTEXT_FULL, "has room for 64"},
      {AT_LENGTH, UINT32_MAX, WISP_ERROR_CONTEXT_FULL, "has room for 64"},
      {AT_ZERO, 1, WISP_ERROR_FORMAT, "contradicts"},
      {HEADER, 300, WISP_ERROR_FORMAT, "token 0 has id 300, outside the vocabulary of 300"},
      {HEADER + 4 * (TOKENS - 1), UINT32_MAX, WISP_ERROR_FORMAT, "outside the vocabulary"},
  };
  scene s;
  scene_open(&s, device);
  for (size_t i = 0; i < sizeof forged / sizeof *forged; i++) {
    file copy = {.bytes = NULL};
    take(&copy, s.saved.bytes, s.saved.size);
    wisp_store_u32(copy.bytes + forged[i].at, forged[i].value);
    seal(&copy);
    refused(&s, copy.bytes, copy.size, forged[i].status, forged[i].words);
    free(copy.bytes);
  }
  scene_close(&s);
}

/* Models that differ in one bit of one weight, or in a figure that no tensor shows, are others. */
Test(state_cpu, states_of_other_models) {
  enum { SAME, WEIGHT, NORM, EPSILON, TYPE, MODELS };
  file saved = {.bytes = NULL};
  for (int i = 0; i < MODELS; i++) {
    small_model model = small_model_plain;
    gguf_builder builder;
    size_t size;
    if (i == TYPE) model.type = WISP_Q8_0;
    if (i == EPSILON) model.omit = "llama.attention.layer_norm_rms_epsilon";
    small_model_build(&builder, &model);
    if (i == EPSILON) gguf_add_f32(&builder, "llama.attention.layer_norm_rms_epsilon", 2e-5f);
    if (i == WEIGHT || i == NORM) {
      gguf_builder_tensor *tensor = small_model_tensor(&builder, i == NORM ? "output_norm.weight" : "blk.1.ffn_down.weight");
      builder.data.data[tensor->offset + 33] ^= 1;
    }
    uint8_t *bytes = gguf_finish(&builder, &size);
    gguf_end(&builder);
    fixture f;
    wisp_engine_params params = fixture_params(&f, "cpu", NULL);
    params.source = (wisp_model_source){.data = bytes, .size = size, .fd = -1};
    fixture_create(&f, &params);
    wisp_session *session = fixture_session(&f, CONTEXT);
    const int32_t ids[] = {1, 2, 3};
    if (!saved.bytes) {
      fixture_append(session, ids, 3, WISP_LOGITS_NONE, NULL);
      saved = save(&f, session);
    }
    const wisp_status status = load(session, saved.bytes, saved.size);
    cr_assert_eq(status, i == SAME ? WISP_OK : WISP_ERROR_UNSUPPORTED, "model %d: %s", i, wisp_status_name(status));
    if (i != SAME) fixture_said(&f, "another model");
    wisp_session_destroy(&session);
    fixture_close(&f);
    free(bytes);
  }
  free(saved.bytes);
}

/* Wherever the file stops taking bytes: one error, and the session goes on. */
ON_BOTH(states_that_cannot_be_written) {
  scene s;
  scene_open(&s, device);
  for (size_t room = 1; room < s.saved.size; room += 1 + s.saved.size / 24) {
    file full = {.room = room};
    cr_assert_eq(wisp_session_save(s.session, take, &full), WISP_ERROR_IO);
    fixture_said(&s.f, "could not be written");
    free(full.bytes);
  }
  scene_close(&s);
}

/* ---- The hash -------------------------------------------------------------------------------------------------------- */

Test(hash, pieces_are_the_whole) {
  uint8_t bytes[200];
  for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = (uint8_t)(i * 37);
  for (size_t size = 0; size <= sizeof bytes; size++)
    for (size_t cut = 0; cut <= size; cut += 3) {
      wisp_hash hash;
      wisp_hash_begin(&hash);
      wisp_hash_add(&hash, bytes, cut / 2);
      wisp_hash_add(&hash, bytes + cut / 2, cut - cut / 2);
      wisp_hash_add(&hash, bytes + cut, size - cut);
      cr_assert_eq(wisp_hash_end(&hash), wisp_hash_bytes(bytes, size), "%zu bytes cut at %zu", size, cut);
    }
}

Test(hash, every_bit_counts) {
  uint8_t bytes[100] = {0};
  for (size_t size = 1; size <= sizeof bytes; size++) {
    const uint64_t sum = wisp_hash_bytes(bytes, size);
    cr_assert_neq(sum, wisp_hash_bytes(bytes, size - 1), "%zu zeros are as %zu", size, size - 1);
    for (size_t bit = 0; bit < 8 * size; bit++) {
      bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
      cr_assert_neq(wisp_hash_bytes(bytes, size), sum, "bit %zu of %zu bytes", bit, size);
      bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
  }
}
