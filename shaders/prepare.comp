#version 450
// SPDX-License-Identifier: Apache-2.0
// Inputs as the tile and dot kernels take them: of each column x, or x times the norm's weights, or that transformed and rounded to 8
// bits; padded with zeros to a multiple of TILE, in one of the forms of shared/kernel.h. What is left of the values is a factor behind
// them: 1/rms, the step of the 8 bits, and for f16 a power of two that keeps every column inside its range. One workgroup a column.
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
layout(constant_id = WISP_C_FORM) const uint FORM = WISP_FORM_FLOATS;

layout(set = 0, binding = WISP_BIND_DATA_VEC4) readonly buffer DataVec4 { vec4 data4[]; };
layout(set = 0, binding = WISP_BIND_DATA) writeonly buffer Data { uint data[]; };  // words: what is no number keeps its bits

const uint VECTORS = COLS / 4u, PADDED = (COLS + TILE - 1u) / TILE * TILE / 4u;
const uint TOTALS = PADDED * (FORM == WISP_FORM_PAIRS ? 2u : 1u);  // where they lie behind a column's codes
const uint FACTOR = Y_STRIDE - 4u;

// Vectors that an invocation takes at a time: whole blocks of 32 where they are rounded.
const uint EACH = ROUND == 1u || FORM >= WISP_FORM_BYTES ? 8u : 1u;

vec4 load_input(uint vector, inout float squares) {
  vec4 v = data4[(X + gl_WorkGroupID.y * X_STRIDE) / 4u + vector];
  if (NORM == WISP_NO_NORM) return v;
  squares += dot(v, v);
  return v * uintBitsToFloat(weights4[NORM + vector]);
}

void load_inputs(uint first, inout float squares, out vec4 x[8]) {
  [[unroll]] for (uint i = 0u; i < 8u; i++)
    x[i] = i < EACH && first + i < VECTORS ? load_input(first + i, squares) : vec4(0.0);
  if (ROUND == 1u && COLS % 32u == 0u) hadamard(x);
}

float least(vec4 v) { return min(min(v.x, v.y), min(v.z, v.w)); }
float largest(vec4 v) { return -least(-v); }

uint pack_bytes(uvec4 v) {
  const uvec4 bytes = v & 255u;
  return bytes.x | bytes.y << 8 | bytes.z << 16 | bytes.w << 24;
}

// A block's step and the sums of both of its halves, in steps.
void write_totals(uint y, uint block, float step, ivec4 halves[2]) {
  const uint at = y + TOTALS + 4u * block;
  data[at] = floatBitsToUint(step);
  [[unroll]] for (uint h = 0u; h < 2u; h++) data[at + 1u + h] = uint(halves[h].x + halves[h].y + halves[h].z + halves[h].w);
}

// Codes of a block whose inputs are multiples of one step already.
void write_bytes(uint y, uint first, vec4 x[8], float zero) {
  ivec4 sums[2] = {ivec4(0), ivec4(0)};
  [[unroll]] for (uint i = 0u; i < 8u; i++) {
    const ivec4 code = ivec4(x[i]);
    data[y + first + i] = pack_bytes(uvec4(code + int(zero)));
    sums[i / 4u] += code;
  }
  write_totals(y, first / 8u, 1.0, sums);
}

// Codes of a block, 16 bits in two planes of bytes.
void write_pairs(uint y, uint first, vec4 x[8]) {
  float most = 0.0;
  [[unroll]] for (uint i = 0u; i < 8u; i++) most = max(most, largest(abs(x[i])));
  const float inverse = most > 1e-30 ? 32767.0 / most : 0.0;
  ivec4 sums[2] = {ivec4(0), ivec4(0)};
  [[unroll]] for (uint i = 0u; i < 8u; i++) {
    const ivec4 code = clamp(ivec4(roundEven(inverse * x[i])), -32767, 32767);
    const uvec4 biased = uvec4(code + 32768);
    data[y + 2u * first + i] = pack_bytes(biased);
    data[y + 2u * first + 8u + i] = pack_bytes(biased >> 8);
    sums[i / 4u] += code;
  }
  write_totals(y, first / 8u, most > 1e-30 ? most / 32767.0 : 0.0, sums);
}

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
    const float lowest = -reduce_max(-least(low)), highest = reduce_max(largest(high));
    factor = (highest - lowest) / 255.0;
    inverse = factor > 0.0 ? 1.0 / factor : 0.0;
    zero = clamp(roundEven(-lowest * inverse), 0.0, 255.0);
  } else if (FORM == WISP_FORM_HALVES) {  // the largest becomes 2^9 or up to twice that
    const float most = reduce_max(max(-least(low), largest(high)));
    const uint exponent = clamp(floatBitsToUint(most) >> 23, 10u, 253u);
    factor = uintBitsToFloat((exponent - 9u) << 23);
    inverse = uintBitsToFloat((263u - exponent) << 23);
  }
  if (NORM != WISP_NO_NORM) factor *= inversesqrt(reduce_add(squares) / float(COLS) + EPSILON);
  for (uint first = EACH * id; first < PADDED; first += EACH * LOCAL) {
    load_inputs(first, unused, x);
    [[unroll]] for (uint i = 0u; i < EACH; i++) {
      x[i] *= inverse;
      if (ROUND == 1u) x[i] = clamp(roundEven(x[i]), -zero, 255.0 - zero);
    }
    if (FORM == WISP_FORM_BYTES) {
      write_bytes(y, first, x, zero);
    } else if (FORM == WISP_FORM_PAIRS) {
      write_pairs(y, first, x);
    } else {
      [[unroll]] for (uint i = 0u; i < EACH; i++) {
        if (FORM == WISP_FORM_HALVES) {
          data[y + 2u * (first + i)] = packHalf2x16(x[i].xy);
          data[y + 2u * (first + i) + 1u] = packHalf2x16(x[i].zw);
        } else {
          [[unroll]] for (uint e = 0u; e < 4u; e++) data[y + 4u * (first + i) + e] = floatBitsToUint(x[i][e]);
        }
      }
    }
  }
  if (id == 0u) {
    data[y + FACTOR] = floatBitsToUint(factor);
    data[y + FACTOR + 1u] = floatBitsToUint(zero);
  }
}
