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
  [[unroll]] for (uint i = 0u; i < BLOCKS_EACH; i++) {
    const uint slot = fetched_slot(i), first = 32u * fetched_block(i);
    [[unroll]] for (uint part = 0u; part < 8u; part++) {
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

void main() {
  const uint quads = TILE_COLUMNS / 8u;  // of columns, in half a tile
  const uint slot_quad = gl_LocalInvocationID.x / quads, column_quad = gl_LocalInvocationID.x % quads;
  const uint end = steps[WISP_STEP_COUNT];
  vec4 sums[8][2];  // [slot][group of columns]
  [[unroll]] for (uint s = 0u; s < 8u; s++) sums[s][0] = sums[s][1] = vec4(0.0);

  fetch(0u, end);
  for (uint i = 0u; i < STEPS; i++) {
    barrier();
    stage();
    barrier();
    if (i + 1u < STEPS) fetch(i + 1u, end);
    [[dont_unroll]] for (uint k = 0u; k < TILE; k++) {
      const vec4 w[2] = {staged_weights[k * (TILE_ROWS / 4u) + slot_quad],
                         staged_weights[k * (TILE_ROWS / 4u) + TILE_ROWS / 8u + slot_quad]};
      const vec4 x[2] = {staged_inputs[k * (TILE_COLUMNS / 4u) + column_quad],
                         staged_inputs[k * (TILE_COLUMNS / 4u) + TILE_COLUMNS / 8u + column_quad]};
      [[unroll]] for (uint s = 0u; s < 8u; s++)
        [[unroll]] for (uint g = 0u; g < 2u; g++) sums[s][g] += w[s / 4u][s % 4u] * x[g];
    }
  }

  [[unroll]] for (uint c = 0u; c < 8u; c++) {
    const uint column = first_column() + c / 4u * (TILE_COLUMNS / 2u) + 4u * column_quad + c % 4u;
    if (column < end) {
      const float factor = column_factor(column);
#if defined(GATE_UP)
      [[unroll]] for (uint s = 0u; s < 4u; s++) {
        const uint row = row_of(4u * slot_quad + s);
        if (row < ROWS) finish(row, column, factor * sums[s][c / 4u][c % 4u], factor * sums[s + 4u][c / 4u][c % 4u]);
      }
#else
      [[unroll]] for (uint s = 0u; s < 8u; s++) {
        const uint row = row_of(s / 4u * (TILE_ROWS / 2u) + 4u * slot_quad + s % 4u);
        if (row < ROWS) {
#if defined(QKV)
          if (s % 2u == 0u)
            finish_pair(row, column, vec2(factor * sums[s][c / 4u][c % 4u] + bias(row),
                                          factor * sums[min(s + 1u, 7u)][c / 4u][c % 4u] + bias(row + 1u)));
#else
          finish(row, column, factor * sums[s][c / 4u][c % 4u]);
#endif
        }
      }
#endif
    }
  }
}
