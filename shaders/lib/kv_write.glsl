// SPDX-License-Identifier: Apache-2.0
// Writing a block of q8_0 into the KV cache, with the bits of wisp_kv_quantize. lib/half.glsl is included before.
#include "lib/kv.glsl"

layout(set = 0, binding = WISP_BIND_KV_WORD) buffer KvWord { uint kv[]; };

uint scale_bits(float largest) { return half_bits(min(largest * 0.007874015748, 65504.0)); }

// Value / scale to the nearest, ties to even. A GPU's quotient is inexact, a scale of 11 bits times a quant of 8 is not: what
// remains decides.
float quant(float value, float scale) {
  const float most = 127.0 * scale, held = clamp(value, -most, most);
  const float near = roundEven(held * (1.0 / scale));
  const float rest = held - near * scale, twice = 2.0 * abs(rest);
  return twice > scale || (twice == scale && (int(near) & 1) != 0) ? near + sign(rest) : near;
}

uint quants(vec4 values, uint bits) {
  if (bits == 0u) return 0u;
  const float scale = unpackHalf2x16(bits).x;
  uint word = 0u;
  [[unroll]] for (uint e = 0u; e < 4u; e++) word |= (uint(int(quant(values[e], scale))) & 255u) << (8u * e);
  return word;
}

// Zeros behind a row's scales.
void pad_row(uint position) {
  for (uint word = KV_SCALES_END; word < KV_ROW; word++) kv[position * KV_ROW + word] = 0u;
}
