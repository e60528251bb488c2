/* SPDX-License-Identifier: Apache-2.0
 * NEON with dot products of bytes: a code is 256 * high + low, both signed bytes, and takes two of them. All else as NEON. */
#include "cpu/kernel_sets.h"

#if defined(__ARM_FEATURE_DOTPROD)
#include "cpu/packed_neon.h"

enum { GROUP = 4, COLUMNS = 4 };

typedef struct weights_t { /* four columns of rows 0 to 3 and 4 to 7 */
  int8x16_t low, high;
} weights_t;
typedef struct sums_t { /* of the codes' high and low bytes, rows 0 to 3 and 4 to 7 */
  int32x4_t high[2], low[2];
} sums_t;

static inline weights_t weights_bytes(const uint8_t *p) {
  return (weights_t){vld1q_s8((const int8_t *)p), vld1q_s8((const int8_t *)p + 16)};
}
static inline void weights_nibbles(const uint8_t *p, weights_t weights[2]) {
  const uint8x16_t low = vld1q_u8(p), high = vld1q_u8(p + 16), mask = vdupq_n_u8(15);
  weights[0] = (weights_t){vreinterpretq_s8_u8(vandq_u8(low, mask)), vreinterpretq_s8_u8(vandq_u8(high, mask))};
  weights[1] = (weights_t){vreinterpretq_s8_u8(vshrq_n_u8(low, 4)), vreinterpretq_s8_u8(vshrq_n_u8(high, 4))};
}
static inline sums_t sums_zero(void) {
  const int32x4_t zero = vdupq_n_s32(0);
  return (sums_t){{zero, zero}, {zero, zero}};
}
/* codes: four high bytes, four low bytes */
static inline sums_t sums_dot(sums_t sums, weights_t weights, const int16_t *codes) {
  const int8x8_t bytes = vld1_s8((const int8_t *)codes);
  return (sums_t){{vdotq_lane_s32(sums.high[0], weights.low, bytes, 0), vdotq_lane_s32(sums.high[1], weights.high, bytes, 0)},
                  {vdotq_lane_s32(sums.low[0], weights.low, bytes, 1), vdotq_lane_s32(sums.low[1], weights.high, bytes, 1)}};
}
static inline rows_t sums_rows(sums_t sums, int32_t offset) {
  return rows_of_sums(vaddq_s32(vshlq_n_s32(sums.high[0], 8), sums.low[0]),
                      vaddq_s32(vshlq_n_s32(sums.high[1], 8), sums.low[1]), offset);
}
static inline void store_codes(int16_t *to, const int16_t *codes) {
  int8_t *bytes = (int8_t *)to;
  for (int i = 0; i < WISP_CODE_BLOCK; i += 8) { /* two groups */
    const int16x8_t code = vld1q_s16(codes + i);
    const int32x2_t high = vreinterpret_s32_s8(vrshrn_n_s16(code, 8)), low = vreinterpret_s32_s8(vmovn_s16(code));
    vst1_s8(bytes + 2 * i, vreinterpret_s8_s32(vzip1_s32(high, low)));
    vst1_s8(bytes + 2 * i + 8, vreinterpret_s8_s32(vzip2_s32(high, low)));
  }
}

#include "cpu/packed_kernels.h"
#include "cpu/quantize_kernel.h"

void wisp_kernels_dotprod(wisp_cpu_kernels *kernels) {
  kernels->name = "dotprod";
  kernels->packing = (wisp_packing){.rows = TILE_ROWS, .group = GROUP};
  kernels->quantize = quantize;
  kernels->packed_matmul = packed_matmul;
}
#endif
