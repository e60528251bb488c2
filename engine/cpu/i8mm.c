/* SPDX-License-Identifier: Apache-2.0
 * NEON with products of byte matrices: two rows of eight weights times the high and low bytes of eight codes. */
#include "cpu/kernel_sets.h"

#if defined(__ARM_FEATURE_MATMUL_INT8)
#include "cpu/packed_neon.h"

enum { GROUP = 8, COLUMNS = 4 };

typedef struct weights_t { /* eight columns of rows 0 and 1, 2 and 3, ... */
  int8x16_t rows[4];
} weights_t;
typedef struct sums_t { /* of two rows: row 0 with the high bytes, with the low ones, row 1 likewise */
  int32x4_t rows[4];
} sums_t;

static inline weights_t weights_bytes(const uint8_t *p) {
  const int8_t *bytes = (const int8_t *)p;
  return (weights_t){{vld1q_s8(bytes), vld1q_s8(bytes + 16), vld1q_s8(bytes + 32), vld1q_s8(bytes + 48)}};
}
static inline void weights_nibbles(const uint8_t *p, weights_t weights[2]) {
  for (int i = 0; i < 4; i++) {
    const uint8x16_t both = vld1q_u8(p + 16 * i);
    weights[0].rows[i] = vreinterpretq_s8_u8(vandq_u8(both, vdupq_n_u8(15)));
    weights[1].rows[i] = vreinterpretq_s8_u8(vshrq_n_u8(both, 4));
  }
}
static inline sums_t sums_zero(void) {
  const int32x4_t zero = vdupq_n_s32(0);
  return (sums_t){{zero, zero, zero, zero}};
}
/* codes: eight high bytes, eight low bytes */
static inline sums_t sums_dot(sums_t sums, weights_t weights, const int16_t *codes) {
  const int8x16_t bytes = vld1q_s8((const int8_t *)codes);
  return (sums_t){{vmmlaq_s32(sums.rows[0], weights.rows[0], bytes), vmmlaq_s32(sums.rows[1], weights.rows[1], bytes),
                   vmmlaq_s32(sums.rows[2], weights.rows[2], bytes), vmmlaq_s32(sums.rows[3], weights.rows[3], bytes)}};
}
static inline int32x4_t joined(int32x4_t rows01, int32x4_t rows23) {
  return vaddq_s32(vshlq_n_s32(vuzp1q_s32(rows01, rows23), 8), vuzp2q_s32(rows01, rows23));
}
static inline rows_t sums_rows(sums_t sums, int32_t offset) {
  return rows_of_sums(joined(sums.rows[0], sums.rows[1]), joined(sums.rows[2], sums.rows[3]), offset);
}
static inline void store_codes(int16_t *to, const int16_t *codes) {
  int8_t *bytes = (int8_t *)to;
  for (int i = 0; i < WISP_CODE_BLOCK; i += GROUP) {
    const int16x8_t code = vld1q_s16(codes + i);
    vst1_s8(bytes + 2 * i, vrshrn_n_s16(code, 8));
    vst1_s8(bytes + 2 * i + 8, vmovn_s16(code));
  }
}

#include "cpu/packed_kernels.h"
#include "cpu/quantize_kernel.h"

void wisp_kernels_i8mm(wisp_cpu_kernels *kernels) {
  kernels->name = "i8mm";
  kernels->packing = (wisp_packing){.rows = TILE_ROWS, .group = GROUP};
  kernels->quantize = quantize;
  kernels->packed_matmul = packed_matmul;
}
#endif
