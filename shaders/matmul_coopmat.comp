#version 450
// SPDX-License-Identifier: Apache-2.0
// Matrix times a batch with cooperative matrices: weights and inputs in f16, sums in f32. A subgroup makes SUB_ROWS x SUB_COLUMNS
// matrices of COOP_M x COOP_N results; the later half of its rows lies half a tile further, so that it has both gate and up. Results leave
// through shared memory, a matrix at a time. LOCAL is TILE_ROWS * TILE_COLUMNS / (results of a subgroup) * subgroup size.
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_cooperative_matrix : require
#extension GL_KHR_memory_scope_semantics : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
#include "lib/bindings.glsl"
#include "lib/weights.glsl"
#include "lib/half.glsl"
#include "lib/epilogue.glsl"
#define INPUTS_A_VECTOR 8u
#include "lib/tile.glsl"

layout(constant_id = WISP_C_SUB_ROWS) const uint SUB_ROWS = 2;
layout(constant_id = WISP_C_SUB_COLUMNS) const uint SUB_COLUMNS = 2;
layout(constant_id = WISP_C_COOP_M) const uint COOP_M = 16;
layout(constant_id = WISP_C_COOP_N) const uint COOP_N = 16;
layout(constant_id = WISP_C_COOP_K) const uint COOP_K = 16;
layout(constant_id = WISP_C_SUBGROUPS) const uint SUBGROUPS = 4;

const uint STRIDE = TILE / 4u + 2u;  // vectors of a staged row: 16 bytes more than it has, against bank conflicts
const uint SUB_HALF = SUB_ROWS / 2u;
#ifdef GATE_UP
const uint MATRIX_SUB_ROWS = SUB_HALF;  // of one of the model's matrices
#else
const uint MATRIX_SUB_ROWS = SUB_ROWS;
#endif
const uint RESULTS = COOP_M * COOP_N, PAIRS = RESULTS / 2u;  // PAIRS of neighbouring rows
const uint PAIRS_EACH = PAIRS * SUBGROUPS / LOCAL;

shared f16vec4 staged_weights[TILE_ROWS * STRIDE];
shared f16vec4 staged_inputs[TILE_COLUMNS * STRIDE];
shared float results[SUBGROUPS * RESULTS];  // [subgroup][column][row]
shared float factors[TILE_COLUMNS];

f16vec4 halves(uint low, uint high) { return f16vec4(unpackFloat2x16(low), unpackFloat2x16(high)); }

void stage() {
  [[unroll]] for (uint i = 0u; i < PIECES_EACH; i++) {
    const uint first = fetched_slot(i) * STRIDE + PARTS * fetched_piece(i);
    [[unroll]] for (uint part = 0u; part < PARTS; part++) {
      if (ONE_LAYOUT && LAYOUT0 == WISP_LAYOUT_F16) {
        const uvec4 v = fetched[i].vectors[part / 2u % MOST_VECTORS];
        staged_weights[first + part] = part % 2u == 0u ? halves(v.x, v.y) : halves(v.z, v.w);
      } else {
        staged_weights[first + part] = f16vec4(fetched_part(i, part));
      }
    }
  }
  [[unroll]] for (uint i = 0u; i < INPUTS_EACH; i++) {
    const uvec4 v = floatBitsToUint(inputs[i]);
    const uint first = input_column(i) * STRIDE + 2u * input_vector(i);
    staged_inputs[first] = halves(v.x, v.y);
    staged_inputs[first + 1u] = halves(v.z, v.w);
  }
}

// The i-th of an invocation's pairs of the matrix in results: neighbours have neighbouring rows.
vec2 result_pair(uint matrix, uint i) {
  const uint first = matrix + 2u * (gl_SubgroupInvocationID + i * (LOCAL / SUBGROUPS));
  return vec2(results[first], results[first + 1u]);
}

// Column in its matrix, and row, of the i-th of an invocation's pairs; r: the matrix among the subgroup's rows.
uint pair_column(uint i) { return (gl_SubgroupInvocationID + i * (LOCAL / SUBGROUPS)) / (COOP_M / 2u); }
uint pair_row(uint first_slot, uint r, uint i) {
  const uint slot = first_slot + r % SUB_HALF * COOP_M + r / SUB_HALF * (TILE_ROWS / 2u);
  return row_of(slot + 2u * ((gl_SubgroupInvocationID + i * (LOCAL / SUBGROUPS)) % (COOP_M / 2u)));
}

