#version 450
// SPDX-License-Identifier: Apache-2.0
// Inputs as the tile kernels take them: of each column x, or x times the norm's weights, or that transformed and rounded to 8 bits; padded with zeros to
// a multiple of TILE. What is left of the values is a factor behind them: 1/rms, the step of the 8 bits, and for f16 a power of
// two that keeps every column inside its range. One workgroup a column.
#extension GL_GOOGLE_include_directive : require
#include "lib/bindings.glsl"
#include "lib/hadamard.glsl"
#include "lib/reduce.glsl"

layout(constant_id = WISP_C_COLS) const uint COLS = 4;
layout(constant_id = WISP_C_TILE) const uint TILE = 32;
layout(constant_id = WISP_C_X) const uint X = 0;
layout(constant_id = WISP_C_X_STRIDE) const uint X_STRIDE = 4;
layout(constant_id = WISP_C_Y) const uint Y = 0;
layout(constant_id = WISP_C_Y_STRIDE) const uint Y_STRIDE = 4;
layout(constant_id = WISP_C_NORM) const uint NORM = WISP_NO_NORM;
layout(constant_id = WISP_C_EPSILON) const float EPSILON = 0.0;
layout(constant_id = WISP_C_ROUND) const uint ROUND = 0;
layout(constant_id = WISP_C_HALF) const uint HALF = 0;

layout(set = 0, binding = WISP_BIND_DATA_VEC4) readonly buffer DataVec4 { vec4 data4[]; };
layout(set = 0, binding = WISP_BIND_DATA) writeonly buffer Data { float data[]; };

const uint VECTORS = COLS / 4u, PADDED = (COLS + TILE - 1u) / TILE * TILE / 4u;

vec4 load_input(uint vector, inout float squares) {
  vec4 v = data4[(X + gl_WorkGroupID.y * X_STRIDE) / 4u + vector];
  if (NORM == WISP_NO_NORM) return v;
  squares += dot(v, v);
  return v * uintBitsToFloat(weights4[NORM + vector]);
}

const uint EACH = ROUND == 1u ? 8u : 1u;  // vectors that an invocation takes at a time: what is rounded, in whole blocks of 32

void load_inputs(uint first, inout float squares, out vec4 x[8]) {
  [[unroll]] for (uint i = 0u; i < 8u; i++)
    x[i] = i < EACH && first + i < VECTORS ? load_input(first + i, squares) : vec4(0.0);
  if (ROUND == 1u && COLS % 32u == 0u) hadamard(x);
}

float least(vec4 v) { return min(min(v.x, v.y), min(v.z, v.w)); }

void main() {
  const uint id = gl_LocalInvocationID.x, y = Y + gl_WorkGroupID.y * Y_STRIDE;
  float squares = 0.0, unused = 0.0;
  vec4 low = vec4(0.0), high = vec4(0.0), x[8];
  for (uint first = EACH * id; first < PADDED; first += EACH * LOCAL) {
    load_inputs(first, squares, x);
    [[unroll]] for (uint i = 0u; i < 8u; i++) {
      low = min(low, x[i]);
      high = max(high, x[i]);
    }
  }
  float factor = 1.0, inverse = 1.0, zero = 0.0;
  if (ROUND == 1u) {
    const float lowest = -reduce_max(-least(low)), largest = reduce_max(-least(-high));
    factor = (largest - lowest) / 255.0;
    inverse = factor > 0.0 ? 1.0 / factor : 0.0;
    zero = clamp(roundEven(-lowest * inverse), 0.0, 255.0);
  } else if (HALF == 1u) {  // the largest becomes 2^9 or up to twice that
    const float largest = reduce_max(max(-least(low), -least(-high)));
    const uint exponent = clamp(floatBitsToUint(largest) >> 23, 10u, 253u);
    factor = uintBitsToFloat((exponent - 9u) << 23);
    inverse = uintBitsToFloat((263u - exponent) << 23);
  }
  if (NORM != WISP_NO_NORM) factor *= inversesqrt(reduce_add(squares) / float(COLS) + EPSILON);
  for (uint first = EACH * id; first < PADDED; first += EACH * LOCAL) {
    load_inputs(first, unused, x);
    [[unroll]] for (uint i = 0u; i < EACH; i++) {
      vec4 v = inverse * x[i];
      if (ROUND == 1u) v = clamp(roundEven(v), -zero, 255.0 - zero);
      const uint at = first + i;
      if (HALF == 1u) {
        data[y + 2u * at] = uintBitsToFloat(packHalf2x16(v.xy));
        data[y + 2u * at + 1u] = uintBitsToFloat(packHalf2x16(v.zw));
      } else {
        [[unroll]] for (uint e = 0u; e < 4u; e++) data[y + 4u * at + e] = v[e];
      }
    }
  }
  if (id == 0u) data[y + (HALF == 1u ? 2u : 4u) * PADDED] = factor;
}
