/* SPDX-License-Identifier: Apache-2.0
 * Eight rows as the floats of packed_kernels.h on NEON, whatever makes the integer sums. */
#ifndef WISP_CPU_PACKED_NEON_H
#define WISP_CPU_PACKED_NEON_H

#include "cpu/vector_neon.h"

enum { TILE_ROWS = 8 };

typedef f8 rows_t;

static inline rows_t rows_zero(void) {
  return f8_set(0);
}
static inline rows_t rows_load_f16(const uint16_t *p) {
  return f8_load_f16(p);
}
static inline rows_t rows_scaled(rows_t a, float factor) {
  return f8_mul(a, f8_set(factor));
}
static inline rows_t rows_fma(rows_t a, rows_t b, rows_t c) {
  return f8_fma(a, b, c);
}
static inline rows_t rows_fma_scaled(rows_t a, float factor, rows_t c) {
  return f8_fma(a, f8_set(factor), c);
}
static inline void rows_store(float *p, rows_t a) {
  f8_store(p, a);
}

/* Rows 0 to 3 and 4 to 7 less an offset. */
static inline rows_t rows_of_sums(int32x4_t low, int32x4_t high, int32_t offset) {
  const int32x4_t offsets = vdupq_n_s32(offset);
  return (rows_t){vcvtq_f32_s32(vsubq_s32(low, offsets)), vcvtq_f32_s32(vsubq_s32(high, offsets))};
}

#endif
