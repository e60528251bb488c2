/* SPDX-License-Identifier: Apache-2.0
 * AVX-VNNI: integer products on top of AVX2. */
#include "cpu/kernel_sets.h"

#if defined(__AVXVNNI__)
#include "cpu/packed_avx2.h"

static inline sums_t sums_dot(sums_t sums, weights_t weights, const int16_t *codes) {
  const __m256i pair = codes_pair(codes);
  return (sums_t){_mm256_dpwssd_avx_epi32(sums.low, weights.low, pair), _mm256_dpwssd_avx_epi32(sums.high, weights.high, pair)};
}

#include "cpu/packed_kernels.h"

void wisp_kernels_avxvnni(wisp_cpu_kernels *kernels) {
  kernels->name = "avxvnni";
  kernels->packed_matmul = packed_matmul;
}
#endif
