/* SPDX-License-Identifier: Apache-2.0
 * IEEE half and bfloat16 <-> float. NaNs become quiet and keep the upper bits of their payload, as processors do. */
#include "base/little_endian.h"
#include "model/dtype.h"

float wisp_f16_to_f32(uint16_t half) {
  uint32_t sign = (uint32_t)(half & 0x8000) << 16, exponent = half >> 10 & 31, mantissa = half & 1023;
  if (exponent == 0) { /* zero or subnormal: mantissa * 2^-24, exact in float */
    return wisp_float_of_bits(sign | wisp_bits_of_float((float)mantissa * 0x1p-24f));
  }
  if (exponent == 31) return wisp_float_of_bits(sign | 0x7f800000 | (mantissa ? 0x400000 | mantissa << 13 : 0));
  return wisp_float_of_bits(sign | (exponent + 112) << 23 | mantissa << 13);
}

uint16_t wisp_f32_to_f16(float value) {
  uint32_t bits = wisp_bits_of_float(value);
  uint16_t sign = bits >> 16 & 0x8000;
  uint32_t magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return (uint16_t)(sign | 0x7e00 | (magnitude >> 13 & 0x3ff));
  if (magnitude >= 0x47800000) return sign | 0x7c00; /* 2^16 and more */
  if (magnitude < 0x38800000) {                      /* below 2^-14: the sum rounds to a multiple of 2^-24 */
    float rounded = wisp_float_of_bits(magnitude) + 0.5f;
    return (uint16_t)(sign | (wisp_bits_of_float(rounded) - 0x3f000000));
  }
  /* Rebias the exponent, round the 13 bits that go; a carry runs into the exponent, at the top into infinity. */
  uint32_t rounded = magnitude - 0x38000000 + 0xfff + (magnitude >> 13 & 1);
  return (uint16_t)(sign | rounded >> 13);
}

float wisp_bf16_to_f32(uint16_t half) {
  return wisp_float_of_bits((uint32_t)half << 16);
}

uint16_t wisp_f32_to_bf16(float value) {
  uint32_t bits = wisp_bits_of_float(value);
  if ((bits & 0x7fffffff) > 0x7f800000) return (uint16_t)(bits >> 16 | 0x40);
  return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}
