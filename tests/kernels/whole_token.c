/* SPDX-License-Identifier: Apache-2.0 */
#include "whole_token.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "biases.h"
#include "gpu/executor.h"

enum { TOKENS = 300, GREEDY = 64, FEW = 40, FEW_GREEDY = 8 };

typedef enum fault {
  NONE,
  LOST_MAIL,   /* a workgroup is missing when tokens are made: its mail never comes */
  WRONG_START, /* the path runs the first block again and again: the check at start must see that */
} fault;

static const struct {
  const char *what, *model, *type;
  bool bias, gelu;
  wisp_kv_type kv_type;
  fault fault;
  bool fused;         /* the fused kernels, not the persistent path */
  const char *choice; /* as WISP_TUNE says it; NULL = as it is */
} cases[WHOLE_TOKEN_CASES] = {
    {.what = "tiny f32", .model = "tiny", .type = "f32"},
    {.what = "tiny f16", .model = "tiny", .type = "f16"},
    {.what = "tiny bf16", .model = "tiny", .type = "bf16"},
    {.what = "tiny q4_0", .model = "tiny", .type = "q4_0"},
    {.what = "tiny q4_1, f32 cache", .model = "tiny", .type = "q4_1", .kv_type = WISP_KV_F32},
    {.what = "tiny q5_1, GELU", .model = "tiny", .type = "q5_1", .gelu = true},
    {.what = "tiny-ls q8_0, biases", .model = "tiny-ls", .type = "q8_0", .bias = true},
    {.what = "mobilellm-125m q4_0", .model = "mobilellm-125m", .type = "q4_0"},
    {.what = "mobilellm-125m q4_0, 256 invocations",
     .model = "mobilellm-125m",
     .type = "q4_0",
     .choice = "persistent_local=256"},
    {.what = "tiny-ls q4_0, 512 invocations", .model = "tiny-ls", .type = "q4_0", .choice = "persistent_local=512"},
    {.what = "mobilellm-350m-ls q8_0", .model = "mobilellm-350m-ls", .type = "q8_0"},
    {.what = "mobilellm-350m f16, biases, GELU", .model = "mobilellm-350m", .type = "f16", .bias = true, .gelu = true},
    {.what = "mobilellm-125m q4_0, a workgroup missing", .model = "mobilellm-125m", .type = "q4_0", .fault = LOST_MAIL},
    {.what = "tiny q4_0, a workgroup missing", .model = "tiny", .type = "q4_0", .fault = LOST_MAIL},
    {.what = "tiny q4_0, wrong blocks", .model = "tiny", .type = "q4_0", .fault = WRONG_START},
    {.what = "tiny-32 f32", .model = "tiny-32", .type = "f32", .kv_type = WISP_KV_F32, .fused = true},
    {.what = "tiny-32 f16, biases, GELU",
     .model = "tiny-32",
     .type = "f16",
     .bias = true,
     .gelu = true,
     .kv_type = WISP_KV_F32,
     .fused = true},
    {.what = "tiny-32 bf16", .model = "tiny-32", .type = "bf16", .kv_type = WISP_KV_F32, .fused = true},
    {.what = "tiny-32 q4_0, f16 cache", .model = "tiny-32", .type = "q4_0", .fused = true},
    {.what = "tiny-32 q5_1", .model = "tiny-32", .type = "q5_1", .kv_type = WISP_KV_F32, .fused = true},
    {.what = "tiny-32-ls q8_0, biases",
     .model = "tiny-32-ls",
     .type = "q8_0",
     .bias = true,
     .kv_type = WISP_KV_F32,
     .fused = true},
};

static const char *const expected_decode[] = {
    [NONE] = "persistent", [LOST_MAIL] = "workgroups waited", [WRONG_START] = "wrong results"};

typedef struct made { /* by one path */
  float *logits;      /* [TOKENS][vocabulary] */
  int32_t greedy[GREEDY];
} made;

/* The fused kernels know no splits, and a CPU takes long over them. */
static uint32_t tokens_of(uint32_t index) {
  return cases[index].fused ? FEW : TOKENS;
}
static uint32_t greedy_of(uint32_t index) {
  return cases[index].fused ? FEW_GREEDY : GREEDY;
}

