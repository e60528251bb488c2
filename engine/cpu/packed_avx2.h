/* SPDX-License-Identifier: Apache-2.0
 * The vectors of packed_kernels.h on AVX2: 16-bit weights and codes in pairs, eight rows. sums_dot is left to the includer. */
#ifndef WISP_CPU_PACKED_AVX2_H
#define WISP_CPU_PACKED_AVX2_H

#include <string.h>

#include "cpu/vector_avx2.h"

enum { TILE_ROWS = 8, GROUP = 2, COLUMNS = 4 };

typedef f8 rows_t;
typedef __m256i weights_t, sums_t;

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
static inline weights_t weights_bytes(const uint8_t *p) {
  return _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)p));
}
static inline void weights_nibbles(const uint8_t *p, weights_t weights[2]) {
  const __m256i both = _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)p));
  weights[0] = _mm256_and_si256(both, _mm256_set1_epi16(15));
  weights[1] = _mm256_srli_epi16(both, 4);
}
static inline sums_t sums_zero(void) {
  return _mm256_setzero_si256();
}
static inline rows_t sums_rows(sums_t sums, int32_t offset) {
  return _mm256_cvtepi32_ps(_mm256_sub_epi32(sums, _mm256_set1_epi32(offset)));
}
/* A pair of codes, for every row. */
static inline __m256i codes_pair(const int16_t *codes) {
  int32_t pair;
  memcpy(&pair, codes, sizeof pair);
  return _mm256_set1_epi32(pair);
}

#endif
