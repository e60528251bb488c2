/* SPDX-License-Identifier: Apache-2.0
 * Q4_0, Q4_1, Q5_0, Q5_1, Q8_0: blocks of 32 weights under one f16 scale. Reference code: the order of the float operations is
 * part of the format, since other programs' files are compared byte by byte. */
#include "model/quant.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "base/little_endian.h"
#include "model/dtype.h"
#include "model/quant_search.h"

enum { BLOCK = 32, HALF = 16 };

/* The four formats of 4 and 5 bits are one: f16 scale, [f16 minimum], [u32 with the fifth bits], 16 bytes that hold weight j
 * low and weight j + 16 high. With a minimum a weight is q * scale + minimum, without it (q - offset) * scale. */
typedef struct format {
  unsigned bits;
  bool minimum;
} format;

static inline size_t high_at(format f) {
  return f.minimum ? 4 : 2;
}
static inline size_t quants_at(format f) {
  return high_at(f) + (f.bits == 5 ? 4 : 0);
}
static inline size_t block_bytes(format f) {
  return quants_at(f) + HALF;
}

static inline void dequantize(format f, const uint8_t *block, float *weights, size_t count) {
  const int offset = f.minimum ? 0 : 1 << (f.bits - 1);
  for (const float *end = weights + count; weights < end; weights += BLOCK, block += block_bytes(f)) {
    float scale = wisp_f16_to_f32(wisp_load_u16(block));
    float minimum = f.minimum ? wisp_f16_to_f32(wisp_load_u16(block + 2)) : 0;
    uint32_t high = f.bits == 5 ? wisp_load_u32(block + high_at(f)) : 0;
    const uint8_t *quants = block + quants_at(f);
    for (int j = 0; j < HALF; j++) {
      int low_q = (quants[j] & 15) | (int)(high >> j & 1) << 4;
      int high_q = quants[j] >> 4 | (int)(high >> (j + HALF) & 1) << 4;
      weights[j] = (float)(low_q - offset) * scale;
      weights[j + HALF] = (float)(high_q - offset) * scale;
      if (f.minimum) {
        weights[j] += minimum;
        weights[j + HALF] += minimum;
      }
    }
  }
}

/* Integer part of value, held to 0..limit; NaN gives 0. */
static inline uint32_t truncate(float value, uint32_t limit) {
  return value >= (float)limit ? limit : value > 0 ? (uint32_t)value : 0;
}

static inline void pack(format f, float scale, float minimum, const uint8_t q[BLOCK], uint8_t *block) {
  uint32_t fifth = 0;
  for (int j = 0; j < BLOCK; j++) fifth |= (uint32_t)(q[j] >> 4) << j;
  wisp_store_u16(block, wisp_f32_to_f16(scale));
  if (f.minimum) wisp_store_u16(block + 2, wisp_f32_to_f16(minimum));
  if (f.bits == 5) wisp_store_u32(block + high_at(f), fifth);
  for (int j = 0; j < HALF; j++) block[quants_at(f) + j] = (uint8_t)((q[j] & 15) | q[j + HALF] << 4);
}

static inline void quantize(format f, const float *weights, uint8_t *block, size_t count) {
  const uint32_t limit = (1u << f.bits) - 1;
  const float middle = (float)(1u << (f.bits - 1));
  for (const float *end = weights + count; weights < end; weights += BLOCK, block += block_bytes(f)) {
    float low = weights[0], high = weights[0], extreme = weights[0]; /* extreme: the weight of largest magnitude, signed */
    for (int j = 1; j < BLOCK; j++) {
      if (weights[j] < low) low = weights[j];
      if (weights[j] > high) high = weights[j];
      if (fabsf(weights[j]) > fabsf(extreme)) extreme = weights[j];
    }
    /* Without a minimum the extreme weight is quant 0 exactly. */
    float scale = f.minimum ? (high - low) / (float)limit : extreme / -middle;
    float inverse = scale != 0 ? 1 / scale : 0;
    uint8_t q[BLOCK];
    for (int j = 0; j < BLOCK; j++) {
      float scaled = f.minimum ? (weights[j] - low) * inverse + 0.5f : weights[j] * inverse + (middle + 0.5f);
      q[j] = (uint8_t)truncate(scaled, limit);
    }
    pack(f, scale, low, q, block);
  }
}

