// SPDX-License-Identifier: Apache-2.0
#ifndef WISP_BYTES_GLSL
#define WISP_BYTES_GLSL
// Small integers to floats by placing them in the mantissa of 2^23: integer conversions run at a quarter of the rate on some GPUs.
vec4 mantissa(uvec4 small) { return uintBitsToFloat(small | 0x4b000000u); }
vec4 signed_bytes(uint word) {
  const uint biased = word ^ 0x80808080u;
  return mantissa(uvec4(biased, biased >> 8, biased >> 16, biased >> 24) & 255u) - 8388736.0;
}
#endif
