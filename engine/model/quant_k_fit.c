/* SPDX-License-Identifier: Apache-2.0
 * Q4_K, Q5_K, Q6_K from floats. The formats define no rounding: the scales of the sub-blocks are searched each for itself, put
 * on the grid of the block's scale, moved a step where that helps, and the block's scale fitted again to what came out. */
#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "base/little_endian.h"
#include "model/dtype.h"
#include "model/quant.h"
#include "model/quant_search.h"

enum { BLOCK = 256, PASSES = 3 };

static float half_of(float value) {
  return wisp_f16_to_f32(wisp_f32_to_f16(value));
}

static float inverse_of(float value) {
  return value != 0 ? 1 / value : 0;
}

/* Rounds x to factor * q - shift; returns the weighted error. */
static float round_group(const float *x, const float *importance, int count, float factor, float shift, float low, float high,
                         int8_t *q) {
  const float inverse = inverse_of(factor);
  float y[32];
  for (int i = 0; i < count; i++) {
    const float level = wisp_search_round((x[i] + shift) * inverse, low, high);
    q[i] = (int8_t)level;
    y[i] = factor * level - shift;
  }
  return wisp_search_error(x, importance, y, count);
}

/* ---- Q4_K, Q5_K ---------------------------------------------------------------------------------------------------- */

enum { SUBS = 8, SUB = 32 };

typedef struct block_4_5 {
  float scale, minimum; /* of the block, as stored */
  uint8_t scales[SUBS], minimums[SUBS];
  int8_t q[BLOCK];
} block_4_5;

/* Finds scale, minimum and quants of one sub-block under the block's; returns the error. */
static float settle_sub(block_4_5 *b, int j, wisp_affine wanted, const float *x, const float *importance, int high) {
  const int scale = (int)wisp_search_round(wanted.scale * inverse_of(b->scale), 0, 63);
  const int minimum = (int)wisp_search_round(-wanted.minimum * inverse_of(b->minimum), 0, 63);
  float least = INFINITY;
  memset(b->q + SUB * j, 0, SUB);
  b->scales[j] = (uint8_t)scale, b->minimums[j] = (uint8_t)minimum;
  for (int s = scale > 0 ? scale - 1 : 0; s <= scale + 1 && s <= 63; s++) {
    for (int m = minimum > 0 ? minimum - 1 : 0; m <= minimum + 1 && m <= 63; m++) {
      int8_t q[SUB];
      const float error = round_group(x, importance, SUB, b->scale * (float)s, b->minimum * (float)m, 0, (float)high, q);
      if (!(error < least)) continue;
      least = error;
      b->scales[j] = (uint8_t)s, b->minimums[j] = (uint8_t)m;
      memcpy(b->q + SUB * j, q, SUB);
    }
  }
  return least;
}

/* The block's scale and minimum that fit its quants best, by least squares; false if there is no sensible solution. */
static bool refit_4_5(const block_4_5 *b, const float *x, const float *importance, float *scale, float *minimum) {
  double aa = 0, ab = 0, bb = 0, ax = 0, bx = 0; /* x = scale * a + minimum * b */
  for (int i = 0; i < BLOCK; i++) {
    const double w = importance ? (double)importance[i] : 1, a = b->scales[i / SUB] * b->q[i], c = -b->minimums[i / SUB];
    aa += w * a * a, ab += w * a * c, bb += w * c * c, ax += w * a * (double)x[i], bx += w * c * (double)x[i];
  }
  const double determinant = aa * bb - ab * ab;
  if (bb > 0 && !(determinant > 1e-9 * aa * bb)) return false;
  *scale = (float)(bb > 0 ? (ax * bb - bx * ab) / determinant : aa > 0 ? ax / aa : 0);
  *minimum = (float)(bb > 0 ? (bx * aa - ax * ab) / determinant : 0);
  return *scale > 0 && *minimum >= 0 && *scale <= FLT_MAX && *minimum <= FLT_MAX;
}

static void pack_4_5(int bits, const block_4_5 *b, uint8_t *block) {
  wisp_store_u16(block, wisp_f32_to_f16(b->scale));
  wisp_store_u16(block + 2, wisp_f32_to_f16(b->minimum));
  uint8_t *scales = block + 4, *fifth = block + 16, *quants = block + (bits == 5 ? 48 : 16);
  for (int j = 0; j < 4; j++) {
    scales[j] = (uint8_t)(b->scales[j] | b->scales[j + 4] >> 4 << 6);
    scales[j + 4] = (uint8_t)(b->minimums[j] | b->minimums[j + 4] >> 4 << 6);
    scales[j + 8] = (uint8_t)((b->scales[j + 4] & 15) | (b->minimums[j + 4] & 15) << 4);
  }
  if (bits == 5) memset(fifth, 0, 32);
  for (int j = 0; j < SUBS; j += 2) {
    for (int i = 0; i < SUB; i++) {
      const int low = b->q[SUB * j + i], high = b->q[SUB * (j + 1) + i];
      quants[SUB / 2 * j + i] = (uint8_t)((low & 15) | (high & 15) << 4);
      if (bits == 5) fifth[i] |= (uint8_t)((low >> 4) << j | (high >> 4) << (j + 1));
    }
  }
}

