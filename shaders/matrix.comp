#version 450
// SPDX-License-Identifier: Apache-2.0
// Matrix times the vector of one token (decode), with what the op does before and after:
//   QKV      rmsnorm, three matrices, RoPE on q and k, k and v into the KV slot
//   GATE_UP  rmsnorm, two matrices, silu(gate) * up
//   RESIDUAL y += M x                                  (attn_out, down)
//   HEAD     rmsnorm, logits, best id of the workgroup
// A workgroup takes tiles of 8 rows; SLICES invocations share a row, each with every SLICES-th block of 32 weights. Inputs are staged
// in shared memory, TILE features at a time, norm weights already applied; the norm's factor 1/rms is the same for all rows and is
// applied to the sums. Grid: ceil(ROWS / rows of a workgroup).
#extension GL_GOOGLE_include_directive : require
#include "lib/bindings.glsl"
#include "lib/weights.glsl"
#include "lib/hadamard.glsl"
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
layout(constant_id = WISP_C_ROUND) const uint ROUND = 0;
layout(constant_id = WISP_C_HEAD_NORM) const uint HEAD_NORM = 0;
layout(constant_id = WISP_C_CANDIDATES) const uint CANDIDATES = 0;
layout(constant_id = WISP_C_CANDIDATE_BEGIN) const uint CANDIDATE_BEGIN = 0;

layout(set = 0, binding = WISP_BIND_DATA_VEC4) readonly buffer DataVec4 { vec4 data4[]; };

const uint GROUP_ROWS = LOCAL / SLICES;
const uint ROW_BLOCKS = (COLS + 31u) / 32u;
const uint TILE_VECTORS = TILE / 4u;

shared vec4 staged[TILE_VECTORS];
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

// The tile's inputs, transformed as in wisp_reference_hadamard, not yet rounded. All invocations must call. In shared memory: a block
// of 32 in registers would spill. An invocation's vectors are then those from its id on, LOCAL apart.
void stage_transformed(uint column, uint begin, inout float squares) {
  const uint id = gl_LocalInvocationID.x;
  for (uint i = id; i < TILE_VECTORS; i += LOCAL) {
    const vec4 v = begin + 4u * i < COLS ? load_input(column, begin / 4u + i, squares) : vec4(0.0);
    staged[i] = COLS % 32u == 0u ? hadamard_vector(v) : v;
  }
  if (COLS % 32u != 0u) return;
  barrier();
  [[dont_unroll]] for (uint step = 1u; step < 8u; step <<= 1) {
    for (uint pair = id; pair < TILE_VECTORS / 2u; pair += LOCAL) {
      const uint i = 2u * pair - (pair & step - 1u);
      const vec4 a = staged[i], b = staged[i + step];
      staged[i] = a + b;
      staged[i + step] = a - b;
    }
    barrier();
  }
}

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

// Weights of the row's block . staged inputs
float dot_block(Matrix m, uint block, uint row_in_tile, uint staged_block) {
  const uint vectors = block_vectors(m.layout_id), parts = vector_parts(m.layout_id);
  const uint first = m.quants + block * vectors * 8u + row_in_tile;
  float sum = 0.0, first_half = 0.0, total = 0.0;
  [[unroll]] for (uint i = 0u; i < vectors; i++) {
    uvec4 v = weights4[first + 8u * i];
    // 16 inputs at a time: with all 32 unrolled a compiler asks for them at once, and they take half of the occupancy.
    [[dont_unroll]] for (uint begin = 0u; begin < parts; begin += 4u) {
      [[unroll]] for (uint part = 0u; part < 4u; part++) {
        if (part >= parts) break;
        const vec4 x = staged[staged_block * 8u + i * parts + begin + part];
        sum += dot(vector_part(m.layout_id, v, part), x);
        if (m.layout_id == WISP_LAYOUT_Q4S || m.layout_id == WISP_LAYOUT_Q4A || m.layout_id == WISP_LAYOUT_Q8A)
          total += dot(vec4(1.0), x);
      }
      v.xy = v.zw;
    }
    if (m.layout_id == WISP_LAYOUT_Q8H && i == 0u) {  // the first half has a scale of its own
      first_half = block_scale(m, block * 8u + row_in_tile, false).x * sum;
      sum = 0.0;
    }
  }
  const vec2 scale = block_scale(m, block * 8u + row_in_tile, true);
  return first_half + scale.x * sum + scale.y * total;
}

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
  float scale = 0.0, inverse = 0.0, zero = 0.0;
  if (ROUND == 1u) {
    vec4 low = vec4(0.0), high = vec4(0.0);
    for (uint begin = 0u; begin < COLS; begin += TILE) {
      stage_transformed(column, begin, squares);
      for (uint i = id; i < TILE_VECTORS; i += LOCAL) {
        low = min(low, staged[i]);
        high = max(high, staged[i]);
      }
    }
    const float lowest = -reduce_max(-min(min(low.x, low.y), min(low.z, low.w)));
    scale = (reduce_max(max(max(high.x, high.y), max(high.z, high.w))) - lowest) / 255.0;
    inverse = scale > 0.0 ? 1.0 / scale : 0.0;
    zero = clamp(roundEven(-lowest * inverse), 0.0, 255.0);
  }
  for (uint begin = 0u; begin < COLS; begin += TILE) {
    const uint features = min(TILE, COLS - begin);
    if (ROUND == 1u) {
      float counted = 0.0;
      if (TILE < COLS) stage_transformed(column, begin, counted);
      for (uint i = id; i < TILE_VECTORS; i += LOCAL)
        staged[i] = scale * clamp(roundEven(staged[i] * inverse), -zero, 255.0 - zero);
    } else {
      for (uint i = id; i < TILE_VECTORS; i += LOCAL)
        staged[i] = 4u * i < features ? load_input(column, begin / 4u + i, squares) : vec4(0.0);
    }
    barrier();
    if (row < ROWS) {
      const uint first_block = begin / 32u;
      const uint blocks = (features + 31u) / 32u;
      for (uint b = slice; b < blocks; b += SLICES) {
        const uint block = matrix_row / 8u * ROW_BLOCKS + first_block + b;
        sum += dot_block(m, block, id % 8u, b);
#ifdef GATE_UP
        up += dot_block(Matrix(LAYOUT1, QUANTS1, SCALES1), block, id % 8u, b);
#endif
      }
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
