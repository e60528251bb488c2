/* SPDX-License-Identifier: Apache-2.0
 * Start-up: what it builds, what it keeps for the next one, whom it believes, and how much memory it takes. */
#include <criterion/criterion.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/crew.h"
#include "unit/kept_cache.h"
#include "unit/session_fixture.h"
#include "wvk.h"

enum { EMPTY_CACHE = 64 /* bytes of an entry in which a driver put nothing */ };

static void start(fixture *f, const char *shape, wisp_load load, kept *k) {
  wisp_engine_params params = fixture_params(f, "vulkan", shape);
  params.load = load;
  params.cache = kept_cache(k);
  fixture_create(f, &params);
}

static bool took(fixture *f, const char *step) {
  wisp_startup_step steps[64];
  const uint32_t count = wisp_engine_startup(f->engine, steps, 64);
  cr_assert(count > 0 && count <= 64);
  for (uint32_t i = 0; i < count; i++)
    if (!strcmp(steps[i].name, step)) return true;
  return false;
}

/* ---- Pipelines -------------------------------------------------------------------------------------------------------- */

/* As the device is, and as if it were a discrete GPU with the tiles of prompts; one more is the persistent kernel. */
Test(startup, pipelines_of_125m) {
  enum { MOST = 24 };
  static const char *const caps[] = {"", "kind=discrete"};
  for (int i = 0; i < 2; i++) {
    kept k = {.entries = {{.size = 0}}};
    fixture f;
    setenv("WISP_CAPS", caps[i], 1);
    start(&f, "mobilellm-125m", WISP_LOAD_PIPELINES, &k);
    const uint32_t count = wisp_engine_pipelines(f.engine, NULL, 0);
    cr_assert(count >= 8 && count < MOST, "%s: %u pipelines", caps[i], count);
    wisp_engine_stats stats;
    wisp_engine_get_stats(f.engine, &stats);
    cr_assert_leq(stats.pipelines_built, count);
    fixture_close(&f);
    kept_forget(&k);
  }
}

static uint32_t built(const char *shape, kept *k) {
  fixture f;
  wisp_engine_stats stats;
  start(&f, shape, WISP_LOAD_PIPELINES, k);
  wisp_engine_get_stats(f.engine, &stats);
  fixture_close(&f);
  return stats.pipelines_built;
}

Test(startup, second_start_builds_none) {
  kept k = {.entries = {{.size = 0}}};
  cr_assert_gt(built("mobilellm-125m", &k), 0);
  cr_assert_gt(k.entries[0].puts, 0);
  if (k.entries[0].size <= EMPTY_CACHE) {
    kept_forget(&k);
    cr_skip_test("this driver keeps nothing in a pipeline cache");
  }
  const unsigned puts = k.entries[0].puts;
  cr_assert_eq(built("mobilellm-125m", &k), 0);
  cr_assert_eq(k.entries[0].puts, puts, "there was nothing new to keep");
  cr_assert_gt(built("mobilellm-350m", &k), 0, "another shape has other pipelines");
  cr_assert_eq(built("mobilellm-125m", &k), 0, "both shapes are kept");
  kept_forget(&k);
}

/* ---- Damage ------------------------------------------------------------------------------------------------------------ */

enum { TOKENS = 16 };

/* A whole start with what is kept; returns whether kernels were checked. */
static bool run(kept *k, int32_t made[TOKENS]) {
  fixture f;
  start(&f, "tiny", WISP_LOAD_ALL, k);
  const bool checked = took(&f, "self-test");
  wisp_session *session = fixture_session(&f, 64);
  fixture_append(session, (int32_t[]){1, 2, 3}, 3, WISP_LOGITS_NONE, NULL);
  fixture_generate(session, made, TOKENS);
  wisp_session_destroy(&session);
  fixture_close(&f); /* no error was said */
  return checked;
}

