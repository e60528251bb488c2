#version 450
// SPDX-License-Identifier: Apache-2.0
// Matrix times the vector of one token (decode), with what the op does before and after:
//   QKV      rmsnorm, three matrices, RoPE on q and k, k and v into the KV slot
//   GATE_UP  rmsnorm, two matrices, silu(gate) * up
//   RESIDUAL y += M x                                  (attn_out, down)
//   HEAD     rmsnorm, logits, best id of the workgroup
// A workgroup takes tiles of 8 rows; SLICES invocations share a row, each with every SLICES-th block of 32 weights. Inputs are staged
// in shared memory, TILE features at a time, norm weights already applied; the norm's factor 1/rms is the same for all rows and is
// applied to the sums. HALF: products in f16. Grid: ceil(ROWS / rows of a workgroup).
#extension GL_GOOGLE_include_directive : require
#include "lib/bindings.glsl"
#include "lib/weights.glsl"
#include "lib/reduce.glsl"
#include "lib/half.glsl"
#include "lib/epilogue.glsl"

layout(constant_id = WISP_C_SLICES) const uint SLICES = 8;
layout(constant_id = WISP_C_COLS) const uint COLS = 32;
layout(constant_id = WISP_C_TILE) const uint TILE = 32;
layout(constant_id = WISP_C_X) const uint X = 0;
layout(constant_id = WISP_C_X_STRIDE) const uint X_STRIDE = 32;
layout(constant_id = WISP_C_NORM) const uint NORM = 0;
layout(constant_id = WISP_C_EPSILON) const float EPSILON = 0.0;
layout(constant_id = WISP_C_HEAD_NORM) const uint HEAD_NORM = 0;
layout(constant_id = WISP_C_CANDIDATES) const uint CANDIDATES = 0;
layout(constant_id = WISP_C_CANDIDATE_BEGIN) const uint CANDIDATE_BEGIN = 0;

layout(set = 0, binding = WISP_BIND_DATA_VEC4) readonly buffer DataVec4 { vec4 data4[]; };

const uint GROUP_ROWS = LOCAL / SLICES;
const uint ROW_BLOCKS = (COLS + 31u) / 32u;

#if defined(QKV) || defined(HEAD)
shared float row_sums[GROUP_ROWS];
#endif

// Inputs 4 * vector .. 4 * vector + 3 of the column, norm weights applied.
vec4 load_input(uint column, uint vector, inout float squares) {
  vec4 v = data4[(X + column * X_STRIDE) / 4u + vector];
#ifdef NORMED
  squares += dot(v, v);
  v *= uintBitsToFloat(weights4[NORM + vector]);
#endif
  return v;
}

#ifdef HALF
#include "lib/half_inputs.glsl"
#else
#include "lib/float_inputs.glsl"
#endif

#ifdef QKV
// What norms the head of the workgroup's row `group_row`, whole heads being in the workgroup; its weights come with it.
vec2 head_norm(uint group_row, uint row) {
  const uint first = group_row / HEAD_SIZE * HEAD_SIZE;
  float squares = 0.0;
  for (uint i = 0u; i < HEAD_SIZE; i++) squares += row_sums[first + i] * row_sums[first + i];
  const float factor = inversesqrt(squares / float(HEAD_SIZE) + EPSILON);
  if (HEAD_NORM == 1u) return vec2(factor);
  const uint weight = HEAD_NORM + (row < Q_ROWS ? 0u : HEAD_SIZE) + row % HEAD_SIZE;
  return factor * vec2(uintBitsToFloat(weights[weight]), uintBitsToFloat(weights[weight + 1u]));
}
#endif

#ifdef QKV
// K and V among the workgroup's rows, which are whole blocks of 32, into a KV slot of q8_0. An invocation takes 4 elements.
void store_blocks(uint column) {
  const uint id = gl_LocalInvocationID.x, row = gl_WorkGroupID.x * GROUP_ROWS + 4u * id;
  if (4u * id >= GROUP_ROWS || row < Q_ROWS || row >= ROWS) return;
  const uint position = steps[WISP_STEP_POSITION] + column, element = row - Q_ROWS, first = position * KV_ROW;
  float largest = 0.0;
  for (uint i = 0u; i < 32u; i++) largest = max(largest, abs(row_sums[id / 8u * 32u + i]));
  const uint bits = scale_bits(largest);
  const vec4 values = vec4(row_sums[4u * id], row_sums[4u * id + 1u], row_sums[4u * id + 2u], row_sums[4u * id + 3u]);
  kv[first + element / 4u] = quants(values, bits);
  if (id % 8u == 0u) {  // the other half of the word may be another workgroup's
    const uint word = first + KV_SCALES + element / 64u, shift = element / 2u & 16u;
    atomicAnd(kv[word], 0xffff0000u >> shift);
    atomicOr(kv[word], bits << shift);
  }
  if (element == 0u) pad_row(position);
}
#endif

