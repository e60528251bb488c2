#version 450
// SPDX-License-Identifier: Apache-2.0
// Matrix times COLUMNS vectors (one in decode, a few tokens of a batch in prefill), with what the op does before and after:
//   QKV      rmsnorm, three matrices, RoPE on q and k, k and v into the KV slot
//   GATE_UP  rmsnorm, two matrices, silu(gate) * up
//   RESIDUAL y += M x                                  (attn_out, down)
//   HEAD     rmsnorm, logits, best id of the workgroup
// A workgroup takes tiles of 8 rows; SLICES invocations share a row, each with every SLICES-th block of 32 weights. Inputs are staged
// in shared memory, TILE features at a time, norm weights already applied; the norm's factor 1/rms is the same for all rows and is
// applied to the sums. Grid: (ceil(ROWS / rows of a workgroup), ceil(columns / COLUMNS)).
#extension GL_GOOGLE_include_directive : require
#include "lib/bindings.glsl"
#include "lib/weights.glsl"
#include "lib/reduce.glsl"
#include "lib/half.glsl"

layout(constant_id = WISP_C_SLICES) const uint SLICES = 8;
layout(constant_id = WISP_C_COLS) const uint COLS = 32;
layout(constant_id = WISP_C_ROWS) const uint ROWS = 1;
layout(constant_id = WISP_C_TILE) const uint TILE = 32;
layout(constant_id = WISP_C_X) const uint X = 0;
layout(constant_id = WISP_C_X_STRIDE) const uint X_STRIDE = 32;
layout(constant_id = WISP_C_Y) const uint Y = 0;
layout(constant_id = WISP_C_Y_STRIDE) const uint Y_STRIDE = 32;
layout(constant_id = WISP_C_NORM) const uint NORM = 0;
layout(constant_id = WISP_C_EPSILON) const float EPSILON = 0.0;
layout(constant_id = WISP_C_LAYOUT0) const uint LAYOUT0 = 0;
layout(constant_id = WISP_C_QUANTS0) const uint QUANTS0 = 0;
layout(constant_id = WISP_C_SCALES0) const uint SCALES0 = 0;
layout(constant_id = WISP_C_LAYOUT1) const uint LAYOUT1 = 0;
layout(constant_id = WISP_C_QUANTS1) const uint QUANTS1 = 0;
layout(constant_id = WISP_C_SCALES1) const uint SCALES1 = 0;
layout(constant_id = WISP_C_LAYOUT2) const uint LAYOUT2 = 0;
layout(constant_id = WISP_C_QUANTS2) const uint QUANTS2 = 0;
layout(constant_id = WISP_C_SCALES2) const uint SCALES2 = 0;
layout(constant_id = WISP_C_HEADS) const uint HEADS = 1;
layout(constant_id = WISP_C_KV_HEADS) const uint KV_HEADS = 1;
layout(constant_id = WISP_C_HEAD_SIZE) const uint HEAD_SIZE = 8;
layout(constant_id = WISP_C_ROPE) const uint ROPE = 0;
layout(constant_id = WISP_C_KV_F32) const uint KV_F32 = 0;
layout(constant_id = WISP_C_ROW_BEGIN) const uint ROW_BEGIN = 0;
layout(constant_id = WISP_C_CANDIDATES) const uint CANDIDATES = 0;
layout(constant_id = WISP_C_CANDIDATE_STRIDE) const uint CANDIDATE_STRIDE = 0;
layout(constant_id = WISP_C_CANDIDATE_BEGIN) const uint CANDIDATE_BEGIN = 0;

#ifdef QKV
layout(set = 0, binding = WISP_BIND_KV_WORD) writeonly buffer KvWord { uint kv[]; };
#endif
layout(set = 0, binding = WISP_BIND_DATA) buffer Data { float data[]; };
layout(set = 0, binding = WISP_BIND_DATA_VEC4) readonly buffer DataVec4 { vec4 data4[]; };

#if defined(QKV) || defined(GATE_UP) || defined(HEAD)
#define NORMED
#endif
#ifdef GATE_UP
#define SUMS 2
#else
#define SUMS 1
#endif

