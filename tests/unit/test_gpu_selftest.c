/* SPDX-License-Identifier: Apache-2.0
 * The start-up check must see a device that computes wrongly: here, one whose weights were changed behind its back. */
#include <criterion/criterion.h>

#include <stdlib.h>

#include "capture.h"
#include "gpu/executor.h"
#include "unit/session_fixture.h"

typedef struct bench {
  capture log;
  wisp_host host;
  wisp_model model;
  wisp_plan plan;
  wisp_executor *executor;
} bench;

enum { FAR = 700 };

static void bench_model(bench *b, const char *shape, const char *type) {
  b->host = capture_host(&b->log);
  cr_assert_eq(wisp_model_synthesize(&b->model, &b->host, shape, type, 1), WISP_OK);
}

static void bench_start(bench *b) {
  cr_assert_eq(wisp_plan_create(&b->plan, &b->host, &b->model), WISP_OK);
  const wisp_executor_params params = {.host = &b->host, .plan = &b->plan, .device_index = -1, .max_context = FAR};
  cr_assert_eq(wisp_gpu_executor.create(&b->executor, &params), WISP_OK, "needs a Vulkan device");
}

static void bench_open(bench *b) {
  bench_model(b, "tiny", "q8_0");
  bench_start(b);
}

static void bench_close(bench *b) {
  wisp_gpu_executor.destroy(b->executor);
  wisp_plan_close(&b->plan);
  wisp_model_close(&b->model);
}

/* Changes the quants of a matrix of block 0 (or the vocabulary's) on the device; returns what the check then says. */
static const char *blame_after_change(bench *b, const wisp_window *window, uint32_t matrix) {
  gpu_executor *e = (gpu_executor *)b->executor;
  uint8_t *map = wvk_buffer_map(e->weights.buffers[window->buffer]);
  cr_assert_not_null(map, "this test needs unified memory");
  uint8_t *quants = map + window->offset + 16ull * window->matrices[matrix].quants;
  for (uint32_t i = 0; i < 2048; i++) quants[i] ^= 0x55;
  wvk_buffer_flush(e->weights.buffers[window->buffer], 0, wvk_buffer_size(e->weights.buffers[window->buffer]));
  cr_assert_eq(wisp_gpu_selftest(e), WISP_ERROR_DEVICE);
  return b->log.error;
}

Test(gpu_selftest, sound_device_passes) {
  bench b = {0};
  bench_open(&b);
  cr_assert_eq(wisp_gpu_selftest((gpu_executor *)b.executor), WISP_OK);
  cr_assert_eq(((gpu_executor *)b.executor)->context.refused, 0u);
  bench_close(&b);
}

Test(gpu_selftest, wrong_results_are_blamed_on_their_op) {
  static const char *const words[] = {"(q row",       "(k row",       "(v row",   "(attn_out row",
                                      "(gate_up row", "(gate_up row", "(down row"};
  for (uint32_t matrix = 0; matrix < 7; matrix++) {
    bench b = {0};
    bench_open(&b);
    const char *text = blame_after_change(&b, &((gpu_executor *)b.executor)->weights.blocks[0], matrix);
    cr_assert_not_null(strstr(text, words[matrix]), "matrix %u: %s", matrix, text);
    bench_close(&b);
  }
}

Test(gpu_selftest, wrong_vocabulary_is_blamed_on_embed) {
  bench b = {0};
  bench_open(&b);
  const char *text = blame_after_change(&b, ((gpu_executor *)b.executor)->weights.embedding, 0);
  cr_assert_not_null(strstr(text, "(embed row"), "%s", text);
  bench_close(&b);
}

/* ---- Attention over many positions -------------------------------------------------------------------------------------- */

static wisp_kernel attention_kernel(const bench *b) {
  const gpu_executor *e = (gpu_executor *)b->executor;
  uint32_t i = 0;
  while (b->plan.ops[i].kind != WISP_OP_ATTENTION) i++;
  return wisp_kernel_for(&e->context, &b->plan.ops[i], 0, false).kernel;
}