static int32_t token_at(uint32_t position, uint32_t vocabulary) {
  return (int32_t)((position * 7919ull + 13) % vocabulary);
}

static void set_variable(const char *name, const char *value) {
#if defined(_WIN32)
  _putenv_s(name, value);
#else
  setenv(name, value, 1);
#endif
}

/* The way that is looked at, or a dispatch for each op. Unless it is wished, the persistent path goes by the device. Where it
 * fails while tokens are made, fused kernels go on. */
static void choose_way(uint32_t index, bool looked_at, const char *persistent) {
  set_variable("WISP_PERSISTENT", looked_at && !cases[index].fused ? persistent : "0");
  set_variable("WISP_FUSED", looked_at && (cases[index].fused || cases[index].fault == LOST_MAIL) ? "1" : "0");
  if (cases[index].choice) set_variable("WISP_TUNE", looked_at ? cases[index].choice : "0");
}

static wisp_status open_model(const wisp_host *host, uint32_t index, wisp_model *model) {
  WISP_TRY(wisp_model_synthesize(model, host, cases[index].model, cases[index].type, 1));
  model->gelu = cases[index].gelu;
  if (cases[index].bias && !add_biases(model)) return wisp_fail(host, WISP_ERROR_MEMORY, "out of memory: biases");
  return WISP_OK;
}

static wisp_status break_it(gpu_executor *e, wisp_model *model, fault what) {
  if (what == LOST_MAIL) e->persistent.kernels[0].constants[WISP_P_GROUPS]--; /* of the dispatch; the pipeline is built */
  if (what != WRONG_START) return WISP_OK;
  const uint32_t blocks = model->weight_blocks;
  wisp_persistent_close(e);
  memset(&e->persistent, 0, sizeof e->persistent);
  model->weight_blocks = 1;
  const wisp_status status = wisp_persistent_open(e);
  wisp_persistent_settle(e);
  model->weight_blocks = blocks;
  return status;
}

static wisp_status make(wisp_timeline *timeline, uint32_t index, uint32_t vocabulary, made *out) {
  const uint32_t tokens = tokens_of(index), greedy = greedy_of(index);
  for (uint32_t i = 0; i < tokens; i++) {
    const int32_t id = token_at(i, vocabulary);
    WISP_TRY(wisp_gpu_append(timeline, &id, 1, WISP_LOGITS_LAST, out->logits + (size_t)i * vocabulary));
  }
  for (uint32_t done = 0, count; done < greedy; done += count)
    WISP_TRY(wisp_gpu_generate(timeline, greedy - done, out->greedy + done, &count));
  return WISP_OK;
}

/* looked_at: by the case's way, unless the device does not take it, row->taken. */
static wisp_status decode(const wisp_host *host, uint32_t device, uint32_t index, wisp_model *model, const wisp_plan *plan,
                          bool looked_at, made *out, whole_token_row *row) {
  const wisp_executor_params params = {
      .host = host, .plan = plan, .device_index = (int32_t)device, .max_context = TOKENS + GREEDY};
  wisp_executor *executor = NULL;
  wisp_timeline *timeline = NULL;
  WISP_TRY(wisp_gpu_executor.create(&executor, &params));
  gpu_executor *e = (gpu_executor *)executor;
  wisp_status status = WISP_OK;
  wisp_persistent_settle(e);
  const bool fused = cases[index].fused;
  if (looked_at) row->taken = fused ? e->context.fused : atomic_load(&e->persistent.available);
  if (looked_at && row->taken) status = break_it(e, model, cases[index].fault);
  if (status == WISP_OK) status = wisp_gpu_timeline_create(&timeline, executor, TOKENS + GREEDY, cases[index].kv_type);
  wisp_persistent_settle(e); /* the pipeline for an f32 cache, too */
  if (status == WISP_OK && row->taken) status = make(timeline, index, model->vocabulary, out);
  wisp_engine_stats stats;
  wisp_gpu_executor.get_stats(executor, &stats);
  if (looked_at) snprintf(row->decode, sizeof row->decode, "%s", stats.decode);
  const bool idle = timeline && !fused && cases[index].fault == NONE && !((gpu_timeline *)timeline)->persistent.active;
  if (looked_at && row->taken && idle)
    snprintf(row->decode, sizeof row->decode, "dispatches: the timeline did not take the path");
  if (timeline) wisp_gpu_timeline_destroy(timeline);
  wisp_gpu_executor.destroy(executor);
  return status;
}

