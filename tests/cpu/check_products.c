/* SPDX-License-Identifier: Apache-2.0
 * Matrix products: of every element type in float, and of the packed ones with codes, against sums in double over the
 * reference's dequantised weights. A product of a batch is compared bit for bit with that of each column alone and with other
 * row ranges.
 *
 * Bounds, for y = sum w x over a row:
 *   float    2^-20 sum |w x|: some rounding of each of the lanes' sums
 *   packed   that, and for each block of 32 columns  largest |x| / (2 * 32512) * sum |w|: rounding x to codes;
 *            K types 2^-11 sum |scale part| + |minimum part| more: their scales are f16 when packed */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/little_endian.h"
#include "cpu/pack.h"
#include "judge.h"

enum { COUNT_MAX = 11 };

typedef struct product {
  wisp_matrix matrix;
  uint32_t count;
  uint8_t *data;
  float *weights;                          /* dequantised, [rows][cols] */
  float *x;                                /* [count][cols], guarded */
  double *expected, *bound, *packed_bound; /* [count][rows] */
  float *y, *again;                        /* [count][rows], guarded */
} product;

/* Random blocks with scales of a sensible size: bytes at random, then the halves that are scales. */
static void fill_blocks(const wisp_dtype_info *type, uint8_t *data, size_t bytes, uint64_t *state) {
  static const struct {
    wisp_dtype dtype;
    int at[2]; /* -1 = none */
  } halves[] = {{WISP_Q4_0, {0, -1}}, {WISP_Q4_1, {0, 2}}, {WISP_Q5_0, {0, -1}}, {WISP_Q5_1, {0, 2}},
                {WISP_Q8_0, {0, -1}}, {WISP_Q4_K, {0, 2}}, {WISP_Q5_K, {0, 2}},  {WISP_Q6_K, {208, -1}}};
  if (type->block_weights == 1) {
    for (size_t i = 0; i < bytes; i += type->block_bytes) {
      float value;
      random_fill(state, &value, 1);
      type->quantize(&value, data + i, 1);
    }
    return;
  }
  for (size_t i = 0; i < bytes; i++) data[i] = (uint8_t)random_next(state);
  for (size_t h = 0; h < sizeof halves / sizeof *halves; h++) {
    for (size_t i = 0; halves[h].dtype == type->dtype && i < bytes; i += type->block_bytes)
      for (int k = 0; k < 2 && halves[h].at[k] >= 0; k++)
        wisp_store_u16(data + i + halves[h].at[k], wisp_f32_to_f16(0.01f * random_normal(state)));
  }
}

static bool is_k(wisp_dtype dtype) {
  return dtype == WISP_Q4_K || dtype == WISP_Q5_K || dtype == WISP_Q6_K;
}

/* The largest part of K types' weights in block: scale and minimum may cancel. */
static double part_size(const float *w) {
  float low = w[0], high = w[0];
  for (int i = 1; i < 32; i++) {
    low = fminf(low, w[i]);
    high = fmaxf(high, w[i]);
  }
  return fabs((double)low) + fabs((double)high) + (double)(high - low);
}

static void expect(product *p) {
  const uint32_t rows = p->matrix.rows, cols = p->matrix.cols;
  for (uint32_t c = 0; c < p->count; c++) {
    for (uint32_t r = 0; r < rows; r++) {
      const float *w = p->weights + (size_t)r * cols, *x = p->x + (size_t)c * cols;
      double sum = 0, magnitude = 0, rounding = 0;
      for (uint32_t i = 0; i < cols; i++) {
        sum += (double)w[i] * x[i];
        magnitude += fabs((double)w[i] * x[i]);
      }
      for (uint32_t b = 0; b + 32 <= cols; b += 32) {
        double largest = 0, weights = 0, inputs = 0;
        for (uint32_t i = b; i < b + 32; i++) {
          largest = fmax(largest, fabs((double)x[i]));
          weights += fabs((double)w[i]);
          inputs += fabs((double)x[i]);
        }
        rounding += largest / (2 * WISP_CODE_MAX) * weights * (1 + 0x1p-10);
        /* q4_1's like: quants and minimum are added apart. */
        magnitude += part_size(w + b) * inputs;
        if (is_k(p->matrix.type->dtype)) rounding += 0x1p-11 * 2 * part_size(w + b) * inputs;
      }
      const size_t at = (size_t)c * rows + r;
      p->expected[at] = sum;
      p->bound[at] = 0x1p-20 * magnitude;
      p->packed_bound[at] = p->bound[at] + rounding;
    }
  }
}

