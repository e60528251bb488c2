/* SPDX-License-Identifier: Apache-2.0
 * Decode on the GPU: submits under way while ids are told, tokens drawn on the device. */
#include <criterion/criterion.h>

#include "gpu/executor.h"
#include "unit/session_fixture.h"

/* ---- Sessions -------------------------------------------------------------------------------------------------------- */

enum { PROMPT = 10, MADE = 70, CONTEXT = 128 };

static const wisp_sampler_params samplers[] = {
    {.top_p = 1, .repetition_penalty = 1}, /* greedy */
    {.temperature = 40, .top_p = 1, .repetition_penalty = 1, .seed = 1},
    {.temperature = 40, .top_k = 20, .top_p = 0.8f, .min_p = 0.01f, .repetition_penalty = 1, .seed = 2},
    {.temperature = 20, .top_p = 0.9f, .repetition_penalty = 1, .seed = UINT64_MAX},
    {.temperature = 60, .top_p = 1, .min_p = 0.2f, .repetition_penalty = 1, .seed = 4},
};
enum { SAMPLERS = sizeof samplers / sizeof *samplers };

/* K and V as floats: as f16 a last bit's difference between the devices becomes one that a draw can see. */
static wisp_session *begin(fixture *f, const wisp_sampler_params *sampler) {
  int32_t prompt[PROMPT];
  fixture_ids(f, prompt, PROMPT);
  wisp_session_params wanted = wisp_session_params_defaults();
  wanted.context = CONTEXT;
  wanted.kv_type = WISP_KV_F32;
  wanted.sampler = *sampler;
  wisp_session *session;
  cr_assert_eq(wisp_session_create(&session, f->engine, &wanted), WISP_OK, "%s", f->witness.capture.error);
  fixture_append(session, prompt, PROMPT, WISP_LOGITS_NONE, NULL);
  return session;
}

static void make(fixture *f, const wisp_sampler_params *sampler, int32_t *ids) {
  wisp_session *session = begin(f, sampler);
  fixture_generate(session, ids, MADE);
  wisp_session_destroy(&session);
}

static void same(const int32_t *found, const int32_t *expected, uint32_t count, const char *what, int sampler) {
  for (uint32_t i = 0; i < count; i++)
    cr_assert_eq(found[i], expected[i], "%s, sampler %d: token %u is %d, expected %d", what, sampler, i, found[i], expected[i]);
}

/* The reference kernels, whose logits are within rounding of the GPU's: those of instruction sets round activations to 16 bits,
 * which one draw in some ten thousand sees. */
Test(decode, draws_what_the_cpu_draws) {
  setenv("WISP_CPU", "c", 1);
  static const char *const shapes[] = {"tiny", "tiny-ls"};
  for (int shape = 0; shape < 2; shape++) {
    fixture cpu, gpu;
    fixture_open(&cpu, "cpu", shapes[shape]);
    fixture_open(&gpu, "vulkan", shapes[shape]);
    for (int i = 0; i < SAMPLERS; i++) {
      int32_t expected[MADE], found[MADE];
      make(&cpu, &samplers[i], expected);
      make(&gpu, &samplers[i], found);
      same(found, expected, MADE, shapes[shape], i);
    }
    fixture_close(&gpu);
    fixture_close(&cpu);
  }
}

/* ---- Long contexts: attention by several workgroups a head -------------------------------------------------------------- */

/* The last of count tokens alone, several times, and as the last one of a batch. */
static void compare_long(const char *caps, const char *shape, uint32_t count) {
  fixture f;
  int32_t ids[700];
  setenv("WISP_CAPS", caps, 1);
  setenv("WISP_FUSED", "0", 1);
  wisp_engine_params params = fixture_params(&f, "vulkan", shape);
  params.max_context = count;
  fixture_create(&f, &params);
  cr_assert_eq(f.witness.capture.replaced, 0, "WISP_CAPS=%s %s: a kernel was replaced", caps, shape);
  fixture_ids(&f, ids, count);
  float *rows = fixture_rows(&f, 3), *batch = rows + f.vocabulary, *again = batch + f.vocabulary;
  wisp_session_params wanted = wisp_session_params_defaults();
  wanted.context = count;
  wanted.kv_type = WISP_KV_F32;
  wisp_session *session;
  cr_assert_eq(wisp_session_create(&session, f.engine, &wanted), WISP_OK, "%s", f.witness.capture.error);
  fixture_append(session, ids, count, WISP_LOGITS_LAST, batch);
  for (int i = 0; i < 4; i++) {
    cr_assert_eq(wisp_session_truncate(session, count - 1), WISP_OK);
    fixture_append(session, &ids[count - 1], 1, WISP_LOGITS_LAST, i ? again : rows);
    if (i) cr_expect_arr_eq(again, rows, f.vocabulary * sizeof *rows, "WISP_CAPS=%s %s: bits differ", caps, shape);
  }
  const double nmse = fixture_nmse(rows, batch, f.vocabulary);
  cr_expect(nmse <= 1e-9, "WISP_CAPS=%s %s: NMSE %.2g", caps, shape, nmse);
  free(rows);
  wisp_session_destroy(&session);
  fixture_close(&f);
  unsetenv("WISP_CAPS");
  unsetenv("WISP_FUSED");
}

