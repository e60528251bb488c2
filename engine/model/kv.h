/* SPDX-License-Identifier: Apache-2.0
 * A row of the KV cache: K and V of one token in one slot, laid out alike on the CPU, on the GPU and in saved states.
 *   f16, f32  [K: kv_width | V: kv_width] elements
 *   q8_0      [K | V] signed bytes, then a scale in f16 for each block of 32 of them, zeros up to a multiple of 16 bytes, so
 * that quants are read 128 bits at a time. As GGUF's q8_0, quants and scales apart: element = quant * scale. */
#ifndef WISP_MODEL_KV_H
#define WISP_MODEL_KV_H

#include <math.h>

#include "model/dtype.h"
#include "wisp/wisp.h"

enum { WISP_KV_BLOCK = 32 }; /* of q8_0; head sizes are a multiple of it */

/* kv_width = kv_heads * head_size, of q8_0 a multiple of WISP_KV_BLOCK. */
static inline uint64_t wisp_kv_row_bytes(uint32_t kv_width, wisp_kv_type type) {
  const uint64_t elements = 2ull * kv_width;
  if (type == WISP_KV_F32) return 4 * elements;
  if (type == WISP_KV_F16) return 2 * elements;
  return (elements + elements / WISP_KV_BLOCK * 2 + 15) / 16 * 16;
}

/* Where a row of q8_0 has its scales: [2 * kv_width / WISP_KV_BLOCK]. */
static inline const uint16_t *wisp_kv_scales(const void *row, uint32_t kv_width) {
  return (const uint16_t *)row + kv_width;
}

/* A block of q8_0: the scale is the largest magnitude / 127 in f16, quants are values / scale to the nearest, ties to even.
 * That a float quotient is rounded twice does no harm: the scale has 11 bits, so that floats beside a tie stay beside it.
 * Returns the scale's bits, at most the largest f16's: larger values are cut off. */
static inline uint16_t wisp_kv_quantize(const float *values, int8_t *quants) {
  float largest = 0;
  for (uint32_t i = 0; i < WISP_KV_BLOCK; i++) largest = fmaxf(largest, fabsf(values[i]));
  const uint16_t bits = wisp_f32_to_f16(fminf(largest * (1.0f / 127), 65504));
  const float scale = wisp_f16_to_f32(bits);
  for (uint32_t i = 0; i < WISP_KV_BLOCK; i++)
    quants[i] = scale > 0 ? (int8_t)rintf(fmaxf(-127, fminf(127, values[i] / scale))) : 0;
  return bits;
}

#endif