static void compare(const made *found, const made *expected, uint32_t index, uint32_t vocabulary, whole_token_row *row) {
  for (uint32_t t = 0; t < tokens_of(index); t++) {
    double error = 0, power = 0;
    for (uint32_t i = 0; i < vocabulary; i++) {
      const double e = expected->logits[(size_t)t * vocabulary + i], d = found->logits[(size_t)t * vocabulary + i] - e;
      error += d * d;
      power += e * e;
    }
    if (!(error <= row->worst * power)) row->worst = error / power; /* NaN as well */
  }
  row->tokens = tokens_of(index);
  for (uint32_t i = 0; i < greedy_of(index); i++) row->others += found->greedy[i] != expected->greedy[i];
}

static wisp_status check_case(const wisp_host *host, uint32_t device, uint32_t index, whole_token_row *row) {
  const char *texts[] = {getenv("WISP_PERSISTENT"), getenv("WISP_FUSED"), getenv("WISP_TUNE")};
  char persistent[40], fused[40], tune[WISP_CHOICE_TEXT_BYTES];
  snprintf(persistent, sizeof persistent, "%s", texts[0] ? texts[0] : "");
  snprintf(fused, sizeof fused, "%s", texts[1] ? texts[1] : "");
  snprintf(tune, sizeof tune, "%s", texts[2] ? texts[2] : "");
  wisp_model model;
  wisp_plan plan = {0};
  made found = {0}, expected = {0};
  *row = (whole_token_row){.what = cases[index].what, .path = cases[index].fused ? "fused" : "persistent"};
  row->expected = cases[index].fused ? "fused" : expected_decode[cases[index].fault];
  wisp_status status = open_model(host, index, &model);
  if (status == WISP_OK) status = wisp_plan_create(&plan, host, &model);
  found.logits = calloc((size_t)TOKENS * model.vocabulary, sizeof(float));
  expected.logits = calloc((size_t)TOKENS * model.vocabulary, sizeof(float));
  if (status == WISP_OK && (!found.logits || !expected.logits)) status = wisp_fail_memory(host, "logits", TOKENS);
  choose_way(index, true, persistent);
  if (status == WISP_OK) status = decode(host, device, index, &model, &plan, true, &found, row);
  choose_way(index, false, persistent);
  if (status == WISP_OK && row->taken) status = decode(host, device, index, &model, &plan, false, &expected, row);
  set_variable("WISP_PERSISTENT", persistent);
  set_variable("WISP_FUSED", fused);
  set_variable("WISP_TUNE", tune);
  if (status == WISP_OK && row->taken) compare(&found, &expected, index, model.vocabulary, row);
  free(found.logits);
  free(expected.logits);
  wisp_plan_close(&plan);
  wisp_model_close(&model);
  return status;
}

wisp_status whole_token_check(const wisp_host *host, uint32_t device, const char *filter,
                              whole_token_row rows[WHOLE_TOKEN_CASES]) {
  wisp_status status = WISP_OK;
  bool taken[2] = {true, true}; /* persistent, fused */
  memset(rows, 0, WHOLE_TOKEN_CASES * sizeof *rows);
  for (uint32_t i = 0; i < WHOLE_TOKEN_CASES && status == WISP_OK; i++) {
    if (!taken[cases[i].fused] ||
        (filter && !strstr(cases[i].fused ? "fused" : "persistent", filter) && !strstr(cases[i].what, filter)))
      continue;
    status = check_case(host, device, i, &rows[i]);
    taken[cases[i].fused] = rows[i].taken;
  }
  return status;
}
