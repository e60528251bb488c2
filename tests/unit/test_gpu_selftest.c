/* SPDX-License-Identifier: Apache-2.0
 * The start-up check must see a device that computes wrongly: here, one whose weights were changed behind its back. */
#include <criterion/criterion.h>

#include "capture.h"
#include "gpu/executor.h"

typedef struct bench {
  capture log;
  wisp_host host;
  wisp_model model;
  wisp_plan plan;
  wisp_executor *executor;
} bench;

static void bench_open(bench *b) {
  b->host = capture_host(&b->log);
  cr_assert_eq(wisp_model_synthesize(&b->model, &b->host, "tiny", "q8_0", 1), WISP_OK);
  cr_assert_eq(wisp_plan_create(&b->plan, &b->host, &b->model), WISP_OK);
  const wisp_executor_params params = {.host = &b->host, .plan = &b->plan, .device_index = -1, .max_context = 64};
  cr_assert_eq(wisp_gpu_executor.create(&b->executor, &params), WISP_OK, "needs a Vulkan device");
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