static void cut_short(uint8_t *data, size_t *size) {
  *size /= 2;
}
static void cut_to_the_header(uint8_t *data, size_t *size) {
  *size = 8;
}
static void flip_a_bit(uint8_t *data, size_t *size) {
  data[*size - 1] ^= 1;
}
static void make_foreign(uint8_t *data, size_t *size) {
  for (size_t i = 8; i < 16 && i < *size; i++) data[i] ^= 0xff; /* the device in the header of pipelines; the count of checks */
}
static void fill_with_noise(uint8_t *data, size_t *size) {
  for (size_t i = 0; i < *size; i++) data[i] = (uint8_t)(i * 131 + 7);
}
static void lengthen(uint8_t *data, size_t *size) { /* there is room: see below */
  data[*size] = 0;
  *size += 1;
}

/* Both entries, each in every way: ignored, replaced by what is right, and the answer is the same. */
Test(startup, damaged_caches_are_ignored_and_replaced) {
  static void (*const damages[])(uint8_t * data, size_t * size) = {cut_short,    cut_to_the_header, flip_a_bit,
                                                                   make_foreign, fill_with_noise,   lengthen};
  kept k = {.entries = {{.size = 0}}};
  int32_t expected[TOKENS], made[TOKENS];
  cr_assert(run(&k, expected), "nothing was known of the kernels");
  cr_assert(!run(&k, made), "the kernels had passed before");
  cr_assert_arr_eq(made, expected, sizeof made);
  for (size_t i = 0; i < sizeof damages / sizeof *damages; i++) {
    size_t sound[2];
    unsigned puts[2];
    for (int j = 0; j < 2; j++) {
      sound[j] = k.entries[j].size;
      puts[j] = k.entries[j].puts;
      cr_assert_gt(sound[j], 0);
      k.entries[j].data = realloc(k.entries[j].data, sound[j] + 1);
      damages[i](k.entries[j].data, &k.entries[j].size);
    }
    cr_assert(run(&k, made), "damage %zu: the list of passed checks was believed", i);
    cr_assert_arr_eq(made, expected, sizeof made);
    for (int j = 0; j < 2; j++) {
      cr_assert_gt(k.entries[j].puts, puts[j], "damage %zu: entry %d was not replaced", i, j);
      cr_assert_eq(k.entries[j].size, sound[j]);
    }
    cr_assert(!run(&k, made), "damage %zu: what replaced it is not believed", i);
  }
  kept_forget(&k);
}

/* ---- Steps and memory -------------------------------------------------------------------------------------------------- */

Test(startup, steps_are_told) {
  kept k = {.entries = {{.size = 0}}};
  fixture f;
  start(&f, "tiny", WISP_LOAD_ALL, &k);
  static const char *const names[] = {"random weights", "driver: instance", "driver: device",
                                      "upload",         "pipelines",        "self-test"};
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) cr_assert(took(&f, names[i]), "%s", names[i]);
  wisp_startup_step steps[64];
  const uint32_t count = wisp_engine_startup(f.engine, steps, 64);
  wisp_engine_stats stats;
  wisp_engine_get_stats(f.engine, &stats);
  double driver = 0;
  for (uint32_t i = 0; i < count; i++) {
    cr_assert(steps[i].begin_ms >= 0 && steps[i].ms >= 0);
    cr_assert_leq(steps[i].begin_ms + steps[i].ms, stats.load_ms + stats.init_ms + 1);
    if (!strncmp(steps[i].name, "driver: ", 8)) driver += steps[i].ms;
  }
  cr_assert(driver > 0 && driver <= stats.load_ms + stats.init_ms);
  cr_assert_float_eq(driver, stats.driver_ms, 0.01);
  wisp_engine_settle(f.engine);
  fixture_close(&f);
  kept_forget(&k);
}

/* Weights as they lie on the device, the KV cache, and at most 64 MiB for all else, through staging as a discrete GPU has it.
 */
