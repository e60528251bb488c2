#version 450
// SPDX-License-Identifier: Apache-2.0
// Matrix times a batch for GPUs with much shared memory and many registers: an invocation makes 8 x 8 results, slots and columns in
// two groups of 4 neighbours half a tile apart. LOCAL is TILE_ROWS * TILE_COLUMNS / 64.
#extension GL_GOOGLE_include_directive : require
#include "lib/bindings.glsl"
#include "lib/weights.glsl"
#include "lib/half.glsl"
#include "lib/epilogue.glsl"
#define INPUTS_A_VECTOR 4u
#include "lib/tile.glsl"

shared vec4 staged_weights[TILE * TILE_ROWS / 4u];    // [TILE][TILE_ROWS / 4]
shared vec4 staged_inputs[TILE * TILE_COLUMNS / 4u];  // [TILE][TILE_COLUMNS / 4]

void stage() {
  [[unroll]] for (uint i = 0u; i < PIECES_EACH; i++) {
    const uint slot = fetched_slot(i), first = 4u * PARTS * fetched_piece(i);
    [[unroll]] for (uint part = 0u; part < PARTS; part++) {
      const vec4 w = fetched_part(i, part);
      [[unroll]] for (uint e = 0u; e < 4u; e++) staged_weights[(first + 4u * part + e) * (TILE_ROWS / 4u) + slot / 4u][slot % 4u] = w[e];
    }
  }
  [[unroll]] for (uint i = 0u; i < INPUTS_EACH; i++) {
    const uint column = input_column(i), first = 4u * input_vector(i);
    [[unroll]] for (uint e = 0u; e < 4u; e++)
      staged_inputs[(first + e) * (TILE_COLUMNS / 4u) + column / 4u][column % 4u] = inputs[i][e];
  }
}

vec2 result_pair(uint column, uint slot) {
  const vec4 quad = staged_weights[column * (TILE_ROWS / 4u) + slot / 4u];
  return slot % 4u == 0u ? quad.xy : quad.zw;
}

void main() {
  const uint quads = TILE_COLUMNS / 8u;  // of columns, in half a tile
  const uint slot_quad = gl_LocalInvocationID.x / quads, column_quad = gl_LocalInvocationID.x % quads;
  const uint end = steps[WISP_STEP_COUNT];
  vec4 sums[8][2];  // [slot][group of columns]
  [[unroll]] for (uint s = 0u; s < 8u; s++) sums[s][0] = sums[s][1] = vec4(0.0);

  const uint last_step = min((split() + 1u) * STEPS, ALL_STEPS) - 1u;
  fetch(split() * STEPS, end);
  for (uint i = split() * STEPS; i <= last_step; i++) {
    barrier();
    stage();
    barrier();
    if (i < last_step) fetch(i + 1u, end);
    [[dont_unroll]] for (uint k = 0u; k < TILE; k++) {
      const vec4 w[2] = {staged_weights[k * (TILE_ROWS / 4u) + slot_quad],
                         staged_weights[k * (TILE_ROWS / 4u) + TILE_ROWS / 8u + slot_quad]};
      const vec4 x[2] = {staged_inputs[k * (TILE_COLUMNS / 4u) + column_quad],
                         staged_inputs[k * (TILE_COLUMNS / 4u) + TILE_COLUMNS / 8u + column_quad]};
      [[unroll]] for (uint s = 0u; s < 8u; s++)
        [[unroll]] for (uint g = 0u; g < 2u; g++) sums[s][g] += w[s / 4u][s % 4u] * x[g];
    }
  }

  // Results leave through shared memory, half of the columns at a time: [column][TILE_ROWS / 4].
  const uint half_columns = TILE_COLUMNS / 2u;
  [[unroll]] for (uint g = 0u; g < 2u; g++) {
    barrier();
    [[unroll]] for (uint e = 0u; e < 4u; e++)
      [[unroll]] for (uint h = 0u; h < 2u; h++)
        staged_weights[(4u * column_quad + e) * (TILE_ROWS / 4u) + h * (TILE_ROWS / 8u) + slot_quad] =
            vec4(sums[4u * h][g][e], sums[4u * h + 1u][g][e], sums[4u * h + 2u][g][e], sums[4u * h + 3u][g][e]);
    barrier();
    [[dont_unroll]] for (uint i = gl_LocalInvocationID.x; i < half_columns * TILE_MATRIX_ROWS / 2u; i += LOCAL) {
      const uint in_half = i / (TILE_MATRIX_ROWS / 2u), slot = i % (TILE_MATRIX_ROWS / 2u) * 2u;
      const uint column = first_column() + g * half_columns + in_half, row = row_of(slot);
      if (row < ROWS && column < end) {
        const float factor = column_factor(column);
        const vec2 result = factor * result_pair(in_half, slot);
#if defined(QKV)
        finish_pair(row, column, result + vec2(bias(row), bias(row + 1u)));
#elif defined(GATE_UP)
        const vec2 up = factor * result_pair(in_half, slot + TILE_MATRIX_ROWS);
        finish(row, column, result.x, up.x);
        if (row + 1u < ROWS) finish(row + 1u, column, result.y, up.y);
#else
        finish(row, split() * SPLIT_COLUMNS + column, result.x);
        if (row + 1u < ROWS) finish(row + 1u, split() * SPLIT_COLUMNS + column, result.y);
#endif
      }
    }
  }
}
