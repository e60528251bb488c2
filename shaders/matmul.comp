#version 450
// SPDX-License-Identifier: Apache-2.0
// Matrix times COLUMNS tokens of a batch (prefill), with what the op does before and after; the ops are those of matrix.comp.
// An invocation takes ROWS_EACH rows of all matrices together, pairs of neighbours (2 id, 2 id + 1), and holds the sums of all
// its rows and tokens. Weights are dequantised in registers, once for all tokens. How inputs come to all invocations:
//   plain     staged in shared memory, TILE features at a time, and read by all at the same address
//   SUBGROUP  an invocation holds 4 features of a block of 32 of each token and shuffles hand them round: for processors on
//             which a shuffle is much cheaper than a load. Subgroups of 8 and up.
// The norm's weights are applied to the inputs, its factor 1/rms to the sums.
// Grid: (ceil(ROWS / (LOCAL * TILES)), ceil(columns / COLUMNS)).
#extension GL_GOOGLE_include_directive : require
#include "lib/bindings.glsl"
#include "lib/weights.glsl"
#include "lib/half.glsl"
#include "lib/epilogue.glsl"
#include "lib/batch_rows.glsl"
#ifdef SUBGROUP
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_shuffle : require
#endif

layout(constant_id = WISP_C_TILE) const uint TILE = 32;
layout(constant_id = WISP_C_X) const uint X = 0;
layout(constant_id = WISP_C_X_STRIDE) const uint X_STRIDE = 32;
layout(constant_id = WISP_C_NORM) const uint NORM = 0;
layout(constant_id = WISP_C_EPSILON) const float EPSILON = 0.0;

layout(set = 0, binding = WISP_BIND_DATA_VEC4) readonly buffer DataVec4 { vec4 data4[]; };

const uint VECTORS = COLS / 4u;

// Features 4 vector .. 4 vector + 3 of a token, times the norm's weights; 0 past the last. Adds their squares.
vec4 load_input(uint column, uint vector, inout float squares) {
  if (COLS % 32u != 0u && vector >= VECTORS) return vec4(0.0);
  vec4 x = data4[(X + column * X_STRIDE) / 4u + vector];
#ifdef NORMED
  squares += dot(x, x);
  x *= uintBitsToFloat(weights4[NORM + vector]);
#endif
  return x;
}

#ifdef SUBGROUP
vec4 held[COLUMNS];
float squares[COLUMNS];
#define INPUT(c, part) subgroupShuffle(held[c], part)
#else
shared vec4 staged[COLUMNS * TILE / 4u];  // [COLUMNS][TILE / 4]
shared float shares[LOCAL];
#define INPUT(c, part) staged[(c) * (TILE / 4u) + staged_block * 8u + part]
#endif

// The vector of slot t with weights 4 part .. 4 part + 3 of a block, and their scale.
void load_weights(uint t, uint block, uint part, out uvec4 quants, out vec2 scale) {
  const Matrix m = matrices[t];
  const uint tile = blocks[t] + block, in_tile = row_of(t) % 8u;
  quants = weights4[m.quants + (tile * block_vectors(m.layout_id) + part / vector_parts(m.layout_id)) * 8u + in_tile];
  scale = block_scale(m, tile * 8u + in_tile, part >= 4u);
}

// sums += weights of block . inputs
void add_block(uint block, uint staged_block) {
  const uint vectors = block_vectors(LAYOUT0), parts = vector_parts(LAYOUT0);
  uvec4 quants[ROWS_EACH];
  vec2 scales[ROWS_EACH];
  for (uint i = 0u; i < vectors; i++) {
    [[unroll]] for (uint t = 0u; t < ROWS_EACH; t++) load_weights(t, block, i * parts, quants[t], scales[t]);
    [[dont_unroll]] for (uint p = 0u; p < parts; p++) {
      const uint part = i * parts + p;
      vec4 w[ROWS_EACH];
      [[unroll]] for (uint t = 0u; t < ROWS_EACH; t++) {
        const uint layout_id = matrices[t].layout_id;
        if (layout_id != LAYOUT0) load_weights(t, block, part, quants[t], scales[t]);  // matrices of different layouts: rare
        w[t] = vector_part(layout_id, quants[t], part % vector_parts(layout_id)) * scales[t].x + scales[t].y;
      }
      [[unroll]] for (uint c = 0u; c < COLUMNS; c++) {
        const vec4 x = INPUT(c, part);
        [[unroll]] for (uint t = 0u; t < ROWS_EACH; t++) sums[t][c] += dot(w[t], x);
      }
    }
  }
}

void main() {
  const uint id = gl_LocalInvocationID.x;
  const uint column = push.first_column + gl_WorkGroupID.y * COLUMNS;
  const uint end = steps[WISP_STEP_COUNT];
  take_rows();

#ifdef SUBGROUP
  const uint lane = gl_SubgroupInvocationID % 8u;
  [[unroll]] for (uint c = 0u; c < COLUMNS; c++) squares[c] = 0.0;
  for (uint block = 0u; block < ROW_BLOCKS; block++) {
    [[unroll]] for (uint c = 0u; c < COLUMNS; c++)
      held[c] = load_input(min(column + c, end - 1u), block * 8u + lane, squares[c]);
    add_block(block, 0u);
  }
#ifdef NORMED
  [[unroll]] for (uint c = 0u; c < COLUMNS; c++) {
    float total = squares[c];
    [[unroll]] for (uint mask = 1u; mask < 8u; mask <<= 1) total += subgroupShuffleXor(total, mask);
    const float factor = inversesqrt(total / float(COLS) + EPSILON);
    [[unroll]] for (uint t = 0u; t < ROWS_EACH; t++) sums[t][c] *= factor;
  }
#endif
#else
  const uint stagers = LOCAL / COLUMNS;  // invocations that stage a token
  const uint staged_column = id / stagers;
  float squares = 0.0;
  for (uint begin = 0u; begin < VECTORS; begin += TILE / 4u) {
    for (uint i = id % stagers; i < TILE / 4u; i += stagers)
      if (begin + i < ROW_BLOCKS * 8u)
        staged[staged_column * (TILE / 4u) + i] = load_input(min(column + staged_column, end - 1u), begin + i, squares);
    barrier();
    const uint count = min(TILE / 32u, ROW_BLOCKS - begin / 8u);
    for (uint b = 0u; b < count; b++) add_block(begin / 8u + b, b);
    barrier();
  }
#ifdef NORMED
  shares[id] = squares;
  barrier();
  if (id < COLUMNS) {
    squares = 0.0;
    for (uint i = 0u; i < stagers; i++) squares += shares[id * stagers + i];
  }
  barrier();
  if (id < COLUMNS) shares[id] = inversesqrt(squares / float(COLS) + EPSILON);
  barrier();
  [[unroll]] for (uint c = 0u; c < COLUMNS; c++) {
    const float factor = shares[c];
    [[unroll]] for (uint t = 0u; t < ROWS_EACH; t++) sums[t][c] *= factor;
  }
#endif
#endif

  finish_rows(column, end);
}
