// SPDX-License-Identifier: Apache-2.0
// matrix.comp's inputs staged in f16, and their products with weights in f16; all else is f32. Inputs are staged by octets, each
// divided by the power of two that leaves its largest between 32 and 64, so that one that is far larger than the others, as some of
// the residual stream are, takes bits from its octet alone, and 4 products of 64 and a quant of 8 bits fit. So do f16 weights up to 255.
// Quants become f16 exactly, as n in the mantissa of 1024 + n, two at a time. Each half of a pair adds up 4 products.
// Error: an input is rounded by 2^-11 of itself, each of the 4 sums by 2^-11 of the products in it: together by at most
// 5 * 2^-11 of the sum of all |weight * input|, and 2^-14 of a factor for each sum where a driver flushes subnormals.
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require

shared f16vec4 staged[TILE / 4u];  // what meets in a pair of weights is side by side
shared float factors[TILE / 8u];   // of octets
shared vec4 totals[TILE / 32u];    // of the octets of a block: sum of their inputs

// All matrices of an op have layouts that pair weights alike: those of LAYOUT0.
void stage_octet(uint octet, vec4 a, vec4 b) {
  f16vec4 first = f16vec4(a), second = f16vec4(b);
  if (has_nibbles(LAYOUT0)) {
    first = f16vec4(a.x, b.x, a.y, b.y);
    second = f16vec4(a.z, b.z, a.w, b.w);
  } else if (LAYOUT0 != WISP_LAYOUT_F16) {
    first = f16vec4(a.xz, a.yw);
    second = f16vec4(b.xz, b.yw);
  }
  staged[2u * octet] = first;
  staged[2u * octet + 1u] = second;
}

vec4 load_or_zero(uint column, uint begin, uint feature, uint features, inout float squares) {
  return feature < features ? load_input(column, (begin + feature) / 4u, squares) : vec4(0.0);
}

// The tile of features that starts at `begin`.
void stage(uint column, uint begin, uint features, inout float squares) {
  for (uint octet = gl_LocalInvocationID.x; octet < TILE / 8u; octet += LOCAL) {
    const vec4 a = load_or_zero(column, begin, 8u * octet, features, squares);
    const vec4 b = load_or_zero(column, begin, 8u * octet + 4u, features, squares);
    const vec4 sizes = max(abs(a), abs(b));
    const uint exponent = clamp(floatBitsToUint(max(max(sizes.x, sizes.y), max(sizes.z, sizes.w))) >> 23, 6u, 253u);
    const float inverse = uintBitsToFloat((259u - exponent) << 23);
    stage_octet(octet, inverse * a, inverse * b);
    factors[octet] = uintBitsToFloat((exponent - 5u) << 23);
    if (!ONE_LAYOUT || has_minimum(LAYOUT0)) totals[octet / 4u][octet % 4u] = dot(a + b, vec4(1.0));
  }
}

f16vec2 nibbles_low(uint word) { return unpackFloat2x16(word & 0x000f000fu | 0x64006400u) - f16vec2(1032.0); }
f16vec2 nibbles_high(uint word) {  // 1024 + 16 n
  return fma(unpackFloat2x16(word & 0x00f000f0u | 0x64006400u), f16vec2(0.0625), f16vec2(-72.0));
}
f16vec2 bytes_low(uint word) { return unpackFloat2x16(word & 0x00ff00ffu ^ 0x64806480u) - f16vec2(1152.0); }

// The octet-th pairs of weights of a uvec4, before scale and minimum; nibbles less 8.
void octet_pairs(uint layout_id, uvec4 v, uint octet, out f16vec2 w[4]) {
  if (layout_id == WISP_LAYOUT_F16) {
    [[unroll]] for (uint i = 0u; i < 4u; i++) w[i] = unpackFloat2x16(v[i]);
  } else if (has_nibbles(layout_id)) {
    [[unroll]] for (uint i = 0u; i < 2u; i++) {
      w[2u * i] = nibbles_low(v[octet] >> 8u * i);
      w[2u * i + 1u] = nibbles_high(v[octet] >> 8u * i);
    }
  } else {
    [[unroll]] for (uint i = 0u; i < 4u; i++) w[i] = bytes_low(v[2u * octet + i / 2u] >> 8u * (i % 2u));
  }
}

float dot_octet(f16vec2 w[4], uint octet) {
  const f16vec4 first = staged[2u * octet], second = staged[2u * octet + 1u];
  const f16vec2 sums = fma(w[3], second.zw, fma(w[2], second.xy, fma(w[1], first.zw, w[0] * first.xy)));
  return factors[octet] * (float(sums.x) + float(sums.y));
}

// Weights of the row's block . staged inputs
float dot_block(Matrix m, uint block, uint row_in_tile, uint staged_block) {
  const uint vectors = block_vectors(m.layout_id), octets = 4u / vectors;
  const uint first = m.quants + block * vectors * 8u + row_in_tile;
  float sum = 0.0, first_half = 0.0;
  [[unroll]] for (uint i = 0u; i < vectors; i++) {
    const uvec4 v = weights4[first + 8u * i];
    [[unroll]] for (uint j = 0u; j < octets; j++) {
      f16vec2 w[4];
      octet_pairs(m.layout_id, v, j, w);
      sum += dot_octet(w, 4u * staged_block + i * octets + j);
    }
    if (m.layout_id == WISP_LAYOUT_Q8H && i == 0u) {  // the first half has a scale of its own
      first_half = block_scale(m, block * 8u + row_in_tile, false).x * sum;
      sum = 0.0;
    }
  }
  const vec2 scale = block_scale(m, block * 8u + row_in_tile, true);
  sum = first_half + scale.x * sum;
  if (!has_minimum(m.layout_id)) return sum;
  const float minimum = scale.y + (has_nibbles(m.layout_id) ? 8.0 * scale.x : 0.0);
  return sum + minimum * dot(totals[staged_block], vec4(1.0));
}