static product make(const wisp_dtype_info *type, uint32_t rows, uint32_t cols, uint32_t count, uint64_t *state) {
  product p = {.matrix = {.type = type, .rows = rows, .cols = cols}, .count = count};
  const size_t bytes = wisp_matrix_bytes(&p.matrix), results = (size_t)rows * count;
  p.data = malloc(bytes);
  p.weights = malloc((size_t)rows * cols * sizeof *p.weights);
  p.x = guarded_alloc((size_t)count * cols);
  p.expected = malloc(results * sizeof(double));
  p.bound = malloc(results * sizeof(double));
  p.packed_bound = malloc(results * sizeof(double));
  p.y = guarded_alloc(results);
  p.again = guarded_alloc(results);
  if (!p.data || !p.weights || !p.expected || !p.bound || !p.packed_bound) abort();
  fill_blocks(type, p.data, bytes, state);
  p.matrix.data = p.data;
  type->dequantize(p.data, p.weights, (size_t)rows * cols);
  random_fill(state, p.x, (size_t)count * cols);
  /* A block of zeros, a very small one, a shifted one. */
  for (uint32_t i = 0; cols >= 32 && i < 32; i++) p.x[i] *= random_below(state, 2) ? 0 : 1e-20f;
  for (uint32_t i = 0; cols >= 64 && i < 32; i++) p.x[32 + i] += 5;
  expect(&p);
  return p;
}

static void discard(product *p) {
  free(p->data), free(p->weights), free(p->expected), free(p->bound), free(p->packed_bound);
  guarded_free(p->x), guarded_free(p->y), guarded_free(p->again);
}

static void describe(const product *p, char what[64]) {
  snprintf(what, 64, "%s %u x %u, %u columns", p->matrix.type->name, p->matrix.rows, p->matrix.cols, p->count);
}

static void check_float(judge *j, const wisp_cpu_kernels *kernels, product *p) {
  const uint32_t rows = p->matrix.rows, cols = p->matrix.cols, middle = rows / 2;
  char what[64];
  float *scratch = guarded_alloc((size_t)WISP_MATMUL_ROWS * cols);
  describe(p, what);
  kernels->matmul(&p->matrix, 0, rows, p->x, p->count, scratch, p->y, rows);
  judge_floats(j, p->y, p->expected, p->bound, (size_t)rows * p->count, what);
  for (uint32_t c = 0; c < p->count; c++) {
    kernels->matmul(&p->matrix, 0, middle, p->x + (size_t)c * cols, 1, scratch, p->again + (size_t)c * rows, rows);
    kernels->matmul(&p->matrix, middle, rows, p->x + (size_t)c * cols, 1, scratch, p->again + (size_t)c * rows, rows);
  }
  judge_that(j, !memcmp(p->y, p->again, (size_t)rows * p->count * sizeof(float)), "a column alone has the bits of the batch");
  judge_that(j, guarded_intact(p->again, (size_t)rows * p->count), "a column alone stays inside");
  judge_that(j, guarded_intact(scratch, (size_t)WISP_MATMUL_ROWS * cols), "scratch rows stay inside");
  guarded_free(scratch);
}