void main() {
  const uint sub_rows = TILE_ROWS / (SUB_ROWS * COOP_M);  // subgroups above each other
  const uint first_slot = gl_SubgroupID % sub_rows * SUB_HALF * COOP_M;
  const uint first_sub_column = gl_SubgroupID / sub_rows * SUB_COLUMNS * COOP_N;
  const uint end = steps[WISP_STEP_COUNT];
  coopmat<float, gl_ScopeSubgroup, COOP_M, COOP_N, gl_MatrixUseAccumulator> sums[SUB_ROWS * SUB_COLUMNS];
  [[unroll]] for (uint i = 0u; i < SUB_ROWS * SUB_COLUMNS; i++)
    sums[i] = coopmat<float, gl_ScopeSubgroup, COOP_M, COOP_N, gl_MatrixUseAccumulator>(0.0);

  for (uint i = gl_LocalInvocationID.x; i < TILE_COLUMNS; i += LOCAL)  // the loop's barriers come before they are needed
    factors[i] = column_factor(min(first_column() + i, end - 1u));
  const uint last_step = min((split() + 1u) * STEPS, ALL_STEPS) - 1u;
  fetch(split() * STEPS, end);
  for (uint i = split() * STEPS; i <= last_step; i++) {
    barrier();
    stage();
    barrier();
    if (i < last_step) fetch(i + 1u, end);
    [[unroll]] for (uint k = 0u; k < TILE; k += COOP_K) {
      coopmat<float16_t, gl_ScopeSubgroup, COOP_M, COOP_K, gl_MatrixUseA> w[SUB_ROWS];
      [[unroll]] for (uint r = 0u; r < SUB_ROWS; r++) {
        const uint slot = first_slot + r % SUB_HALF * COOP_M + r / SUB_HALF * (TILE_ROWS / 2u);
        coopMatLoad(w[r], staged_weights, slot * STRIDE + k / 4u, STRIDE, gl_CooperativeMatrixLayoutRowMajor);
      }
      [[unroll]] for (uint c = 0u; c < SUB_COLUMNS; c++) {
        coopmat<float16_t, gl_ScopeSubgroup, COOP_K, COOP_N, gl_MatrixUseB> x;
        coopMatLoad(x, staged_inputs, (first_sub_column + c * COOP_N) * STRIDE + k / 4u, STRIDE,
                    gl_CooperativeMatrixLayoutColumnMajor);
        [[unroll]] for (uint r = 0u; r < SUB_ROWS; r++)
          sums[r * SUB_COLUMNS + c] = coopMatMulAdd(w[r], x, sums[r * SUB_COLUMNS + c]);
      }
    }
  }

  // Reads of all pairs of a column of matrices come first: one wait for them all. Row counts are even.
  const uint mine = gl_SubgroupID * RESULTS;
  [[unroll]] for (uint c = 0u; c < SUB_COLUMNS; c++) {
    const uint matrix_column = first_sub_column + c * COOP_N;
#ifndef GATE_UP
    vec2 loaded[MATRIX_SUB_ROWS * PAIRS_EACH];
    [[unroll]] for (uint r = 0u; r < MATRIX_SUB_ROWS; r++)
      [[unroll]] for (uint i = 0u; i < PAIRS_EACH; i++)
        loaded[r * PAIRS_EACH + i] = load_pair(min(pair_row(first_slot, r, i), ROWS - 2u),
                                               min(first_column() + matrix_column + pair_column(i), end - 1u));
#endif
    [[unroll]] for (uint r = 0u; r < MATRIX_SUB_ROWS; r++) {
      coopMatStore(sums[r * SUB_COLUMNS + c], results, mine, COOP_M, gl_CooperativeMatrixLayoutColumnMajor);
      subgroupBarrier();
#ifdef GATE_UP
      vec2 gates[PAIRS_EACH];
      [[unroll]] for (uint i = 0u; i < PAIRS_EACH; i++) gates[i] = result_pair(mine, i);
      subgroupBarrier();
      coopMatStore(sums[(r + SUB_HALF) * SUB_COLUMNS + c], results, mine, COOP_M, gl_CooperativeMatrixLayoutColumnMajor);
      subgroupBarrier();
#endif
      [[unroll]] for (uint i = 0u; i < PAIRS_EACH; i++) {
        const uint in_tile = matrix_column + pair_column(i), column = first_column() + in_tile, row = pair_row(first_slot, r, i);
        if (row < ROWS && column < end) {
          const vec2 result = factors[in_tile] * result_pair(mine, i);
#if defined(QKV)
          finish_pair(row, column, result + vec2(bias(row), bias(row + 1u)), loaded[r * PAIRS_EACH + i]);
#elif defined(GATE_UP)
          finish(row, column, factors[in_tile] * gates[i].x, result.x);
          finish(row + 1u, column, factors[in_tile] * gates[i].y, result.y);
#else
          finish_pair(row, split() * SPLIT_COLUMNS + column, result, loaded[r * PAIRS_EACH + i]);
#endif
        }
      }
      subgroupBarrier();
    }
  }
}