Test(startup, device_memory_of_125m) {
  enum { CONTEXT = 2048, REST = 64 << 20 };
  kept k = {.entries = {{.size = 0}}};
  fixture f;
  wisp_model_info info;
  wisp_engine_stats stats;
  setenv("WISP_CAPS", "-unified_memory", 1);
  start(&f, "mobilellm-125m", WISP_LOAD_ALL, &k);
  wisp_engine_model_info(f.engine, &info);
  wisp_session *session = fixture_session(&f, CONTEXT);
  int32_t ids[70];
  fixture_ids(&f, ids, 70);
  fixture_append(session, ids, 70, WISP_LOGITS_NONE, NULL);
  fixture_generate(session, ids, 1);
  wisp_engine_get_stats(f.engine, &stats);
  const uint64_t needed = info.weight_bytes + CONTEXT * info.kv_bytes_per_token;
  cr_assert_gt(stats.peak_device_bytes, needed);
  cr_assert_leq(stats.peak_device_bytes, needed + REST, "%llu bytes beside weights and KV cache",
                (unsigned long long)(stats.peak_device_bytes - needed));
  wisp_session_destroy(&session);
  fixture_close(&f);
  kept_forget(&k);
}

Test(startup, staging_is_bounded) {
  enum { MOST = 32 << 20 };
  cr_assert_leq(2ull * WVK_UPLOAD_LANES * WVK_UPLOAD_CHUNK, MOST);
}

/* ---- Crew -------------------------------------------------------------------------------------------------------------- */

typedef struct parts {
  atomic_uint done[100], workers;
  uint32_t failing;
} parts;

static wisp_status do_part(void *argument, uint32_t part, uint32_t worker) {
  parts *p = argument;
  atomic_fetch_or(&p->workers, 1u << worker);
  atomic_fetch_add(&p->done[part], 1);
  return part == p->failing ? WISP_ERROR_IO : WISP_OK;
}

Test(startup, crew_does_each_part_once) {
  static const uint32_t threads[] = {1, 2, 5, WISP_CREW_MAX, 100};
  wisp_crew crew;
  wisp_crew_open(&crew);
  for (size_t i = 0; i < sizeof threads / sizeof *threads; i++)
    for (uint32_t count = 0; count <= 100; count += 33) {
      parts p = {.failing = UINT32_MAX};
      cr_assert_eq(wisp_crew_run(&crew, do_part, &p, count, threads[i]), WISP_OK);
      for (uint32_t j = 0; j < 100; j++) cr_assert_eq(p.done[j], j < count);
      cr_assert_lt(p.workers, 1ull << (threads[i] < WISP_CREW_MAX ? threads[i] : WISP_CREW_MAX));
    }
  wisp_crew_close(&crew);
}

Test(startup, crew_stops_at_a_failure) {
  wisp_crew crew;
  wisp_crew_open(&crew);
  parts p = {.failing = 3};
  cr_assert_eq(wisp_crew_run(&crew, do_part, &p, 100, 1), WISP_ERROR_IO);
  for (uint32_t i = 0; i < 100; i++) cr_assert_eq(p.done[i], i <= 3);
  cr_assert_eq(wisp_crew_run(&crew, do_part, &p, 100, 4), WISP_ERROR_IO);
  wisp_crew_close(&crew);
}

static void set_flag(void *argument) {
  usleep(1000);
  atomic_store((atomic_uint *)argument, 1);
}

Test(startup, crew_waits_for_what_was_begun) {
  wisp_crew crew;
  atomic_uint flags[3] = {0};
  wisp_crew_open(&crew);
  for (int i = 0; i < 3; i++) cr_assert(wisp_crew_begin(&crew, set_flag, &flags[i]));
  wisp_crew_wait(&crew);
  for (int i = 0; i < 3; i++) cr_assert_eq(flags[i], 1);
  wisp_crew_close(&crew);
}
