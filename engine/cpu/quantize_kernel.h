/* SPDX-License-Identifier: Apache-2.0
 * Rounding to codes. Like vector_kernels.h a source that an instruction set includes once. It has
 *   store_codes(to, codes)   stores 32 codes in the order that its integer products want */

static void quantize(const float *x, uint32_t n, float step, int16_t *codes, wisp_code_scale *scales) {
  for (uint32_t b = 0; b < n / WISP_CODE_BLOCK; b++, x += WISP_CODE_BLOCK, codes += WISP_CODE_BLOCK) {
    int16_t rounded[WISP_CODE_BLOCK];
    const f8 v[4] = {f8_load(x), f8_load(x + 8), f8_load(x + 16), f8_load(x + 24)};
    const float largest = f8_largest(f8_max(f8_max(f8_abs(v[0]), f8_abs(v[1])), f8_max(f8_abs(v[2]), f8_abs(v[3]))));
    /* A block so small that its inverse is none counts as zeros. */
    const float scale = step > 0 ? step : largest / WISP_CODE_MAX;
    const float inverse = step > 0 ? 1 / step : largest > 1e-30f ? WISP_CODE_MAX / largest : 0;
    f8 sum = f8_set(0);
    for (int i = 0; i < 4; i++) {
      const f8 code = f8_round(f8_mul(v[i], f8_set(inverse)));
      f8_store_i16(rounded + 8 * i, code);
      sum = f8_add(sum, code); /* whole numbers below 2^24: exact */
    }
    store_codes(codes, rounded);
    const float total = f8_sum(sum);
    if (total == total)
      scales[b] = (wisp_code_scale){.scale = scale, .shift = scale * total, .sum = (int32_t)total};
    else
      scales[b] = (wisp_code_scale){.scale = total, .shift = total}; /* NaN or infinity among x: NaN */
  }
}
