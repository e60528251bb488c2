/* SPDX-License-Identifier: Apache-2.0
 * Decode by the fused kernels beside a dispatch for each op, on devices that can. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>

#include "gpu/executor.h"
#include "unit/session_fixture.h"

enum { TOKENS = 70, VOCABULARY = 300, BLOCKS = 3 };

/* Logits of TOKENS tokens, one by one; what decode says; dispatches of the last token. */
static uint64_t decode(const char *fused, const char *shape, const char *type, wisp_kv_type kv, float *logits,
                       char *decode_path) {
  fixture f;
  setenv("WISP_FUSED", fused, 1);
  wisp_engine_params params = fixture_params(&f, "vulkan", shape);
  params.source.synthetic_type = type;
  fixture_create(&f, &params);
  wisp_session_params wanted = wisp_session_params_defaults();
  wanted.context = TOKENS;
  wanted.kv_type = kv;
  wisp_session *session;
  cr_assert_eq(wisp_session_create(&session, f.engine, &wanted), WISP_OK, "%s", f.witness.capture.error);
  wisp_engine_stats before, after;
  for (int32_t i = 0; i < TOKENS; i++) {
    wisp_engine_get_stats(f.engine, &before);
    const int32_t id = (i * 37 + 5) % VOCABULARY;
    fixture_append(session, &id, 1, WISP_LOGITS_LAST, logits + (size_t)i * VOCABULARY);
  }
  wisp_engine_get_stats(f.engine, &after);
  snprintf(decode_path, 128, "%s", after.decode);
  wisp_session_destroy(&session);
  fixture_close(&f);
  unsetenv("WISP_FUSED");
  return after.dispatches - before.dispatches;
}

/* lavapipe with subgroups of at least 8 and all its features must take the fused kernels: else nothing here would be tested. */
static bool must_fuse(void) {
  wisp_engine_stats stats;
  fixture f;
  fixture_open(&f, "vulkan", "tiny-32");
  wisp_engine_get_stats(f.engine, &stats);
  const bool must = strstr(stats.device.name, "llvmpipe") && stats.device.subgroup_size >= 8 && !getenv("WISP_CAPS");
  fixture_close(&f);
  return must;
}

static void compare(const char *shape, const char *type, wisp_kv_type kv, uint32_t blocks, bool must, double limit) {
  static float expected[TOKENS * VOCABULARY], found[TOKENS * VOCABULARY];
  char plain_path[128], path[128];
  decode("0", shape, type, kv, expected, plain_path);
  const uint64_t dispatches = decode("1", shape, type, kv, found, path);
  cr_assert_neq(strncmp(plain_path, "fused", 5), 0, "%s", plain_path);
  const bool fused = strncmp(path, "fused", 5) == 0;
  cr_assert(fused || !must, "%s %s: %s", shape, type, path);
  if (fused) cr_expect_eq(dispatches, 3 * blocks + 4, "%s: %llu dispatches", shape, (unsigned long long)dispatches);
  double error = 0, power = 0;
  for (int i = 0; i < TOKENS * VOCABULARY; i++) {
    const double difference = (double)found[i] - (double)expected[i];
    error += difference * difference;
    power += (double)expected[i] * (double)expected[i];
  }
  cr_expect(error <= limit * power, "%s %s: NMSE %.3g", shape, type, error / power);
}

/* wisp-kernels has the other types, too. */
Test(fused, logits_are_those_of_single_ops) {
  static const char *const types[] = {"f16", "q4_0"};
  const bool must = must_fuse();
  for (size_t i = 0; i < sizeof types / sizeof *types; i++) compare("tiny-32", types[i], WISP_KV_F32, BLOCKS, must, 1e-9);
  compare("tiny-32-ls", "q8_0", WISP_KV_F32, 2 * BLOCKS, must, 1e-9);
  compare("tiny-32", "q4_0", WISP_KV_F16, BLOCKS, must, 1e-6); /* a last bit can become one of f16 */
}

Test(fused, a_kv_cache_in_q8_0_goes_op_by_op) {
  static float plain[TOKENS * VOCABULARY], found[TOKENS * VOCABULARY];
  char path[128];
  const uint64_t single = decode("0", "tiny-32", "q8_0", WISP_KV_Q8_0, plain, path);
  cr_expect_eq(decode("1", "tiny-32", "q8_0", WISP_KV_Q8_0, found, path), single);
  for (int i = 0; i < TOKENS * VOCABULARY; i++) cr_assert_eq(found[i], plain[i]);
}

/* The logits of TOKENS tokens, one by one, by a new timeline. */
static void decode_directly(gpu_executor *e, float *logits) {
  wisp_timeline *timeline;
  cr_assert_eq(wisp_gpu_timeline_create(&timeline, &e->base, TOKENS, WISP_KV_F32), WISP_OK);
  for (int32_t i = 0; i < TOKENS; i++) {
    const int32_t id = (i * 37 + 5) % VOCABULARY;
    cr_assert_eq(wisp_gpu_append(timeline, &id, 1, WISP_LOGITS_LAST, logits + (size_t)i * VOCABULARY), WISP_OK);
  }
  wisp_gpu_timeline_destroy(timeline);
}

static uint32_t kernel_named(const gpu_executor *e, const char *name) {
  uint32_t i = 0;
  while (i < e->pipeline_count && strcmp(e->kernels[i].shader->name, name)) i++;
  cr_assert_lt(i, e->pipeline_count, "%s is not there", name);
  return i;
}

/* Attention is left out: start-up's comparison must see that, and a dispatch for each op must take over. */
Test(fused, wrong_results_are_seen_and_replaced) {
  static float plain[TOKENS * VOCABULARY], found[TOKENS * VOCABULARY];
  char path[128];
  capture log;
  wisp_host host = capture_host(&log);
  wisp_model model;
  wisp_plan plan;
  wisp_executor *executor;
  const bool must = must_fuse();
  decode("0", "tiny-32", "q8_0", WISP_KV_F32, plain, path);
  setenv("WISP_FUSED", "1", 1);
  cr_assert_eq(wisp_model_synthesize(&model, &host, "tiny-32", "q8_0", 3), WISP_OK); /* the seed of fixtures */
  cr_assert_eq(wisp_plan_create(&plan, &host, &model), WISP_OK);
  const wisp_executor_params params = {.host = &host, .plan = &plan, .device_index = -1, .max_context = TOKENS};
  cr_assert_eq(wisp_gpu_executor.create(&executor, &params), WISP_OK);
  gpu_executor *e = (gpu_executor *)executor;
  cr_assert(e->context.fused || !must);
  if (e->context.fused) {
    const uint32_t attention = kernel_named(e, "attention_fused");
    wvk_pipeline *kept = e->pipelines[attention];
    e->pipelines[attention] = e->pipelines[kernel_named(e, "embed")];
    cr_assert_eq(wisp_gpu_check_fused(e), WISP_OK, "%s", log.error);
    e->pipelines[attention] = kept;
    cr_expect_not(e->context.fused);
    cr_expect_eq(log.warnings, 1);
    decode_directly(e, found);
    cr_expect(fixture_nmse(found, plain, TOKENS * VOCABULARY) <= 1e-9);
  }
  wisp_gpu_executor.destroy(executor);
  wisp_plan_close(&plan);
  wisp_model_close(&model);
  unsetenv("WISP_FUSED");
}