Test(decode, long_contexts_give_what_a_batch_gives) {
  compare_long("kind=integrated", "tiny", 400);
  if (!FIXTURE_SANITIZED) compare_long("kind=discrete", "tiny-32", 660);
}

typedef struct watcher { /* of a generate call */
  fixture *f;
  uint64_t dispatches; /* before it */
  uint32_t cost;       /* of a token, in dispatches */
  uint32_t told, most_ahead, stop_after;
} watcher;

static bool watch(void *user, int32_t id) {
  watcher *w = user;
  wisp_engine_stats stats;
  wisp_engine_get_stats(w->f->engine, &stats);
  const uint32_t submitted = (uint32_t)((stats.dispatches - w->dispatches) / w->cost), ahead = submitted - ++w->told;
  if (ahead > w->most_ahead) w->most_ahead = ahead;
  return w->told != w->stop_after;
}

static watcher watcher_of(fixture *f, uint32_t stop_after) {
  wisp_model_info info;
  wisp_engine_stats stats;
  wisp_engine_model_info(f->engine, &info);
  wisp_engine_get_stats(f->engine, &stats);
  return (watcher){.f = f, .dispatches = stats.dispatches, .cost = info.dispatches_per_token, .stop_after = stop_after};
}

/* Not more of them are made than were asked for. */
Test(decode, tokens_are_told_while_others_run) {
  fixture f;
  int32_t ids[MADE];
  uint32_t count;
  fixture_open(&f, "vulkan", "tiny");
  for (int i = 0; i < 2; i++) {
    wisp_session *session = begin(&f, &samplers[i]);
    watcher w = watcher_of(&f, 0);
    const wisp_generate_params params = {.max_tokens = MADE, .ignore_end = true, .on_token = watch, .user = &w};
    cr_assert_eq(wisp_session_generate(session, &params, ids, &count), WISP_OK);
    cr_assert_eq(w.told, MADE);
    cr_assert(w.most_ahead >= 1 && w.most_ahead < 2 * 8, "%u tokens ahead", w.most_ahead);
    wisp_engine_stats stats;
    wisp_engine_get_stats(f.engine, &stats);
    cr_assert_eq(stats.dispatches - w.dispatches, (uint64_t)MADE * w.cost);
    wisp_session_destroy(&session);
  }
  fixture_close(&f);
}

static bool drop(void *user, const void *data, size_t size) {
  return true;
}

/* What may come between a stop and going on, with tokens under way that are not told. */
static void between(wisp_session *session, int what) {
  const uint32_t length = wisp_session_length(session);
  const int32_t id = 1;
  if (what == 1) cr_assert_eq(wisp_session_save(session, drop, NULL), WISP_OK);
  if (what == 2) fixture_append(session, &id, 1, WISP_LOGITS_NONE, NULL);
  if (what == 2) cr_assert_eq(wisp_session_truncate(session, length), WISP_OK);
}

Test(decode, stopped_anywhere_and_gone_on) {
  for (const char *const *device = (const char *const[]){"cpu", "vulkan", NULL}; *device; device++) {
    fixture f;
    int32_t whole[MADE], found[MADE];
    fixture_open(&f, *device, "tiny");
    for (int i = 0; i < SAMPLERS; i++) {
      make(&f, &samplers[i], whole);
      for (uint32_t first = 40; first < 49; first++) { /* every place in a submit */
        wisp_session *session = begin(&f, &samplers[i]);
        watcher w = watcher_of(&f, first);
        w.cost = 1;
        const wisp_generate_params params = {.max_tokens = MADE, .ignore_end = true, .on_token = watch, .user = &w};
        uint32_t count;
        cr_assert_eq(wisp_session_generate(session, &params, found, &count), WISP_OK);
        cr_assert(count == first && wisp_session_length(session) == PROMPT + first);
        same(found, whole, first, "until stopped", i);
        between(session, (int)(first + i) % 3);
        fixture_generate(session, found, MADE - first);
        same(found, whole + first, MADE - first, "gone on", i);
        wisp_session_destroy(&session);
      }
    }
    fixture_close(&f);
  }
}

/* ---- Executors ------------------------------------------------------------------------------------------------------- */