/* As quantize, with scale and minimum that lose less, where the search finds such. importance: [count] or NULL. */
static inline void fit(format f, const float *weights, const float *importance, uint8_t *block, size_t count) {
  const int limit = (1 << f.bits) - 1, offset = f.minimum ? 0 : 1 << (f.bits - 1);
  for (const float *end = weights + count; weights < end; weights += BLOCK, block += block_bytes(f)) {
    wisp_affine found = {0, 0};
    if (f.minimum) {
      found = wisp_search_affine(weights, importance, BLOCK, limit, 0);
    } else {
      found.scale = wisp_search_scale(weights, importance, BLOCK, -offset, limit - offset);
    }
    /* The weights are rounded for the halves that will be stored. */
    const float scale = wisp_f16_to_f32(wisp_f32_to_f16(found.scale)), inverse = scale != 0 ? 1 / scale : 0;
    const float minimum = wisp_f16_to_f32(wisp_f32_to_f16(found.minimum));
    uint8_t q[BLOCK], candidate[24];
    for (int j = 0; j < BLOCK; j++) {
      q[j] = (uint8_t)((int)wisp_search_round((weights[j] - minimum) * inverse, (float)-offset, (float)(limit - offset)) +
                       offset);
    }
    pack(f, found.scale, found.minimum, q, candidate);
    quantize(f, weights, block, BLOCK);
    float plain[BLOCK], searched[BLOCK];
    dequantize(f, block, plain, BLOCK);
    dequantize(f, candidate, searched, BLOCK);
    if (wisp_search_error(weights, importance, searched, BLOCK) < wisp_search_error(weights, importance, plain, BLOCK)) {
      memcpy(block, candidate, block_bytes(f));
    }
    if (importance) importance += BLOCK;
  }
}

static const format q4_0 = {4, false}, q4_1 = {4, true}, q5_0 = {5, false}, q5_1 = {5, true};

void wisp_dequantize_q4_0(const void *blocks, float *weights, size_t count) {
  dequantize(q4_0, blocks, weights, count);
}
void wisp_dequantize_q4_1(const void *blocks, float *weights, size_t count) {
  dequantize(q4_1, blocks, weights, count);
}
void wisp_dequantize_q5_0(const void *blocks, float *weights, size_t count) {
  dequantize(q5_0, blocks, weights, count);
}
void wisp_dequantize_q5_1(const void *blocks, float *weights, size_t count) {
  dequantize(q5_1, blocks, weights, count);
}

void wisp_quantize_q4_0(const float *weights, void *blocks, size_t count) {
  quantize(q4_0, weights, blocks, count);
}
void wisp_quantize_q4_1(const float *weights, void *blocks, size_t count) {
  quantize(q4_1, weights, blocks, count);
}
void wisp_quantize_q5_0(const float *weights, void *blocks, size_t count) {
  quantize(q5_0, weights, blocks, count);
}
void wisp_quantize_q5_1(const float *weights, void *blocks, size_t count) {
  quantize(q5_1, weights, blocks, count);
}

void wisp_fit_q4_0(const float *weights, const float *importance, void *blocks, size_t count) {
  fit(q4_0, weights, importance, blocks, count);
}
void wisp_fit_q4_1(const float *weights, const float *importance, void *blocks, size_t count) {
  fit(q4_1, weights, importance, blocks, count);
}
void wisp_fit_q5_0(const float *weights, const float *importance, void *blocks, size_t count) {
  fit(q5_0, weights, importance, blocks, count);
}
void wisp_fit_q5_1(const float *weights, const float *importance, void *blocks, size_t count) {
  fit(q5_1, weights, importance, blocks, count);
}

void wisp_dequantize_q8_0(const void *blocks, float *weights, size_t count) {
  const uint8_t *block = blocks;
  for (const float *end = weights + count; weights < end; weights += BLOCK, block += 2 + BLOCK) {
    float scale = wisp_f16_to_f32(wisp_load_u16(block));
    for (int j = 0; j < BLOCK; j++) weights[j] = (float)(int8_t)block[2 + j] * scale;
  }
}

void wisp_quantize_q8_0(const float *weights, void *blocks, size_t count) {
  uint8_t *block = blocks;
  for (const float *end = weights + count; weights < end; weights += BLOCK, block += 2 + BLOCK) {
    float largest = 0;
    for (int j = 0; j < BLOCK; j++) largest = fmaxf(largest, fabsf(weights[j]));
    float scale = largest / 127, inverse = scale != 0 ? 1 / scale : 0;
    wisp_store_u16(block, wisp_f32_to_f16(scale));
    for (int j = 0; j < BLOCK; j++) {
      float q = roundf(weights[j] * inverse);
      block[2 + j] = (uint8_t)(q >= 127 ? 127 : q <= -127 ? -127 : q == q ? (int)q : 0);
    }
  }
}

/* One scale for the whole row, repeated in each block: per-channel symmetric weights in a type that every reader knows. */
void wisp_quantize_q8_0_row(const float *weights, void *blocks, size_t count) {
  float largest = 0;
  for (size_t i = 0; i < count; i++) largest = fmaxf(largest, fabsf(weights[i]));
  const uint16_t stored = wisp_f32_to_f16(largest / 127);
  const float scale = wisp_f16_to_f32(stored), inverse = scale != 0 ? 1 / scale : 0;
  uint8_t *block = blocks;
  for (size_t i = 0; i < count; i += BLOCK, block += 2 + BLOCK) {
    wisp_store_u16(block, stored);
    for (int j = 0; j < BLOCK; j++) block[2 + j] = (uint8_t)(int)wisp_search_round(weights[i + j] * inverse, -127, 127);
  }
}