/* The driver takes kernel as if that constant were another, until the pipeline that is returned is put back. */
static wvk_pipeline *mistake(bench *b, const wisp_kernel *kernel, uint32_t constant, uint32_t value, uint32_t *at) {
  gpu_executor *e = (gpu_executor *)b->executor;
  for (*at = 0; *at < e->pipeline_count && !wisp_kernel_equal(&e->kernels[*at], kernel);) ++*at;
  cr_assert_lt(*at, e->pipeline_count);
  wisp_kernel mistaken = *kernel;
  mistaken.constants[constant] = value;
  wvk_pipeline_params params = {.name = kernel->shader->name,
                                .spirv = kernel->shader->spirv,
                                .spirv_bytes = kernel->shader->bytes,
                                .constants = mistaken.constants,
                                .constant_count = WISP_C_COUNT};
  wvk_pipeline *kept = e->pipelines[*at];
  cr_assert_eq(wvk_pipeline_create(&e->pipelines[*at], e->layout, &params), WVK_OK);
  return kept;
}

static void put_back(bench *b, wvk_pipeline *kept, uint32_t at) {
  gpu_executor *e = (gpu_executor *)b->executor;
  wvk_pipeline_destroy(&e->pipelines[at]);
  e->pipelines[at] = kept;
}

/* What the check says of such a driver. */
static wisp_status check_mistaken(bench *b, const wisp_kernel *kernel, uint32_t constant, uint32_t value) {
  uint32_t at;
  wvk_pipeline *kept = mistake(b, kernel, constant, value, &at);
  const wisp_status status = wisp_gpu_selftest((gpu_executor *)b->executor);
  put_back(b, kept, at);
  return status;
}

/* Logits of a token alone behind many. */
static void decode_far(bench *b, float *logits) {
  int32_t ids[FAR];
  wisp_timeline *timeline;
  for (int32_t i = 0; i < FAR; i++) ids[i] = (i * 37 + 5) % (int32_t)b->model.vocabulary;
  cr_assert_eq(wisp_gpu_timeline_create(&timeline, b->executor, FAR, WISP_KV_F16), WISP_OK);
  cr_assert_eq(wisp_gpu_append(timeline, ids, FAR - 1, WISP_LOGITS_NONE, NULL), WISP_OK);
  cr_assert_eq(wisp_gpu_append(timeline, ids + FAR - 1, 1, WISP_LOGITS_LAST, logits), WISP_OK);
  wisp_gpu_timeline_destroy(timeline);
}

/* Nobody is the last to arrive: attention without splits takes over. Where that is wrong as well, beyond 8 positions, the plain
 * variant does, and where there is no other the device is refused. Returns the device's smallest subgroup. */
static uint32_t replace_splits(const char *caps) {
  const double limit = 1e-6; /* a last bit can become one of f16 */
  float expected[300], found[300];
  bench b = {0};
  setenv("WISP_CAPS", caps, 1);
  setenv("WISP_FUSED", "0", 1);
  bench_model(&b, "tiny-32", "q8_0");
  bench_start(&b);
  gpu_executor *e = (gpu_executor *)b.executor;
  cr_assert_eq(b.log.warnings, 0);
  decode_far(&b, expected);

  const wisp_kernel split = attention_kernel(&b);
  cr_assert_gt(split.constants[WISP_C_SPLITS], 1u, "WISP_CAPS=%s", caps);
  cr_assert_eq(check_mistaken(&b, &split, WISP_C_SPLITS, 2 * split.constants[WISP_C_SPLITS]), WISP_OK, "%s", b.log.error);
  cr_expect(e->context.refused == WISP_REFUSED_SPLITS && b.log.warnings == 1);
  const wisp_kernel whole = attention_kernel(&b);
  cr_expect_eq(whole.constants[WISP_C_SPLITS], 1u);
  decode_far(&b, found);
  cr_expect(fixture_nmse(found, expected, b.model.vocabulary) <= limit, "WISP_CAPS=%s", caps);

  if (whole.shader->needs & WISP_NEEDS_SUBGROUP) {
    cr_assert_eq(check_mistaken(&b, &whole, WISP_C_WINDOW, 8), WISP_OK, "%s", b.log.error);
    cr_expect(e->context.refused == (WISP_REFUSED_SPLITS | 1u << WISP_OP_ATTENTION) && b.log.warnings == 2);
    decode_far(&b, found);
    cr_expect(fixture_nmse(found, expected, b.model.vocabulary) <= limit, "WISP_CAPS=%s", caps);
  }
  e->context.refused |= 1u << WISP_OP_ATTENTION;
  const wisp_kernel last = attention_kernel(&b);
  cr_expect_eq(check_mistaken(&b, &last, WISP_C_WINDOW, 8), WISP_ERROR_DEVICE);
  cr_expect_not_null(strstr(b.log.error, "attention over"), "%s", b.log.error);
  const uint32_t subgroup = wvk_device_caps(e->device)->subgroup_min;
  bench_close(&b);
  unsetenv("WISP_CAPS");
  unsetenv("WISP_FUSED");
  return subgroup;
}

