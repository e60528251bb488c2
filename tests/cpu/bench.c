/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "judge.h"

enum { ROWS = 1536, COLS = 576, COUNT = 64, ROUNDS = 9 };

static double processor_seconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* Multiply-adds per second, the best of some rounds of about a hundredth of a second. */
static double rate(const wisp_cpu_kernels *kernels, const wisp_packed *packed, const wisp_codes *codes, uint32_t count,
                   float *y) {
  double best = 0;
  uint32_t times = 1;
  for (int round = 0; round < ROUNDS; round++) {
    const double start = processor_seconds();
    for (uint32_t i = 0; i < times; i++) kernels->packed_matmul(packed, 0, ROWS, codes, count, y, ROWS);
    const double seconds = processor_seconds() - start, found = (double)times * ROWS * COLS * count / seconds;
    if (found > best) best = found;
    times = (uint32_t)(0.01 / (seconds / times)) + 1;
  }
  return best;
}

void bench_products(const wisp_cpu_kernels *kernels) {
  static const wisp_dtype types[] = {WISP_Q4_0, WISP_Q4_1, WISP_Q5_0, WISP_Q8_0};
  if (!kernels->quantize) return;
  uint64_t state = 1;
  float *x = malloc((size_t)COUNT * COLS * sizeof *x), *y = malloc((size_t)COUNT * ROWS * sizeof *y);
  float *weights = malloc((size_t)ROWS * COLS * sizeof *weights);
  uint8_t *data = malloc((size_t)ROWS * COLS * 2), *tiles = malloc((size_t)ROWS * COLS * 2);
  wisp_codes codes = {malloc((size_t)COUNT * COLS * sizeof(int16_t)), malloc((size_t)COUNT * COLS / 32 * sizeof *codes.scales)};
  if (!x || !y || !weights || !data || !tiles || !codes.codes || !codes.scales) abort();
  for (size_t i = 0; i < (size_t)ROWS * COLS; i++) weights[i] = random_normal(&state);
  random_fill(&state, x, (size_t)COUNT * COLS);
  for (uint32_t c = 0; c < COUNT; c++)
    kernels->quantize(x + c * COLS, COLS, 0, codes.codes + c * COLS, codes.scales + c * (COLS / 32));
  for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
    wisp_matrix matrix = {.type = wisp_dtype_find(types[i]), .rows = ROWS, .cols = COLS, .data = data};
    matrix.type->quantize(weights, data, (size_t)ROWS * COLS);
    wisp_packed packed = wisp_packed_plan(&matrix, kernels->packing);
    wisp_pack_tiles(&packed, kernels->packing, &matrix, 0, wisp_packed_tiles(&packed, kernels->packing), tiles);
    packed.tiles = tiles;
    printf("      %-8s %-6s one column %6.1f, %d columns %6.1f G multiply-adds/s of processor time\n", kernels->name,
           matrix.type->name, rate(kernels, &packed, &codes, 1, y) / 1e9, COUNT,
           rate(kernels, &packed, &codes, COUNT, y) / 1e9);
  }
  free(x), free(y), free(weights), free(data), free(tiles), free(codes.codes), free(codes.scales);
}