const uint GROUP_ROWS = LOCAL / SLICES;
const uint ROW_BLOCKS = (COLS + 31u) / 32u;
const uint TILE_VECTORS = TILE / 4u;

shared vec4 staged[WISP_TILE_FLOATS / 4];  // [COLUMNS][TILE / 4]
#if defined(QKV) || defined(HEAD)
shared float row_sums[WISP_MAX_LOCAL];     // [GROUP_ROWS]
#endif

// sums[c] += weights of the row's block . staged column c
void add_block(Matrix m, uint block, uint row_in_tile, uint staged_block, inout float sums[COLUMNS]) {
  const uint vectors = block_vectors(m.layout_id), parts = vector_parts(m.layout_id);
  const uint first = m.quants + block * vectors * 8u + row_in_tile;
  float dots[COLUMNS];
  float totals[COLUMNS];
  [[unroll]] for (uint c = 0u; c < COLUMNS; c++) dots[c] = totals[c] = 0.0;
  [[unroll]] for (uint i = 0u; i < vectors; i++) {
    const uvec4 v = weights4[first + 8u * i];
    [[unroll]] for (uint part = 0u; part < parts; part++) {
      const vec4 w = vector_part(m.layout_id, v, part);
      [[unroll]] for (uint c = 0u; c < COLUMNS; c++) {
        const vec4 x = staged[c * TILE_VECTORS + staged_block * 8u + i * parts + part];
        dots[c] += dot(w, x);
        if (m.layout_id == WISP_LAYOUT_Q4S || m.layout_id == WISP_LAYOUT_Q4A || m.layout_id == WISP_LAYOUT_Q8A)
          totals[c] += dot(vec4(1.0), x);
      }
    }
    if (m.layout_id == WISP_LAYOUT_Q8H && i == 0u) {  // the first half has a scale of its own
      const float scale = block_scale(m, block * 8u + row_in_tile, false).x;
      [[unroll]] for (uint c = 0u; c < COLUMNS; c++) {
        sums[c] += scale * dots[c];
        dots[c] = 0.0;
      }
    }
  }
  const vec2 scale = block_scale(m, block * 8u + row_in_tile, true);
  [[unroll]] for (uint c = 0u; c < COLUMNS; c++) sums[c] += scale.x * dots[c] + scale.y * totals[c];
}