typedef struct rig {
  capture log;
  wisp_host host;
  wisp_model model;
  wisp_plan plan;
  wisp_executor *executor;
} rig;

static void rig_open(rig *r) {
  r->host = capture_host(&r->log);
  cr_assert_eq(wisp_model_synthesize(&r->model, &r->host, "tiny", "q8_0", 1), WISP_OK);
  cr_assert_eq(wisp_plan_create(&r->plan, &r->host, &r->model), WISP_OK);
  const wisp_executor_params params = {.host = &r->host, .plan = &r->plan, .device_index = -1, .max_context = CONTEXT};
  cr_assert_eq(wisp_gpu_executor.create(&r->executor, &params), WISP_OK, "needs a Vulkan device");
}

static void rig_close(rig *r) {
  wisp_gpu_executor.destroy(r->executor);
  wisp_plan_close(&r->plan);
  wisp_model_close(&r->model);
}

static void rig_make(rig *r, int32_t *ids) {
  wisp_timeline *timeline;
  wisp_sampler sampler;
  const wisp_executor_api *api = &wisp_gpu_executor;
  const int32_t prompt[] = {3, 1, 4};
  cr_assert_eq(wisp_sampler_open(&sampler, &r->host, &samplers[2], r->model.vocabulary), WISP_OK);
  cr_assert_eq(api->timeline_create(&timeline, r->executor, CONTEXT, WISP_KV_F16), WISP_OK);
  timeline->sampler = &sampler;
  cr_assert_eq(api->append(timeline, prompt, 3, WISP_LOGITS_NONE, NULL), WISP_OK);
  for (uint32_t done = 0, made; done < MADE; done += made) {
    const uint32_t most = MADE - done, asked = done % 3 == 1 && most > 3 ? 3 : most; /* of more that are under way */
    cr_assert_eq(api->generate(timeline, asked, ids + done, &made), WISP_OK);
    cr_assert(made >= 1 && made <= asked);
    cr_assert_eq(timeline->length, 3 + done + made);
    cr_assert_eq(sampler.drawn, done + made);
  }
  api->timeline_destroy(timeline);
  wisp_sampler_close(&sampler);
}

/* Logits are those of the last token told, whatever runs behind it. */
Test(decode, last_logits_are_of_the_last_token_told) {
  rig r = {0};
  wisp_timeline *timeline;
  int32_t ids[MADE];
  float found[300], expected[300];
  const wisp_executor_api *api = &wisp_gpu_executor;
  const int32_t first = 3;
  rig_open(&r);
  cr_assert_eq(api->timeline_create(&timeline, r.executor, CONTEXT, WISP_KV_F16), WISP_OK);
  cr_assert_eq(api->append(timeline, &first, 1, WISP_LOGITS_NONE, NULL), WISP_OK);
  for (uint32_t call = 0, done = 0, made; call < 4; call++, done += made)
    cr_assert_eq(api->generate(timeline, MADE - done, ids + done, &made), WISP_OK);
  const uint32_t length = timeline->length;
  cr_assert_eq(api->last_logits(timeline, found), WISP_OK);
  cr_assert_eq(timeline->length, length);
  api->truncate(timeline, length - 1);
  cr_assert_eq(api->append(timeline, &ids[length - 2], 1, WISP_LOGITS_LAST, expected), WISP_OK);
  cr_assert_arr_eq(found, expected, sizeof found);
  api->timeline_destroy(timeline);
  rig_close(&r);
}

Test(decode, host_draws_where_the_device_is_wrong) {
  rig r = {0};
  int32_t expected[MADE], found[MADE];
  rig_open(&r);
  gpu_executor *e = (gpu_executor *)r.executor;
  cr_assert_eq(e->context.refused & 1u << WISP_OP_SAMPLE, 0u);
  rig_make(&r, expected);
  uint32_t draw = UINT32_MAX, other = UINT32_MAX; /* a driver that takes the one for the other */
  for (uint32_t i = 0; i < e->pipeline_count; i++) {
    if (!strcmp(e->kernels[i].shader->name, "draw")) draw = i;
    if (!strcmp(e->kernels[i].shader->name, "embed")) other = i;
  }
  cr_assert(draw != UINT32_MAX && other != UINT32_MAX);
  wvk_pipeline *kept = e->pipelines[draw];
  e->pipelines[draw] = e->pipelines[other];
  const unsigned warnings = r.log.warnings;
  cr_assert_eq(wisp_gpu_selftest(e), WISP_OK);
  e->pipelines[draw] = kept;
  cr_assert(e->context.refused & 1u << WISP_OP_SAMPLE);
  cr_assert_eq(r.log.warnings, warnings + 1);
  rig_make(&r, found);
  same(found, expected, MADE, "on the host", 2);
  rig_close(&r);
}
