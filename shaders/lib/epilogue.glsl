// SPDX-License-Identifier: Apache-2.0
// The ops with matrices: which matrix a row belongs to, and what becomes of its finished sum. One of QKV, GATE_UP, RESIDUAL, HEAD is
// defined.

#include "lib/activation.glsl"

layout(constant_id = WISP_C_ROWS) const uint ROWS = 1;
layout(constant_id = WISP_C_Y) const uint Y = 0;
layout(constant_id = WISP_C_Y_STRIDE) const uint Y_STRIDE = 32;
layout(constant_id = WISP_C_LAYOUT0) const uint LAYOUT0 = 0;
layout(constant_id = WISP_C_QUANTS0) const uint QUANTS0 = 0;
layout(constant_id = WISP_C_SCALES0) const uint SCALES0 = 0;

layout(set = 0, binding = WISP_BIND_DATA) buffer Data { float data[]; };

#if defined(QKV) || defined(GATE_UP) || defined(HEAD)
#define NORMED
#endif

#ifdef QKV
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
layout(constant_id = WISP_C_ROPE_STRIDE) const uint ROPE_STRIDE = 8;
layout(constant_id = WISP_C_BIAS) const uint BIAS = 0;
layout(constant_id = WISP_C_STAGED) const uint STAGED = 0;
layout(constant_id = WISP_C_RAW_K) const uint RAW_K = 0;

#include "lib/kv_write.glsl"

const uint Q_ROWS = HEADS * HEAD_SIZE, KV_ROWS = KV_HEADS * HEAD_SIZE;

// The matrix of a row of all three; row becomes the row inside it.
Matrix matrix_of_row(inout uint row) {
  const bool is_q = row < Q_ROWS, is_k = row < Q_ROWS + KV_ROWS;
  row -= is_q ? 0u : is_k ? Q_ROWS : Q_ROWS + KV_ROWS;
  return Matrix(is_q ? LAYOUT0 : is_k ? LAYOUT1 : LAYOUT2, is_q ? QUANTS0 : is_k ? QUANTS1 : QUANTS2,
                is_q ? SCALES0 : is_k ? SCALES1 : SCALES2);
}

const bool ONE_LAYOUT = LAYOUT0 == LAYOUT1 && LAYOUT1 == LAYOUT2;

float bias(uint row) { return BIAS == 0u ? 0.0 : uintBitsToFloat(weights[BIAS + row]); }

void store_pair(uint at, vec2 pair) {
  data[at] = pair.x;
  data[at + 1u] = pair.y;
}

// What finishing a pair reads, for those who ask for it early: cosine and sine of its angle.
vec2 load_pair(uint row, uint column) {
  if (row >= Q_ROWS + KV_ROWS) return vec2(1.0, 0.0);
  const uint angle = ROPE + (steps[WISP_STEP_POSITION] + column) * ROPE_STRIDE + row % HEAD_SIZE;
  return vec2(data[angle], data[angle + 1u]);
}

// Rows `row` and `row + 1`, row even, of a token: RoPE on q and k. A pair never crosses from q to k to v: head sizes are even. turn: of
// load_pair.
vec2 turned_pair(uint row, vec2 pair, vec2 turn) {
  if (row >= Q_ROWS + KV_ROWS) return pair;
  return vec2(pair.x * turn.x - pair.y * turn.y, pair.x * turn.y + pair.y * turn.x);
}
vec2 turned_pair(uint row, uint column, vec2 pair) { return turned_pair(row, pair, load_pair(row, column)); }

// The same, k and v into the KV slot; for one of q8_0 they wait as floats for kv_store.
void finish_pair(uint row, uint column, uint position, vec2 pair, vec2 turn) {
  if (RAW_K != 0u && row < Q_ROWS + KV_ROWS) {
    store_pair(column * Y_STRIDE + (row < Q_ROWS ? Y + row : RAW_K + row - Q_ROWS), pair);
    return;
  }
  pair = turned_pair(row, pair, turn);
  if (row < Q_ROWS) {
    store_pair(Y + column * Y_STRIDE + row, pair);
    return;
  }
  if (KV_TYPE == KV_Q8_0) {
    store_pair(STAGED + column * 2u * KV_ROWS + (row - Q_ROWS), pair);
    return;
  }
  const uint element = position * 2u * KV_ROWS + (row - Q_ROWS);
  if (KV_TYPE == KV_F32) {
    kv[element] = floatBitsToUint(pair.x);
    kv[element + 1u] = floatBitsToUint(pair.y);
  } else {
    kv[element / 2u] = pack_half(pair);
  }
}

void finish_pair(uint row, uint column, vec2 pair, vec2 turn) {
  finish_pair(row, column, steps[WISP_STEP_POSITION] + column, pair, turn);
}
void finish_pair(uint row, uint column, vec2 pair) { finish_pair(row, column, pair, load_pair(row, column)); }
#else
Matrix matrix_of_row(inout uint row) { return Matrix(LAYOUT0, QUANTS0, SCALES0); }
#ifndef GATE_UP
const bool ONE_LAYOUT = true;
#endif
#endif

#ifdef GATE_UP
layout(constant_id = WISP_C_LAYOUT1) const uint LAYOUT1 = 0;
layout(constant_id = WISP_C_QUANTS1) const uint QUANTS1 = 0;
layout(constant_id = WISP_C_SCALES1) const uint SCALES1 = 0;
layout(constant_id = WISP_C_GELU) const uint GELU = 0;

const bool ONE_LAYOUT = LAYOUT0 == LAYOUT1;

void finish(uint row, uint column, float gate, float up) {
  data[Y + column * Y_STRIDE + row] = activation(gate, GELU) * up;
}
#endif

#ifdef RESIDUAL
layout(constant_id = WISP_C_ADD) const uint ADD = 1;

void finish(uint row, uint column, float sum) {
  const uint y = Y + column * Y_STRIDE + row;
  data[y] = ADD == 1u ? data[y] + sum : sum;
}

// Rows `row` and `row + 1`, row even, in two steps, so that one waits for many reads at a time.
vec2 load_pair(uint row, uint column) {
  const uint y = Y + column * Y_STRIDE + row;
  return ADD == 1u ? vec2(data[y], data[y + 1u]) : vec2(0.0);
}
void finish_pair(uint row, uint column, vec2 sums, vec2 before) {
  const uint y = Y + column * Y_STRIDE + row;
  data[y] = before.x + sums.x;
  data[y + 1u] = before.y + sums.y;
}
#endif

#ifdef HEAD
layout(constant_id = WISP_C_ROW_BEGIN) const uint ROW_BEGIN = 0;

void finish(uint row, uint column, float sum) {
  data[Y + (column - push.first_column) * Y_STRIDE + ROW_BEGIN + row] = sum;
}
#endif
