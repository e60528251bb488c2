/* SPDX-License-Identifier: Apache-2.0
 * Q4_K, Q5_K, Q6_K: blocks of 256 weights, sub-blocks with their own small integer scales under f16 ones. */
#include "base/little_endian.h"
#include "model/dtype.h"
#include "model/quant.h"

enum { BLOCK = 256 };

/* Scale and minimum, 6 bits each, of sub-block j < 8 out of the 12 packed bytes: the first four of each lie in the low six bits
 * of bytes 0-3 and 4-7, the other four have their low nibbles in bytes 8-11 and their top two bits above the first four. */
static inline void unpack_scale(const uint8_t packed[12], int j, uint8_t *scale, uint8_t *minimum) {
  if (j < 4) {
    *scale = packed[j] & 63;
    *minimum = packed[j + 4] & 63;
  } else {
    *scale = (uint8_t)((packed[j + 4] & 15) | packed[j - 4] >> 6 << 4);
    *minimum = (uint8_t)(packed[j + 4] >> 4 | packed[j] >> 6 << 4);
  }
}

/* Q4_K and Q5_K: f16 scale, f16 minimum, scales[12], [high[32]: bit j of byte i is the fifth bit of weight 32 j + i],
 * quants[128]: of each 32 bytes the low nibbles are sub-block 2k, the high ones 2k + 1. */
static inline void dequantize_4_5(int bits, const uint8_t *block, float *weights, size_t count) {
  const size_t quants_at = bits == 5 ? 48 : 16;
  for (const float *end = weights + count; weights < end; weights += BLOCK, block += quants_at + BLOCK / 2) {
    float scale = wisp_f16_to_f32(wisp_load_u16(block)), minimum = wisp_f16_to_f32(wisp_load_u16(block + 2));
    for (int j = 0; j < 8; j++) {
      uint8_t sub_scale, sub_minimum;
      unpack_scale(block + 4, j, &sub_scale, &sub_minimum);
      float factor = scale * (float)sub_scale, shift = minimum * (float)sub_minimum;
      const uint8_t *quants = block + quants_at + 32 * (j / 2);
      for (int i = 0; i < 32; i++) {
        int q = quants[i] >> (j % 2 * 4) & 15;
        if (bits == 5) q |= (block[16 + i] >> j & 1) << 4;
        weights[32 * j + i] = factor * (float)q - shift;
      }
    }
  }
}

void wisp_dequantize_q4_k(const void *blocks, float *weights, size_t count) {
  dequantize_4_5(4, blocks, weights, count);
}
void wisp_dequantize_q5_k(const void *blocks, float *weights, size_t count) {
  dequantize_4_5(5, blocks, weights, count);
}

/* low[128], high[64], i8 scales[16], f16 scale. Each half of 128 weights has 64 bytes of low, 32 of high; its quarter k of 32
 * weights takes nibble k / 2 of low[32 (k % 2) + i] and bits 2k of high[i]. A scale serves 16 weights. */
void wisp_dequantize_q6_k(const void *blocks, float *weights, size_t count) {
  const uint8_t *block = blocks;
  for (const float *end = weights + count; weights < end; weights += BLOCK, block += 210) {
    float scale = wisp_f16_to_f32(wisp_load_u16(block + 208));
    for (int part = 0; part < 8; part++) { /* 32 weights */
      int half = part / 4, k = part % 4;
      const uint8_t *low = block + 64 * half + 32 * (k % 2), *high = block + 128 + 32 * half;
      const uint8_t *scales = block + 192 + 2 * part;
      for (int i = 0; i < 32; i++) {
        int q = (low[i] >> (k / 2 * 4) & 15) | (high[i] >> (2 * k) & 3) << 4;
        weights[32 * part + i] = scale * (float)(int8_t)scales[i / 16] * (float)(q - 32);
      }
    }
  }
}
