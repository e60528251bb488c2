#version 450
// SPDX-License-Identifier: Apache-2.0
// The matrix ops of decode for GPUs with caches and subgroups, where latency is all that counts: no staging, every load is issued at
// once, one barrier. Ops, grid and epilogues as in matrix.comp. A workgroup takes 8 rows; SLICES invocations share a row, each takes
// every SLICES-th block of 32 weights and reads its inputs straight from memory. Rows' sums and the norm's sum of squares meet in one
// reduction: by shuffles inside a subgroup, then through shared memory.
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_shuffle : require
#include "lib/bindings.glsl"
#include "lib/weights.glsl"
#include "lib/half.glsl"
#include "lib/activation.glsl"

layout(constant_id = WISP_C_SLICES) const uint SLICES = 8;
layout(constant_id = WISP_C_COLS) const uint COLS = 32;
layout(constant_id = WISP_C_ROWS) const uint ROWS = 1;
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
layout(constant_id = WISP_C_ROPE_STRIDE) const uint ROPE_STRIDE = 8;
layout(constant_id = WISP_C_BIAS) const uint BIAS = 0;
layout(constant_id = WISP_C_ADD) const uint ADD = 1;
layout(constant_id = WISP_C_GELU) const uint GELU = 0;

#ifdef QKV
#include "lib/kv.glsl"
layout(set = 0, binding = WISP_BIND_KV_WORD) writeonly buffer KvWord { uint kv[]; };
#endif
layout(set = 0, binding = WISP_BIND_DATA) buffer Data { float data[]; };
layout(set = 0, binding = WISP_BIND_DATA_VEC4) readonly buffer DataVec4 { vec4 data4[]; };

#if defined(QKV) || defined(GATE_UP)
#define NORMED
#endif

const uint GROUP_ROWS = LOCAL / SLICES;
const uint ROW_BLOCKS = (COLS + 31u) / 32u;
const uint ROUNDS = (ROW_BLOCKS + SLICES - 1u) / SLICES;

shared vec3 scratch[LOCAL];  // (sum of matrix 0, sum of matrix 1, sum of squares)

// Sum over the invocations of each row, for every invocation of it.
vec3 reduce_rows(vec3 value) {
  const uint id = gl_LocalInvocationID.x;
  uint inside = 1u;
  for (; SLICES % (2u * inside) == 0u && 8u * inside < gl_SubgroupSize; inside <<= 1) {
    value += subgroupShuffleXor(value, 8u * inside);
  }
  if (inside == SLICES) return value;
  scratch[id] = value;
  barrier();
  const uint first = id / (8u * SLICES) * (8u * SLICES) + id % 8u;
  value = vec3(0.0);
  for (uint i = 0u; i < SLICES; i += inside) value += scratch[first + 8u * i];
  return value;
}

float dot_block(Matrix m, uint block, vec4 x[8], float total) {
  const uint vectors = block_vectors(m.layout_id), parts = vector_parts(m.layout_id);
  const uint index = block * 8u + gl_LocalInvocationID.x % 8u;
  const uint first = m.quants + block * vectors * 8u + gl_LocalInvocationID.x % 8u;
  const vec2 scale = block_scale(m, index, true);
  float sum = 0.0, half_sum = 0.0;
  [[unroll]] for (uint i = 0u; i < vectors; i++) {
    const uvec4 v = weights4[first + 8u * i];
    [[unroll]] for (uint part = 0u; part < parts; part++) sum += dot(vector_part(m.layout_id, v, part), x[i * parts + part]);
    if (m.layout_id == WISP_LAYOUT_Q8H && i == 0u) {
      half_sum = block_scale(m, index, false).x * sum;
      sum = 0.0;
    }
  }
  return half_sum + scale.x * sum + scale.y * total;
}

