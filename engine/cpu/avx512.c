/* SPDX-License-Identifier: Apache-2.0
 * AVX-512 with VNNI: sixteen rows at a time; all else as AVX2. */
#include "cpu/kernel_sets.h"

#if defined(__AVX512VNNI__) && defined(__AVX512BW__) && defined(__AVX512VL__)
#include <immintrin.h>
#include <string.h>

enum { TILE_ROWS = 16, GROUP = 2, COLUMNS = 6 };

typedef __m512 rows_t;
typedef __m512i weights_t, sums_t;

static inline rows_t rows_zero(void) {
  return _mm512_setzero_ps();
}
static inline rows_t rows_load_f16(const uint16_t *p) {
  return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
}
static inline rows_t rows_scaled(rows_t a, float factor) {
  return _mm512_mul_ps(a, _mm512_set1_ps(factor));
}
static inline rows_t rows_fma(rows_t a, rows_t b, rows_t c) {
  return _mm512_fmadd_ps(a, b, c);
}
static inline rows_t rows_fma_scaled(rows_t a, float factor, rows_t c) {
  return _mm512_fmadd_ps(a, _mm512_set1_ps(factor), c);
}
static inline void rows_store(float *p, rows_t a) {
  _mm512_storeu_ps(p, a);
}
static inline weights_t weights_bytes(const uint8_t *p) {
  return _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *)p));
}
static inline void weights_nibbles(const uint8_t *p, weights_t weights[2]) {
  const __m512i both = _mm512_cvtepu8_epi16(_mm256_loadu_si256((const __m256i *)p));
  weights[0] = _mm512_and_si512(both, _mm512_set1_epi16(15));
  weights[1] = _mm512_srli_epi16(both, 4);
}
static inline sums_t sums_zero(void) {
  return _mm512_setzero_si512();
}
static inline sums_t sums_dot(sums_t sums, weights_t weights, const int16_t *codes) {
  int32_t pair;
  memcpy(&pair, codes, sizeof pair);
  return _mm512_dpwssd_epi32(sums, weights, _mm512_set1_epi32(pair));
}
static inline rows_t sums_rows(sums_t sums, int32_t offset) {
  return _mm512_cvtepi32_ps(_mm512_sub_epi32(sums, _mm512_set1_epi32(offset)));
}

#include "cpu/packed_kernels.h"

void wisp_kernels_avx512(wisp_cpu_kernels *kernels) {
  kernels->name = "avx512";
  kernels->packing = (wisp_packing){.rows = TILE_ROWS, .group = GROUP};
  kernels->packed_matmul = packed_matmul;
}
#endif
