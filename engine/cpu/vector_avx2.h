/* SPDX-License-Identifier: Apache-2.0
 * Eight floats on AVX2, FMA and F16C: what vector_kernels.h is written in. */
#ifndef WISP_CPU_VECTOR_AVX2_H
#define WISP_CPU_VECTOR_AVX2_H

#include <immintrin.h>
#include <stdint.h>

typedef __m256 f8;

static inline f8 f8_set(float x) {
  return _mm256_set1_ps(x);
}
static inline f8 f8_set_f16(uint16_t half) {
  return _mm256_broadcastss_ps(_mm_cvtph_ps(_mm_cvtsi32_si128(half)));
}
static inline f8 f8_load(const float *p) {
  return _mm256_loadu_ps(p);
}
static inline f8 f8_load_f16(const uint16_t *p) {
  return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p));
}
static inline f8 f8_load_bf16(const uint16_t *p) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p)), 16));
}
static inline f8 f8_load_i8(const int8_t *p) {
  return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)p)));
}
static inline void f8_store(float *p, f8 a) {
  _mm256_storeu_ps(p, a);
}
static inline void f8_store_f16(uint16_t *p, f8 a) {
  _mm_storeu_si128((__m128i *)p, _mm256_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT));
}
/* Whole numbers within 16 bits. */
static inline void f8_store_i16(int16_t *p, f8 a) {
  const __m256i whole = _mm256_cvtps_epi32(a);
  _mm_storeu_si128((__m128i *)p, _mm_packs_epi32(_mm256_castsi256_si128(whole), _mm256_extracti128_si256(whole, 1)));
}
/* Whole numbers within 8 bits. */
static inline void f8_store_i8(int8_t *p, f8 a) {
  const __m256i whole = _mm256_cvtps_epi32(a);
  const __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(whole), _mm256_extracti128_si256(whole, 1));
  _mm_storel_epi64((__m128i *)p, _mm_packs_epi16(words, words));
}
static inline f8 f8_add(f8 a, f8 b) {
  return _mm256_add_ps(a, b);
}
static inline f8 f8_sub(f8 a, f8 b) {
  return _mm256_sub_ps(a, b);
}
static inline f8 f8_mul(f8 a, f8 b) {
  return _mm256_mul_ps(a, b);
}
static inline f8 f8_div(f8 a, f8 b) {
  return _mm256_div_ps(a, b);
}
/* a * b + c, rounded once */
static inline f8 f8_fma(f8 a, f8 b, f8 c) {
  return _mm256_fmadd_ps(a, b, c);
}
/* b where a is NaN */
static inline f8 f8_max(f8 a, f8 b) {
  return _mm256_max_ps(a, b);
}
static inline f8 f8_min(f8 a, f8 b) {
  return _mm256_min_ps(a, b);
}
static inline f8 f8_abs(f8 a) {
  return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a);
}
/* To the nearest whole number, ties to even. */
static inline f8 f8_round(f8 a) {
  return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
/* 2^n for whole n in [-126, 127] */
static inline f8 f8_power_of_2(f8 n) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23));
}
/* a0 a0 a2 a2 ..., a1 a1 a3 a3 ..., a1 a0 a3 a2 ... */
static inline f8 f8_even(f8 a) {
  return _mm256_moveldup_ps(a);
}
static inline f8 f8_odd(f8 a) {
  return _mm256_movehdup_ps(a);
}
static inline f8 f8_swap(f8 a) {
  return _mm256_permute_ps(a, 0xb1);
}
/* p[0..3] = the sums over the lanes of a, b, c, d, each in the same order. */
static inline void f8_store_sums(float *p, f8 a, f8 b, f8 c, f8 d) {
  const f8 pairs = _mm256_hadd_ps(_mm256_hadd_ps(a, b), _mm256_hadd_ps(c, d));
  _mm_storeu_ps(p, _mm_add_ps(_mm256_castps256_ps128(pairs), _mm256_extractf128_ps(pairs, 1)));
}
static inline float f8_largest(f8 a) {
  __m128 most = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
  most = _mm_max_ps(most, _mm_movehl_ps(most, most));
  return _mm_cvtss_f32(_mm_max_ss(most, _mm_movehdup_ps(most)));
}
static inline float f8_sum(f8 a) {
  float sums[4];
  f8_store_sums(sums, a, a, a, a);
  return sums[0];
}

#endif
