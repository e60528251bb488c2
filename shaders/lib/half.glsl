// SPDX-License-Identifier: Apache-2.0
// f32 to f16 bits, round to nearest even, in integers: packHalf2x16's rounding is the driver's choice.

uint half_bits(float value) {
  const uint bits = floatBitsToUint(value);
  const uint sign = (bits >> 16) & 0x8000u;
  const uint magnitude = bits & 0x7fffffffu;
  if (magnitude >= 0x7f800000u) return sign | (magnitude > 0x7f800000u ? 0x7e00u : 0x7c00u);
  if (magnitude >= 0x477ff000u) return sign | 0x7c00u;  // rounds past 65504
  if (magnitude < 0x33000001u) return sign;             // rounds to zero
  if (magnitude < 0x38800000u) {                        // subnormal: shift the mantissa with its hidden bit
    const uint shift = 126u - (magnitude >> 23);
    const uint mantissa = (magnitude & 0x7fffffu) | 0x800000u;
    const uint whole = mantissa >> shift;
    const uint rest = mantissa & ((1u << shift) - 1u);
    const uint middle = 1u << (shift - 1u);
    return sign | (whole + uint(rest > middle || (rest == middle && (whole & 1u) == 1u)));
  }
  const uint rounded = magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1u);
  return sign | (rounded >> 13);
}

uint pack_half(vec2 pair) { return half_bits(pair.x) | (half_bits(pair.y) << 16); }