Test(gpu_selftest, wrong_splits_are_seen_and_replaced) {
  const bool direct = replace_splits("kind=integrated") >= 8; /* then discrete devices have a kernel of their own */
  if (direct && !FIXTURE_SANITIZED) replace_splits("kind=discrete");
}

/* A wrong draw goes to the host, and does not hide what is judged behind it. */
Test(gpu_selftest, wrong_draws_are_the_hosts) {
  bench b = {0};
  setenv("WISP_FUSED", "0", 1);
  bench_open(&b);
  gpu_executor *e = (gpu_executor *)b.executor;
  uint32_t draw = 0, at[2];
  while (draw < e->pipeline_count && strcmp(e->kernels[draw].shader->name, "draw")) draw++;
  cr_assert_lt(draw, e->pipeline_count);
  const wisp_kernel drawing = e->kernels[draw], split = attention_kernel(&b);
  wvk_pipeline *kept[2] = {mistake(&b, &drawing, WISP_C_COLS, 2, &at[0]),
                           mistake(&b, &split, WISP_C_SPLITS, 2 * split.constants[WISP_C_SPLITS], &at[1])};
  cr_expect_eq(wisp_gpu_selftest(e), WISP_OK, "%s", b.log.error);
  cr_expect_eq(e->context.refused, 1u << WISP_OP_SAMPLE | WISP_REFUSED_SPLITS);
  cr_expect_eq(b.log.warnings, 2);
  for (int i = 0; i < 2; i++) put_back(&b, kept[i], at[i]);
  bench_close(&b);
}

/* Weights that f16 arithmetic has no room for, and f32 has: decode is to go on in f32, and to say so. */
Test(gpu_selftest, overflowing_halves_fall_back) {
  setenv("WISP_TUNE", "arithmetic=f16", 1);
  for (int large = 0; large < 2; large++) {
    bench b = {0};
    bench_model(&b, "tiny", "f16");
    const wisp_matrix *matrix = &b.model.blocks[0].down;
    uint16_t *weights = (uint16_t *)matrix->data;
    for (uint64_t i = 0; large && i < (uint64_t)matrix->rows * matrix->cols; i++) weights[i] = i % 2 ? 0xf800 : 0x7800;
    bench_start(&b);
    const gpu_executor *e = (gpu_executor *)b.executor;
    const bool offered = wvk_device_caps(e->device)->float16 && !wvk_device_caps(e->device)->wrong_float16;
    cr_assert_eq(e->context.refused, offered && large ? WISP_REFUSED_HALF : 0u, "%s", b.log.warning);
    cr_assert(!offered || !large || strstr(b.log.warning, "decode computes in f32"), "%s", b.log.warning);
    cr_assert_eq(wisp_gpu_selftest((gpu_executor *)b.executor), WISP_OK);
    bench_close(&b);
  }
}

/* A device that is known to compute f16 wrong is not asked to. */
Test(gpu_selftest, known_wrong_halves_are_not_tried) {
  bench b = {0};
  setenv("WISP_TUNE", "arithmetic=f16", 1);
  bench_open(&b);
  gpu_executor *e = (gpu_executor *)b.executor;
  wvk_caps caps = *e->context.caps;
  wisp_kernel_context context = e->context;
  const wisp_op *op = b.plan.ops;
  while (op->kind != WISP_OP_GATE_UP) op++;
  context.caps = &caps;
  cr_assert_eq(wisp_kernel_halves(&context, op), caps.float16);
  caps.wrong_float16 = true;
  cr_assert(!wisp_kernel_halves(&context, op));
  bench_close(&b);
}