void main() {
  const uint id = gl_LocalInvocationID.x;
  const uint slice = row_slice(id / 8u % SLICES);
  const uint group_row = id / (8u * SLICES) * 8u + id % 8u;
  const uint row = gl_WorkGroupID.x * GROUP_ROWS + group_row;
  const uint column = push.first_column + gl_WorkGroupID.y * COLUMNS;
#if COLUMNS > 1
  const uint count = steps[WISP_STEP_COUNT];
#define LOAD_COLUMN(c) min(column + c, count - 1u)
#else
#define LOAD_COLUMN(c) column
#endif

  // The matrix and the row inside it.
#ifdef QKV
  const uint Q_ROWS = HEADS * HEAD_SIZE, KV_ROWS = KV_HEADS * HEAD_SIZE;
  const bool is_q = row < Q_ROWS, is_k = row < Q_ROWS + KV_ROWS;
  const Matrix m = Matrix(is_q ? LAYOUT0 : is_k ? LAYOUT1 : LAYOUT2, is_q ? QUANTS0 : is_k ? QUANTS1 : QUANTS2,
                          is_q ? SCALES0 : is_k ? SCALES1 : SCALES2);
  const uint matrix_row = row - (is_q ? 0u : is_k ? Q_ROWS : Q_ROWS + KV_ROWS);
#else
  const Matrix m = Matrix(LAYOUT0, QUANTS0, SCALES0);
  const uint matrix_row = row;
#endif

  float sums[SUMS][COLUMNS];
  float squares[COLUMNS];
  [[unroll]] for (uint c = 0u; c < COLUMNS; c++) {
    [[unroll]] for (uint s = 0u; s < SUMS; s++) sums[s][c] = 0.0;
    squares[c] = 0.0;
  }

  for (uint begin = 0u; begin < COLS; begin += TILE) {
    const uint features = min(TILE, COLS - begin);
    [[unroll]] for (uint c = 0u; c < COLUMNS; c++) {
      const uint x = (X + LOAD_COLUMN(c) * X_STRIDE + begin) / 4u;
      for (uint i = id; i < TILE_VECTORS; i += LOCAL) {
        vec4 v = vec4(0.0);
        if (4u * i < features) {
          v = data4[x + i];
#ifdef NORMED
          squares[c] += dot(v, v);
          v *= uintBitsToFloat(weights4[NORM + begin / 4u + i]);
#endif
        }
        staged[c * TILE_VECTORS + i] = v;
      }
    }
    barrier();
    if (row < ROWS) {
      const uint first_block = begin / 32u;
      const uint blocks = (features + 31u) / 32u;
      for (uint b = slice; b < blocks; b += SLICES) {
        const uint block = matrix_row / 8u * ROW_BLOCKS + first_block + b;
        add_block(m, block, id % 8u, b, sums[0]);
#ifdef GATE_UP
        add_block(Matrix(LAYOUT1, QUANTS1, SCALES1), block, id % 8u, b, sums[1]);
#endif
      }
    }
    barrier();
  }

  [[unroll]] for (uint c = 0u; c < COLUMNS; c++) {
    float sum = reduce_slices(sums[0][c], SLICES);
#ifdef NORMED
    const float factor = inversesqrt(reduce_add(squares[c]) / float(COLS) + EPSILON);
    sum *= factor;
#endif
#if COLUMNS > 1
    const bool wanted = column + c < count;
#else
    const bool wanted = true;
#endif
    const uint y = Y + (column + c) * Y_STRIDE;
#if defined(RESIDUAL)
    if (slice == 0u && row < ROWS && wanted) data[y + row] += sum;
#elif defined(GATE_UP)
    const float up = factor * reduce_slices(sums[1][c], SLICES);
    if (slice == 0u && row < ROWS && wanted) data[y + row] = sum / (1.0 + exp(-sum)) * up;
#else
    if (slice == 0u) row_sums[group_row] = sum;
    barrier();
#if defined(QKV)
    // One invocation a RoPE pair: rows 2i and 2i + 1. A pair never crosses from q to k to v: head sizes are even.
    const uint pair_row = gl_WorkGroupID.x * GROUP_ROWS + 2u * id;
    if (2u * id < GROUP_ROWS && pair_row < ROWS && wanted) {
      const uint position = steps[WISP_STEP_POSITION] + column + c;
      vec2 pair = vec2(row_sums[2u * id], row_sums[2u * id + 1u]);
      if (pair_row < Q_ROWS + KV_ROWS) {
        const uint angle = ROPE + 2u * (position * (HEAD_SIZE / 2u) + (pair_row % HEAD_SIZE) / 2u);
        const float cosine = data[angle], sine = data[angle + 1u];
        pair = vec2(pair.x * cosine - pair.y * sine, pair.x * sine + pair.y * cosine);
      }
      if (pair_row < Q_ROWS) {
        data[y + pair_row] = pair.x;
        data[y + pair_row + 1u] = pair.y;
      } else {
        const uint element = position * 2u * KV_ROWS + (pair_row - Q_ROWS);
        if (KV_F32 == 1u) {
          kv[element] = floatBitsToUint(pair.x);
          kv[element + 1u] = floatBitsToUint(pair.y);
        } else {
          kv[element / 2u] = pack_half(pair);
        }
      }
    }
#else  // HEAD
    if (slice == 0u && row < ROWS && wanted) data[Y + (column + c - push.first_column) * Y_STRIDE + ROW_BEGIN + row] = sum;
    if (id == 0u && wanted) {
      float best = MINUS_INFINITY;
      uint best_row = 0u;
      for (uint i = 0u; i < GROUP_ROWS; i++) {
        const uint r = gl_WorkGroupID.x * GROUP_ROWS + i;
        if (r < ROWS && row_sums[i] > best) {
          best = row_sums[i];
          best_row = ROW_BEGIN + r;
        }
      }
      const uint candidate =
          CANDIDATES + 2u * ((column + c - push.first_column) * CANDIDATE_STRIDE + CANDIDATE_BEGIN + gl_WorkGroupID.x);
      data[candidate] = best;
      data[candidate + 1u] = float(best_row);
    }
#endif
    barrier();
#endif
  }
}