void main() {
  const uint id = gl_LocalInvocationID.x;
  const uint slice = row_slice(id / 8u % SLICES);
  const uint group_row = id / (8u * SLICES) * 8u + id % 8u;
  const uint row = gl_WorkGroupID.x * GROUP_ROWS + group_row;
  const uint column = push.first_column + gl_WorkGroupID.y;
  uint matrix_row = row;
  const Matrix m = matrix_of_row(matrix_row);

  float sum = 0.0, squares = 0.0;
#ifdef GATE_UP
  float up = 0.0;
#endif
#ifndef HALF
  find_rounding(column, squares);
#endif
  for (uint begin = 0u; begin < COLS; begin += TILE) {
    const uint features = min(TILE, COLS - begin);
    stage(column, begin, features, squares);
    barrier();
    if (row < ROWS) {
      const uint first_block = matrix_row / 8u * ROW_BLOCKS + begin / 32u, blocks = (features + 31u) / 32u;
      for (uint b = slice; b < blocks; b += SLICES) sum += dot_block(m, first_block + b, id % 8u, b);
#ifdef GATE_UP
      const Matrix m1 = Matrix(LAYOUT1, QUANTS1, SCALES1);
      for (uint b = slice; b < blocks; b += SLICES) up += dot_block(m1, first_block + b, id % 8u, b);
#endif
    }
    barrier();
  }

  sum = reduce_slices(sum, SLICES);
#ifdef NORMED
  const float factor = inversesqrt(reduce_add(squares) / float(COLS) + EPSILON);
  sum *= factor;
#endif
#if defined(RESIDUAL)
  if (slice == 0u && row < ROWS) finish(row, column, sum);
#elif defined(GATE_UP)
  up = factor * reduce_slices(up, SLICES);
  if (slice == 0u && row < ROWS) finish(row, column, sum, up);
#else
#if defined(QKV)
  if (row < ROWS) sum += bias(row);
#endif
  if (slice == 0u) row_sums[group_row] = sum;
  barrier();
#if defined(QKV)
  const uint pair_row = gl_WorkGroupID.x * GROUP_ROWS + 2u * id;
  const bool has_pair = 2u * id < GROUP_ROWS && pair_row < ROWS;
  vec2 pair = vec2(0.0);
  if (has_pair) {
    pair = vec2(row_sums[2u * id], row_sums[2u * id + 1u]);
    // Without weights the norm comes behind RoPE, which keeps a head's length: the factor is the same.
    if (HEAD_NORM != 0u && pair_row < Q_ROWS + KV_ROWS) pair *= head_norm(2u * id, pair_row);
  }
  if (KV_TYPE == KV_Q8_0) {
    barrier();
    if (has_pair && pair_row >= Q_ROWS) {
      pair = turned_pair(pair_row, column, pair);
      row_sums[2u * id] = pair.x;
      row_sums[2u * id + 1u] = pair.y;
    }
    barrier();
    store_blocks(column);
  }
  if (has_pair && (KV_TYPE != KV_Q8_0 || pair_row < Q_ROWS)) finish_pair(pair_row, column, pair);
#else  // HEAD
  if (slice == 0u && row < ROWS) finish(row, column, sum);
  if (id == 0u) {
    float best = MINUS_INFINITY;
    uint best_row = 0u;
    for (uint i = 0u; i < GROUP_ROWS; i++) {
      const uint r = gl_WorkGroupID.x * GROUP_ROWS + i;
      if (r < ROWS && row_sums[i] > best) {
        best = row_sums[i];
        best_row = ROW_BEGIN + r;
      }
    }
    const uint candidate = CANDIDATES + 2u * (CANDIDATE_BEGIN + gl_WorkGroupID.x);
    data[candidate] = best;
    data[candidate + 1u] = float(best_row);
  }
#endif
#endif
}
