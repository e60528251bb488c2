/* SPDX-License-Identifier: Apache-2.0
 * The vectors of packed_kernels.h on AVX2: 16-bit weights and codes in pairs, sixteen rows. sums_dot is left to the includer.
 */
#ifndef WISP_CPU_PACKED_AVX2_H
#define WISP_CPU_PACKED_AVX2_H

#include <string.h>

#include "cpu/vector_avx2.h"

enum { TILE_ROWS = 16, GROUP = 2, COLUMNS = 3 };

/* Rows 0 to 7 and 8 to 15. */
typedef struct rows_t {
  f8 low, high;
} rows_t;
typedef struct weights_t {
  __m256i low, high;
} weights_t;
typedef weights_t sums_t;

static inline rows_t rows_zero(void) {
  return (rows_t){f8_set(0), f8_set(0)};
}
static inline rows_t rows_load_f16(const uint16_t *p) {
  return (rows_t){f8_load_f16(p), f8_load_f16(p + 8)};
}
static inline rows_t rows_scaled(rows_t a, float factor) {
  return (rows_t){f8_mul(a.low, f8_set(factor)), f8_mul(a.high, f8_set(factor))};
}
static inline rows_t rows_fma(rows_t a, rows_t b, rows_t c) {
  return (rows_t){f8_fma(a.low, b.low, c.low), f8_fma(a.high, b.high, c.high)};
}
static inline rows_t rows_fma_scaled(rows_t a, float factor, rows_t c) {
  return (rows_t){f8_fma(a.low, f8_set(factor), c.low), f8_fma(a.high, f8_set(factor), c.high)};
}
static inline void rows_store(float *p, rows_t a) {
  f8_store(p, a.low);
  f8_store(p + 8, a.high);
}
static inline weights_t weights_bytes(const uint8_t *p) {
  return (weights_t){_mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)p)),
                     _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(p + 16)))};
}
static inline void weights_nibbles(const uint8_t *p, weights_t weights[2]) {
  const __m256i low = _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)p));
  const __m256i high = _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)(p + 16)));
  const __m256i mask = _mm256_set1_epi16(15);
  weights[0] = (weights_t){_mm256_and_si256(low, mask), _mm256_and_si256(high, mask)};
  weights[1] = (weights_t){_mm256_srli_epi16(low, 4), _mm256_srli_epi16(high, 4)};
}
static inline sums_t sums_zero(void) {
  return (sums_t){_mm256_setzero_si256(), _mm256_setzero_si256()};
}
static inline rows_t sums_rows(sums_t sums, int32_t offset) {
  const __m256i offsets = _mm256_set1_epi32(offset);
  return (rows_t){_mm256_cvtepi32_ps(_mm256_sub_epi32(sums.low, offsets)),
                  _mm256_cvtepi32_ps(_mm256_sub_epi32(sums.high, offsets))};
}
/* A pair of codes, for every row. */
static inline __m256i codes_pair(const int16_t *codes) {
  int32_t pair;
  memcpy(&pair, codes, sizeof pair);
  return _mm256_set1_epi32(pair);
}

#endif