static void fit_4_5(int bits, const float *x, const float *importance, uint8_t *block) {
  const int high = (1 << bits) - 1;
  importance = wisp_search_importance(importance, BLOCK);
  wisp_affine wanted[SUBS];
  float scale = 0, minimum = 0;
  for (int j = 0; j < SUBS; j++) {
    wanted[j] = wisp_search_affine(x + SUB * j, importance ? importance + SUB * j : NULL, SUB, high, 1);
    scale = fmaxf(scale, wanted[j].scale / 63);
    minimum = fmaxf(minimum, -wanted[j].minimum / 63);
  }
  block_4_5 best = {0};
  float least = INFINITY;
  for (int pass = 0; pass < PASSES; pass++) {
    block_4_5 b = {.scale = half_of(scale), .minimum = half_of(minimum)};
    float error = 0;
    for (int j = 0; j < SUBS; j++)
      error += settle_sub(&b, j, wanted[j], x + SUB * j, importance ? importance + SUB * j : NULL, high);
    if (!(error < least)) break;
    least = error, best = b;
    if (!refit_4_5(&b, x, importance, &scale, &minimum)) break;
  }
  pack_4_5(bits, &best, block);
}

/* ---- Q6_K ----------------------------------------------------------------------------------------------------------- */

enum { SUBS_6 = 16, SUB_6 = 16 };

typedef struct block_6 {
  float scale;
  int8_t scales[SUBS_6];
  int8_t q[BLOCK]; /* -32 to 31 */
} block_6;

static float settle_sub_6(block_6 *b, int j, float wanted, const float *x, const float *importance) {
  const int scale = (int)wisp_search_round(wanted * inverse_of(b->scale), -128, 127);
  float least = INFINITY;
  memset(b->q + SUB_6 * j, 0, SUB_6);
  b->scales[j] = (int8_t)scale;
  for (int s = scale > -128 ? scale - 1 : scale; s <= scale + 1 && s <= 127; s++) {
    int8_t q[SUB_6];
    const float error = round_group(x, importance, SUB_6, b->scale * (float)s, 0, -32, 31, q);
    if (!(error < least)) continue;
    least = error;
    b->scales[j] = (int8_t)s;
    memcpy(b->q + SUB_6 * j, q, SUB_6);
  }
  return least;
}

static void pack_6(const block_6 *b, uint8_t *block) {
  memset(block, 0, 192);
  for (int part = 0; part < 8; part++) { /* 32 weights: as wisp_dequantize_q6_k reads them */
    const int half = part / 4, k = part % 4;
    uint8_t *low = block + 64 * half + 32 * (k % 2), *high = block + 128 + 32 * half;
    for (int i = 0; i < 32; i++) {
      const int q = b->q[32 * part + i] + 32;
      low[i] |= (uint8_t)((q & 15) << (k / 2 * 4));
      high[i] |= (uint8_t)(q >> 4 << (2 * k));
    }
  }
  memcpy(block + 192, b->scales, SUBS_6);
  wisp_store_u16(block + 208, wisp_f32_to_f16(b->scale));
}

static void fit_6(const float *x, const float *importance, uint8_t *block) {
  float wanted[SUBS_6], extreme = 0;
  importance = wisp_search_importance(importance, BLOCK);
  for (int j = 0; j < SUBS_6; j++) {
    wanted[j] = wisp_search_scale(x + SUB_6 * j, importance ? importance + SUB_6 * j : NULL, SUB_6, -32, 31);
    if (fabsf(wanted[j]) > fabsf(extreme)) extreme = wanted[j];
  }
  block_6 best = {0};
  float least = INFINITY, scale = extreme / -128;
  for (int pass = 0; pass < PASSES; pass++) {
    block_6 b = {.scale = half_of(scale)};
    float error = 0;
    for (int j = 0; j < SUBS_6; j++)
      error += settle_sub_6(&b, j, wanted[j], x + SUB_6 * j, importance ? importance + SUB_6 * j : NULL);
    if (!(error < least)) break;
    least = error, best = b;
    double aa = 0, ax = 0;
    for (int i = 0; i < BLOCK; i++) {
      const double w = importance ? (double)importance[i] : 1, a = b.scales[i / SUB_6] * b.q[i];
      aa += w * a * a, ax += w * a * (double)x[i];
    }
    if (!(aa > 0)) break;
    scale = (float)(ax / aa);
  }
  pack_6(&best, block);
}

/* ---- Rows ------------------------------------------------------------------------------------------------------------ */

void wisp_fit_q4_k(const float *weights, const float *importance, void *blocks, size_t count) {
  for (size_t i = 0; i < count; i += BLOCK)
    fit_4_5(4, weights + i, importance ? importance + i : NULL, (uint8_t *)blocks + i / BLOCK * 144);
}

void wisp_fit_q5_k(const float *weights, const float *importance, void *blocks, size_t count) {
  for (size_t i = 0; i < count; i += BLOCK)
    fit_4_5(5, weights + i, importance ? importance + i : NULL, (uint8_t *)blocks + i / BLOCK * 176);
}

void wisp_fit_q6_k(const float *weights, const float *importance, void *blocks, size_t count) {
  for (size_t i = 0; i < count; i += BLOCK)
    fit_6(weights + i, importance ? importance + i : NULL, (uint8_t *)blocks + i / BLOCK * 210);
}
