/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
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

/* A block of a prompt behind so many positions, as in MobileLLM-125M: 10 tokens, 3 heads of 64 that share K and V. */
enum { HEADS = 3, HEAD_SIZE = 64, KV_HEADS = 3, TOKENS = WISP_PROMPT_QUERIES / HEADS };

typedef struct prompt_bench {
  wisp_prompt prompt;
  float *scratch;
  bool one_by_one;
} prompt_bench;

static void attend(const wisp_cpu_kernels *kernels, const prompt_bench *b) {
  const wisp_prompt *p = &b->prompt;
  if (!b->one_by_one) {
    kernels->prompt_attention(p, b->scratch);
    return;
  }
  for (uint32_t t = 0; t < p->tokens; t++)
    kernels->attention(p->q + t * p->stride, p->queries, &p->slot, p->kv_head, p->head_size, p->position + t + 1, b->scratch,
                       p->out + t * p->stride);
}

/* Seconds a token, the best of some rounds; all heads of K and V in turn, so that none is left in the nearest cache. */
static double attention_seconds(const wisp_cpu_kernels *kernels, prompt_bench *b) {
  double best = INFINITY;
  for (int round = 0; round < ROUNDS; round++) {
    const double start = processor_seconds();
    for (b->prompt.kv_head = 0; b->prompt.kv_head < KV_HEADS; b->prompt.kv_head++) attend(kernels, b);
    best = fmin(best, (processor_seconds() - start) / TOKENS);
  }
  return best;
}

void bench_attention(const wisp_cpu_kernels *kernels) {
  static const uint32_t depths[] = {256, 2048};
  static const char *const types[] = {[WISP_KV_F16] = "f16", [WISP_KV_F32] = "f32", [WISP_KV_Q8_0] = "q8_0"};
  enum { WIDTH = KV_HEADS * HEAD_SIZE, LONGEST = 2048 + TOKENS };
  if (!kernels->prompt_attention) return;
  uint64_t state = 1;
  const size_t floats = TOKENS * HEADS * HEAD_SIZE;
  float *q = malloc(floats * sizeof *q), *out = malloc(floats * sizeof *out), values[2 * WIDTH];
  float *scratch = malloc(wisp_prompt_scratch(HEAD_SIZE, LONGEST) * sizeof *scratch);
  uint8_t *positions = malloc(LONGEST * 2 * WIDTH * sizeof(float));
  if (!q || !out || !scratch || !positions) abort();
  random_fill(&state, q, floats);
  for (int type = WISP_KV_F16; type <= WISP_KV_Q8_0; type++) {
    for (uint32_t t = 0; t < LONGEST; t++) {
      random_fill(&state, values, 2 * WIDTH);
      kernels->kv_write(values, WIDTH, (wisp_kv_type)type, positions + t * wisp_kv_row_bytes(WIDTH, (wisp_kv_type)type));
    }
    for (size_t i = 0; i < sizeof depths / sizeof *depths; i++) {
      prompt_bench b = {.prompt = {.slot = {positions, (wisp_kv_type)type, WIDTH},
                                   .head_size = HEAD_SIZE,
                                   .queries = HEADS,
                                   .tokens = TOKENS,
                                   .position = depths[i],
                                   .q = q,
                                   .out = out,
                                   .stride = HEADS * HEAD_SIZE},
                        .scratch = scratch};
      const double together = attention_seconds(kernels, &b);
      b.one_by_one = true;
      printf("      %-8s attention behind %4u positions in %-4s: one by one %6.1f, %d together %6.1f us a token of processor "
             "time\n",
             kernels->name, depths[i], types[type], 1e6 * attention_seconds(kernels, &b), TOKENS, 1e6 * together);
    }
  }
  free(q), free(out), free(scratch), free(positions);
}