void main() {
  const uint id = gl_LocalInvocationID.x;
  const uint slice = id / 8u % SLICES;
  const uint group_row = id / (8u * SLICES) * 8u + id % 8u;
  const uint row = gl_WorkGroupID.x * GROUP_ROWS + group_row;
  const uint column = push.first_column + gl_WorkGroupID.y;
  const bool writes = slice == 0u && row < ROWS;

#ifdef QKV
  const uint Q_ROWS = HEADS * HEAD_SIZE, KV_ROWS = KV_HEADS * HEAD_SIZE;
  const bool is_q = row < Q_ROWS, is_k = row < Q_ROWS + KV_ROWS;
  const Matrix m = Matrix(is_q ? LAYOUT0 : is_k ? LAYOUT1 : LAYOUT2, is_q ? QUANTS0 : is_k ? QUANTS1 : QUANTS2,
                          is_q ? SCALES0 : is_k ? SCALES1 : SCALES2);
  const uint matrix_row = row - (is_q ? 0u : is_k ? Q_ROWS : Q_ROWS + KV_ROWS);
  uint position = 0u;
  vec2 angle = vec2(1.0, 0.0);
  if (writes) {
    position = steps[WISP_STEP_POSITION] + column;
    const uint entry = ROPE + position * ROPE_STRIDE + row % HEAD_SIZE / 2u * 2u;
    if (is_k) angle = vec2(data[entry], data[entry + 1u]);
  }
#else
  const Matrix m = Matrix(LAYOUT0, QUANTS0, SCALES0);
  const uint matrix_row = row;
#endif
  const uint y = Y + column * Y_STRIDE + row;
#ifdef RESIDUAL
  const float before = ADD == 1u && writes ? data[y] : 0.0;
#endif

  vec3 sums = vec3(0.0);
  if (row < ROWS) {
    const uint x4 = (X + column * X_STRIDE) / 4u;
    [[unroll]] for (uint round = 0u; round < ROUNDS; round++) {
      const uint b = slice + round * SLICES;
      if (ROW_BLOCKS % SLICES != 0u && b >= ROW_BLOCKS) continue;
      vec4 x[8];
      float total = 0.0;
      [[unroll]] for (uint i = 0u; i < 8u; i++) {
        x[i] = vec4(0.0);
        if (COLS % 32u == 0u || 32u * b + 4u * i < COLS) {
          x[i] = data4[x4 + 8u * b + i];
#ifdef NORMED
          sums.z += dot(x[i], x[i]);
          x[i] *= uintBitsToFloat(weights4[NORM + 8u * b + i]);
#endif
        }
        total += dot(vec4(1.0), x[i]);
      }
      const uint block = matrix_row / 8u * ROW_BLOCKS + b;
      sums.x += dot_block(m, block, x, total);
#ifdef GATE_UP
      sums.y += dot_block(Matrix(LAYOUT1, QUANTS1, SCALES1), block, x, total);
#endif
    }
  }
  sums = reduce_rows(sums);
#ifdef NORMED
  const float factor = inversesqrt(sums.z / float(COLS) + EPSILON);
  sums.xy *= factor;
#endif

#if defined(RESIDUAL)
  if (writes) data[y] = before + sums.x;
#elif defined(GATE_UP)
  if (writes) data[y] = activation(sums.x, GELU) * sums.y;
#elif defined(QKV)
  if (BIAS != 0u && row < ROWS) sums.x += uintBitsToFloat(weights[BIAS + row]);
  // Rows 2i and 2i + 1 are a RoPE pair, held by neighbouring invocations.
  const float other = subgroupShuffleXor(sums.x, 1u);
  const bool odd = (id & 1u) == 1u;
  const float value = is_k ? sums.x * angle.x + (odd ? other : -other) * angle.y : sums.x;
  const float partner = subgroupShuffleXor(value, 1u);
  if (writes) {
    if (is_q) {
      data[y] = value;
    } else {
      const uint element = position * 2u * KV_ROWS + (row - Q_ROWS);  // never q8_0: its blocks are made by matrix.comp
      if (KV_TYPE == KV_F32) kv[element] = floatBitsToUint(value);
      else if (!odd) kv[element / 2u] = pack_half(vec2(value, partner));
    }
  }
#endif
}
