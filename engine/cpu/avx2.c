/* SPDX-License-Identifier: Apache-2.0
 * AVX2 with FMA and F16C. */
#include "cpu/kernel_sets.h"

#if defined(__AVX2__)
#include <string.h>

#include "cpu/packed_avx2.h"

static inline void store_codes(int16_t *to, const int16_t *codes) {
  memcpy(to, codes, WISP_CODE_BLOCK * sizeof *to);
}

static inline sums_t sums_dot(sums_t sums, weights_t weights, const int16_t *codes) {
  const __m256i pair = codes_pair(codes);
  return (sums_t){_mm256_add_epi32(sums.low, _mm256_madd_epi16(weights.low, pair)),
                  _mm256_add_epi32(sums.high, _mm256_madd_epi16(weights.high, pair))};
}

#include "cpu/packed_kernels.h"
#include "cpu/quantize_kernel.h"
#include "cpu/vector_kernels.h"

#include "cpu/attention_kernel.h"

void wisp_kernels_avx2(wisp_cpu_kernels *kernels) {
  kernels->name = "avx2";
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
