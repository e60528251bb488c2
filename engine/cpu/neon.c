/* SPDX-License-Identifier: Apache-2.0
 * NEON as every arm64 processor has it: products of 16-bit weights and codes in pairs, as on AVX2. */
#include "cpu/kernel_sets.h"

#if defined(__ARM_NEON) && defined(__aarch64__)
#include <string.h>

#include "cpu/packed_neon.h"

enum { GROUP = 2, COLUMNS = 4 };

typedef struct weights_t { /* pairs of rows 0 to 3 and 4 to 7 */
  int16x8_t low, high;
} weights_t;
typedef struct sums_t { /* of the first and the second of each pair: rows 0 and 1, 2 and 3, ... */
  int32x4_t rows01, rows23, rows45, rows67;
} sums_t;

static inline weights_t weights_bytes(const uint8_t *p) {
  const int8x16_t bytes = vld1q_s8((const int8_t *)p);
  return (weights_t){vmovl_s8(vget_low_s8(bytes)), vmovl_high_s8(bytes)};
}
static inline weights_t widened(uint8x16_t bytes) {
  return (weights_t){vreinterpretq_s16_u16(vmovl_u8(vget_low_u8(bytes))), vreinterpretq_s16_u16(vmovl_high_u8(bytes))};
}
static inline void weights_nibbles(const uint8_t *p, weights_t weights[2]) {
  const uint8x16_t both = vld1q_u8(p);
  weights[0] = widened(vandq_u8(both, vdupq_n_u8(15)));
  weights[1] = widened(vshrq_n_u8(both, 4));
}
static inline sums_t sums_zero(void) {
  const int32x4_t zero = vdupq_n_s32(0);
  return (sums_t){zero, zero, zero, zero};
}
static inline sums_t sums_dot(sums_t sums, weights_t weights, const int16_t *codes) {
  int32_t pair;
  memcpy(&pair, codes, sizeof pair);
  const int16x8_t pairs = vreinterpretq_s16_s32(vdupq_n_s32(pair));
  return (sums_t){vmlal_s16(sums.rows01, vget_low_s16(weights.low), vget_low_s16(pairs)),
                  vmlal_high_s16(sums.rows23, weights.low, pairs),
                  vmlal_s16(sums.rows45, vget_low_s16(weights.high), vget_low_s16(pairs)),
                  vmlal_high_s16(sums.rows67, weights.high, pairs)};
}
static inline rows_t sums_rows(sums_t sums, int32_t offset) {
  return rows_of_sums(vpaddq_s32(sums.rows01, sums.rows23), vpaddq_s32(sums.rows45, sums.rows67), offset);
}
static inline void store_codes(int16_t *to, const int16_t *codes) {
  memcpy(to, codes, WISP_CODE_BLOCK * sizeof *to);
}

#include "cpu/packed_kernels.h"
#include "cpu/quantize_kernel.h"
#include "cpu/vector_kernels.h"

#include "cpu/attention_kernel.h"

void wisp_kernels_neon(wisp_cpu_kernels *kernels) {
  kernels->name = "neon";
  kernels->packing = (wisp_packing){.rows = TILE_ROWS, .group = GROUP};
  kernels->rmsnorm = rmsnorm;
  kernels->matmul = matmul;
  kernels->quantize = quantize;
  kernels->packed_matmul = packed_matmul;
  kernels->rope = rope;
  kernels->kv_write = kv_write;
  kernels->attention = attention;
  kernels->prompt_attention = prompt_attention;
  kernels->silu_mul = silu_mul;
  kernels->gelu_mul = gelu_mul;
}
#endif
