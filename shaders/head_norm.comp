#version 450
// SPDX-License-Identifier: Apache-2.0
// What is left of QKV in a batch where heads are normed: q and k are there as the product left them (WISP_C_RAW_K); each of their heads
// is normed, then RoPE, k into the KV slot. Grid: (heads + KV heads, columns), LOCAL = HEAD_SIZE / 2, so an invocation has a pair.
#extension GL_GOOGLE_include_directive : require
#define QKV
#include "lib/bindings.glsl"
#include "lib/weights.glsl"
#include "lib/half.glsl"
#include "lib/reduce.glsl"
#include "lib/epilogue.glsl"

layout(constant_id = WISP_C_X) const uint X = 0;  // k
layout(constant_id = WISP_C_EPSILON) const float EPSILON = 0.0;
layout(constant_id = WISP_C_HEAD_NORM) const uint HEAD_NORM = 1;

void main() {
  const uint in_head = 2u * gl_LocalInvocationID.x, row = gl_WorkGroupID.x * HEAD_SIZE + in_head, column = gl_WorkGroupID.y;
  const bool is_q = row < Q_ROWS;
  const uint from = column * Y_STRIDE + (is_q ? Y + row : X + row - Q_ROWS);
  const vec2 pair = vec2(data[from], data[from + 1u]);
  const float factor = inversesqrt(reduce_add(dot(pair, pair)) / float(HEAD_SIZE) + EPSILON);
  vec2 weight = vec2(1.0);  // then the norm comes behind RoPE, which keeps a head's length: the factor is the same
  if (HEAD_NORM != 1u) {
    const uint first = HEAD_NORM + (is_q ? 0u : HEAD_SIZE) + in_head;
    weight = vec2(uintBitsToFloat(weights[first]), uintBitsToFloat(weights[first + 1u]));
  }
  finish_pair(row, column, factor * weight * pair);
}