/* codes and scales in guarded memory */
static wisp_codes quantized(const wisp_cpu_kernels *kernels, const product *p) {
  const size_t cols = p->matrix.cols, blocks = cols / WISP_CODE_BLOCK;
  wisp_codes codes = {(int16_t *)(void *)guarded_alloc(p->count * cols / 2),
                      (wisp_code_scale *)(void *)guarded_alloc(p->count * blocks * sizeof *codes.scales / sizeof(float))};
  for (uint32_t c = 0; c < p->count; c++)
    kernels->quantize(p->x + c * cols, (uint32_t)cols, 0, codes.codes + c * cols, codes.scales + c * blocks);
  return codes;
}

static void check_packed(judge *j, const wisp_cpu_kernels *kernels, product *p) {
  const uint32_t rows = p->matrix.rows, cols = p->matrix.cols, tile = kernels->packing.rows, blocks = cols / WISP_CODE_BLOCK;
  wisp_packed packed = wisp_packed_plan(&p->matrix, kernels->packing);
  const size_t bytes = wisp_packed_bytes(&packed, kernels->packing);
  const uint32_t middle = (rows / 2 + tile - 1) / tile * tile;
  uint8_t *tiles = (uint8_t *)guarded_alloc(bytes / 4);
  char what[64];
  describe(p, what);
  const uint32_t tile_count = wisp_packed_tiles(&packed, kernels->packing);
  wisp_pack_tiles(&packed, kernels->packing, &p->matrix, tile_count / 2, tile_count, tiles);
  wisp_pack_tiles(&packed, kernels->packing, &p->matrix, 0, tile_count / 2, tiles);
  packed.tiles = tiles;
  judge_that(j, guarded_intact((float *)(void *)tiles, bytes / 4), "packing stays inside");
  wisp_codes codes = quantized(kernels, p);
  judge_that(j,
             guarded_intact((float *)(void *)codes.codes, (size_t)p->count * cols / 2) &&
                 guarded_intact((float *)(void *)codes.scales, p->count * blocks * sizeof *codes.scales / sizeof(float)),
             "codes stay inside");
  kernels->packed_matmul(&packed, 0, rows, &codes, p->count, p->y, rows);
  judge_floats(j, p->y, p->expected, p->packed_bound, (size_t)rows * p->count, what);
  for (uint32_t c = 0; c < p->count; c++) {
    const wisp_codes column = {codes.codes + (size_t)c * cols, codes.scales + (size_t)c * blocks};
    if (middle < rows) kernels->packed_matmul(&packed, middle, rows, &column, 1, p->again + (size_t)c * rows, rows);
    kernels->packed_matmul(&packed, 0, middle < rows ? middle : rows, &column, 1, p->again + (size_t)c * rows, rows);
  }
  judge_that(j, !memcmp(p->y, p->again, (size_t)rows * p->count * sizeof(float)), "a column alone has the bits of the batch");
  judge_that(j, guarded_intact(p->again, (size_t)rows * p->count), "a column alone stays inside");
  guarded_free((float *)(void *)codes.codes), guarded_free((float *)(void *)codes.scales), guarded_free((float *)(void *)tiles);
}

/* Whole multiples of a step, as w8a8 makes them, lose nothing: only the sums are rounded. */
static void check_steps(judge *j, const wisp_cpu_kernels *kernels, product *p, uint64_t *state) {
  const size_t cols = p->matrix.cols, blocks = cols / WISP_CODE_BLOCK;
  const float step = 0.013f;
  for (size_t i = 0; i < p->count * cols; i++) p->x[i] = ((float)random_below(state, 511) - 255) * step;
  expect(p);
  wisp_packed packed = wisp_packed_plan(&p->matrix, kernels->packing);
  uint8_t *tiles = malloc(wisp_packed_bytes(&packed, kernels->packing));
  wisp_codes codes = {malloc(p->count * cols * sizeof *codes.codes), malloc(p->count * blocks * sizeof *codes.scales)};
  if (!tiles || !codes.codes || !codes.scales) abort();
  wisp_pack_tiles(&packed, kernels->packing, &p->matrix, 0, wisp_packed_tiles(&packed, kernels->packing), tiles);
  packed.tiles = tiles;
  for (uint32_t c = 0; c < p->count; c++)
    kernels->quantize(p->x + c * cols, (uint32_t)cols, step, codes.codes + c * cols, codes.scales + c * blocks);
  kernels->packed_matmul(&packed, 0, p->matrix.rows, &codes, p->count, p->y, p->matrix.rows);
  judge_floats(j, p->y, p->expected, is_k(p->matrix.type->dtype) ? p->packed_bound : p->bound,
               (size_t)p->matrix.rows * p->count, "multiples of a step");
  free(tiles), free(codes.codes), free(codes.scales);
}

