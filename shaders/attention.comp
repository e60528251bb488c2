#version 450
// SPDX-License-Identifier: Apache-2.0
// One query head of one token: a = softmax(q K' * scale) V over positions 0 .. position, with the softmax kept online (Milakov and
// Gimelshein 2018) over tiles of LOCAL positions: any KV length. Grid: (heads, columns). LOCAL is at
// least HEAD_SIZE / 2.
#extension GL_GOOGLE_include_directive : require
#include "lib/bindings.glsl"
#include "lib/reduce.glsl"

layout(constant_id = WISP_C_X) const uint X = 0;
layout(constant_id = WISP_C_X_STRIDE) const uint X_STRIDE = 8;
layout(constant_id = WISP_C_Y) const uint Y = 0;
layout(constant_id = WISP_C_Y_STRIDE) const uint Y_STRIDE = 8;
layout(constant_id = WISP_C_HEADS) const uint HEADS = 1;
layout(constant_id = WISP_C_KV_HEADS) const uint KV_HEADS = 1;
layout(constant_id = WISP_C_HEAD_SIZE) const uint HEAD_SIZE = 8;
layout(constant_id = WISP_C_SCALE) const float SCALE = 1.0;
layout(constant_id = WISP_C_WINDOW) const uint WINDOW = 0;

#include "lib/kv_read.glsl"

layout(set = 0, binding = WISP_BIND_DATA) buffer Data { float data[]; };

const uint PAIRS = HEAD_SIZE / 2u;              // pairs of V elements, one a thread
const uint SLICES = LOCAL / PAIRS;              // groups of threads that take every SLICES-th position

shared vec4 query[WISP_MAX_LOCAL / 2];          // [HEAD_SIZE / 4]
shared float share[WISP_MAX_LOCAL];             // exp(score - maximum) of the tile's positions
shared vec2 slices[WISP_MAX_LOCAL];

// q . elements of a position's row, a head from `element` on.
float dot_key(uint position, uint element) {
  float sum = 0.0;
  if (KV_TYPE == KV_Q8_0) {
    for (uint block = 0u; block < HEAD_SIZE / 32u; block++) {
      float quants = 0.0;
      [[unroll]] for (uint i = 0u; i < 2u; i++) {
        const uvec4 words = kv4[position * (KV_ROW / 4u) + element / 16u + 2u * block + i];
        [[unroll]] for (uint w = 0u; w < 4u; w++) quants += dot(query[8u * block + 4u * i + w], signed_bytes(words[w]));
      }
      sum += load_scale(position, element + 32u * block) * quants;
    }
    return sum;
  }
  // The address of the head's first vector is kept: a compiler does not take (element + 8 i) / 8 apart.
  const uint first = position * (KV_ROW / 4u) + element / (KV_TYPE == KV_F32 ? 4u : 8u);
  if (KV_TYPE == KV_F32) {
    for (uint i = 0u; i < HEAD_SIZE / 4u; i++) sum += dot(query[i], uintBitsToFloat(kv4[first + i]));
    return sum;
  }
  for (uint i = 0u; i < HEAD_SIZE / 8u; i++) {
    const uvec4 k = kv4[first + i];
    sum += dot(query[2u * i], vec4(unpackHalf2x16(k.x), unpackHalf2x16(k.y)));
    sum += dot(query[2u * i + 1u], vec4(unpackHalf2x16(k.z), unpackHalf2x16(k.w)));
  }
  return sum;
}

void main() {
  const uint id = gl_LocalInvocationID.x;
  const uint head = gl_WorkGroupID.x;
  const uint column = gl_WorkGroupID.y;
  const uint positions = steps[WISP_STEP_POSITION] + column + 1u;
  const uint key = head / (HEADS / KV_HEADS) * HEAD_SIZE;
  const uint value_pair = (key + KV_HEADS * HEAD_SIZE) / 2u + gl_LocalInvocationID.x % PAIRS;

  for (uint i = id; i < HEAD_SIZE / 4u; i += LOCAL) {
    const uint x = X + column * X_STRIDE + head * HEAD_SIZE + 4u * i;
    query[i] = SCALE * vec4(data[x], data[x + 1u], data[x + 2u], data[x + 3u]);
  }
  barrier();

  float maximum = MINUS_INFINITY;
  float total = 0.0;
  const uint slice = id / PAIRS;
  vec2 sum = vec2(0.0);

  const uint first_seen = WINDOW > 0u && positions > WINDOW ? positions - WINDOW : 0u;
  for (uint begin = first_seen; begin < positions; begin += LOCAL) {
    const uint position = begin + id;
    const float score = position < positions ? dot_key(position, key) : MINUS_INFINITY;
    const float new_maximum = max(maximum, reduce_max(score));
    const float weight = position < positions ? exp(score - new_maximum) : 0.0;
    const float correction = exp(maximum - new_maximum);   // 0 for the first tile
    total = total * correction + reduce_add(weight);
    maximum = new_maximum;
    share[id] = weight;
    barrier();
    const uint tile = min(LOCAL, positions - begin);
    sum *= correction;
    if (slice < SLICES)
      for (uint i = slice; i < tile; i += SLICES) sum += share[i] * load_pair(begin + i, value_pair);
    barrier();
  }

  slices[id] = sum;
  barrier();
  if (id < PAIRS) {
    vec2 result = vec2(0.0);
    for (uint s = 0u; s < SLICES; s++) result += slices[s * PAIRS + id];
    const uint y = Y + column * Y_STRIDE + head * HEAD_SIZE + 2u * id;
    data[y] = result.x / total;
    data[y + 1u] = result.y / total;
  }
}
