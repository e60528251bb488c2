#version 450
// SPDX-License-Identifier: Apache-2.0
// Matrix times a batch with cooperative matrices: weights and inputs in f16, sums in f32. A subgroup makes SUB_ROWS x SUB_COLUMNS
// matrices of COOP_M x COOP_N results; the later half of its rows lies half a tile further, so that it has both gate and up. Results
// leave through the memory of the tiles, a column of matrices at a time. LOCAL is TILE_ROWS * TILE_COLUMNS / (results of a subgroup) *
// subgroup size.
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
#include "lib/octets.glsl"

layout(constant_id = WISP_C_SUB_ROWS) const uint SUB_ROWS = 2;
layout(constant_id = WISP_C_SUB_COLUMNS) const uint SUB_COLUMNS = 2;
layout(constant_id = WISP_C_COOP_M) const uint COOP_M = 16;
layout(constant_id = WISP_C_COOP_N) const uint COOP_N = 16;
layout(constant_id = WISP_C_COOP_K) const uint COOP_K = 16;
layout(constant_id = WISP_C_SUBGROUPS) const uint SUBGROUPS = 4;

const uint STRIDE = TILE / 8u + 1u;  // vectors of a staged row: one more than it has, against bank conflicts
const uint INPUTS = TILE_ROWS * STRIDE;
const uint SUB_HALF = SUB_ROWS / 2u;

// Of a subgroup's column of matrices: rows, vectors from result column to result column, groups of 8 rows.
const uint STACKED = SUB_ROWS * COOP_M, RESULT_STRIDE = STACKED / 4u + 1u;
#ifdef GATE_UP
const uint OCTETS = STACKED / 16u;  // of one of the model's matrices
#else
const uint OCTETS = STACKED / 8u;
#endif
const uint LANES = LOCAL / SUBGROUPS;
const uint OCTETS_EACH = (OCTETS * COOP_N + LANES - 1u) / LANES;
const uint TILE_VECTORS = INPUTS + TILE_COLUMNS * STRIDE, RESULT_VECTORS = SUBGROUPS * COOP_N * RESULT_STRIDE;

// Rows of weights [TILE_ROWS], then of inputs [TILE_COLUMNS]; in the end results [subgroup][column].
shared uvec4 memory[TILE_VECTORS > RESULT_VECTORS ? TILE_VECTORS : RESULT_VECTORS];
shared float factors[TILE_COLUMNS];

void stage() {
  [[unroll]] for (uint i = 0u; i < PIECES_EACH; i++) {
    const uint first = fetched_slot(i) * STRIDE + PARTS / 2u * fetched_piece(i);
    [[unroll]] for (uint v = 0u; v < PARTS / 2u; v++) {
      if (ONE_LAYOUT && LAYOUT0 == WISP_LAYOUT_F16)
        memory[first + v] = fetched[i].vectors[v % MOST_VECTORS];
      else
        memory[first + v] = half_octet(fetched_part(i, 2u * v), fetched_part(i, 2u * v + 1u));
    }
  }
  [[unroll]] for (uint i = 0u; i < INPUTS_EACH; i++)
    memory[INPUTS + input_column(i) * STRIDE + input_vector(i)] = floatBitsToUint(inputs[i]);
}

// The i-th of an invocation's octets in a column of matrices: its column, its place among the rows, the model's row.
uint octet_column(uint i) { return min((gl_SubgroupInvocationID + i * LANES) / OCTETS, COOP_N - 1u); }
uint octet_stacked(uint i) { return (gl_SubgroupInvocationID + i * LANES) % OCTETS * 8u; }
uint octet_row(uint first_slot, uint i) {
  const uint stacked = octet_stacked(i), half_rows = SUB_HALF * COOP_M;
  return row_of(first_slot + stacked % half_rows + stacked / half_rows * (TILE_ROWS / 2u));
}

Octet result_octet(uint i, uint further) {
  const uint at = (gl_SubgroupID * COOP_N + octet_column(i)) * RESULT_STRIDE + (octet_stacked(i) + further) / 4u;
  return Octet(uintBitsToFloat(memory[at]), uintBitsToFloat(memory[at + 1u]));
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
        coopMatLoad(w[r], memory, slot * STRIDE + k / 8u, STRIDE, gl_CooperativeMatrixLayoutRowMajor);
      }
      [[unroll]] for (uint c = 0u; c < SUB_COLUMNS; c++) {
        coopmat<float16_t, gl_ScopeSubgroup, COOP_K, COOP_N, gl_MatrixUseB> x;
        coopMatLoad(x, memory, INPUTS + (first_sub_column + c * COOP_N) * STRIDE + k / 8u, STRIDE,
                    gl_CooperativeMatrixLayoutColumnMajor);
        [[unroll]] for (uint r = 0u; r < SUB_ROWS; r++)
          sums[r * SUB_COLUMNS + c] = coopMatMulAdd(w[r], x, sums[r * SUB_COLUMNS + c]);
      }
    }
  }
  barrier();

  [[unroll]] for (uint c = 0u; c < SUB_COLUMNS; c++) {
    const uint matrix_column = first_sub_column + c * COOP_N;
#ifdef RESIDUAL
    Octet before[OCTETS_EACH];  // all reads first: one wait for them all
    [[unroll]] for (uint i = 0u; i < OCTETS_EACH; i++)
      before[i] = load_before(min(octet_row(first_slot, i), ROWS - 4u),
                              min(first_column() + matrix_column + octet_column(i), end - 1u));
#endif
    [[unroll]] for (uint r = 0u; r < SUB_ROWS; r++)
      coopMatStore(sums[r * SUB_COLUMNS + c], memory, gl_SubgroupID * COOP_N * RESULT_STRIDE + r * COOP_M / 4u, RESULT_STRIDE,
                   gl_CooperativeMatrixLayoutColumnMajor);
    subgroupBarrier();
    [[unroll]] for (uint i = 0u; i < OCTETS_EACH; i++) {
      const uint row = octet_row(first_slot, i), in_tile = matrix_column + octet_column(i), column = first_column() + in_tile;
      if (gl_SubgroupInvocationID + i * LANES >= OCTETS * COOP_N || row >= ROWS || column >= end) continue;
      const Octet result = times(factors[in_tile], result_octet(i, 0u));
#if defined(GATE_UP)
      finish_octet(row, column, result, times(factors[in_tile], result_octet(i, STACKED / 2u)));
#elif defined(QKV)
      finish_octet(row, column, result);
#else
      finish_octet(row, split() * SPLIT_COLUMNS + column, result, before[i]);
#endif
    }
    subgroupBarrier();
  }
}