/* What is no number stays none. */
static void check_nan(judge *j, const wisp_cpu_kernels *kernels, product *p) {
  const size_t results = (size_t)p->matrix.rows * p->count;
  p->x[p->matrix.cols / 2] = NAN;
  p->x[p->matrix.cols - 1] = INFINITY;
  wisp_packed packed = wisp_packed_plan(&p->matrix, kernels->packing);
  uint8_t *tiles = malloc(wisp_packed_bytes(&packed, kernels->packing));
  if (!tiles) abort();
  wisp_pack_tiles(&packed, kernels->packing, &p->matrix, 0, wisp_packed_tiles(&packed, kernels->packing), tiles);
  packed.tiles = tiles;
  wisp_codes codes = quantized(kernels, p);
  kernels->packed_matmul(&packed, 0, p->matrix.rows, &codes, p->count, p->y, p->matrix.rows);
  bool all = true, none = true;
  for (size_t i = 0; i < results; i++) {
    if (i < p->matrix.rows)
      all &= isnan(p->y[i]);
    else
      none &= !isnan(p->y[i]);
  }
  judge_that(j, all && none, "NaN spreads within its column, and only there");
  free(tiles);
  guarded_free((float *)(void *)codes.codes), guarded_free((float *)(void *)codes.scales);
}

static void check_type(const wisp_cpu_kernels *kernels, const wisp_dtype_info *type, bool packed, uint64_t seed) {
  static const uint32_t any_cols[] = {1, 7, 8, 9, 33, 100, 576};
  char name[32];
  snprintf(name, sizeof name, "%s %s", packed ? "packed_matmul" : "matmul", type->name);
  judge j = {.set = kernels->name, .kernel = name};
  for (uint32_t i = 0; i < 24; i++) {
    const uint32_t rows = i < 2 ? 1 + 47 * i : 1 + random_below(&seed, 50), count = 1 + i % COUNT_MAX;
    const uint32_t cols = type->block_weights == 1
                              ? any_cols[i % 7]
                              : type->block_weights * (1 + random_below(&seed, type->block_weights == 32 ? 20 : 3));
    product p = make(type, rows, cols, count, &seed);
    if (packed) {
      check_packed(&j, kernels, &p);
      check_steps(&j, kernels, &p, &seed);
      if (count > 1) check_nan(&j, kernels, &p);
    } else {
      check_float(&j, kernels, &p);
    }
    discard(&p);
  }
  judge_done(&j);
}

void check_products(const wisp_cpu_kernels *kernels, uint64_t seed) {
  static const wisp_dtype types[] = {WISP_F32,  WISP_F16,  WISP_BF16, WISP_Q4_0, WISP_Q4_1, WISP_Q5_0,
                                     WISP_Q5_1, WISP_Q8_0, WISP_Q4_K, WISP_Q5_K, WISP_Q6_K};
  for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
    const wisp_dtype_info *type = wisp_dtype_find(types[i]);
    check_type(kernels, type, false, seed + i);
    if (kernels->quantize && wisp_packed_format_of(types[i])) check_type(kernels, type, true, seed + 100 + i);
  }
}
