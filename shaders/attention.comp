#version 450
// SPDX-License-Identifier: Apache-2.0
// Attention of one token: a = softmax(q K' * scale) V over positions 0 .. position, with the softmax kept online (Milakov and
// Gimelshein 2018) over tiles of LOCAL positions: any KV length. A workgroup takes one query head; where there are many positions, QUERIES
// heads that share a KV head, so that K and V are read once for all of them, and a split of the positions (lib/splits.glsl).
// Grid: (heads, columns * SPLITS / QUERIES); several columns only without splits. LOCAL is at least HEAD_SIZE / 2.
#extension GL_GOOGLE_include_directive : require
#include "lib/bindings.glsl"
#define REDUCE_VEC4
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
layout(constant_id = WISP_C_QUERIES) const uint QUERIES = 1;  // at most 4, a divisor of HEADS / KV_HEADS; times HEAD_SIZE at most 512

#include "lib/kv_read.glsl"
#include "lib/splits.glsl"

layout(set = 0, binding = WISP_BIND_DATA_VEC4) readonly buffer DataVec4 { vec4 data4[]; };

const uint MOST_QUERIES = 4u;
const uint PAIRS = HEAD_SIZE / 2u;              // pairs of V elements, one a thread
const uint SLICES = LOCAL / PAIRS;              // groups of threads that take every SLICES-th position
const uint VECTORS = HEAD_SIZE / 4u;

shared vec4 query[QUERIES * VECTORS];  // [QUERIES][VECTORS]
shared vec4 cells[LOCAL];              // exp(score - maximum) of the tile's positions, a query each; in the end the slices' sums

// Vector i of a key times that of each of `heads` queries.
void add_products(inout vec4 sums, uint i, vec4 key, uint heads) {
  [[unroll]] for (uint q = 0u; q < MOST_QUERIES; q++) if (q < heads) sums[q] += dot(query[q * VECTORS + i], key);
}

// The queries times a position's row, a head from `element` on.
vec4 dot_key(uint position, uint element, uint heads) {
  vec4 sums = vec4(0.0);
  if (KV_TYPE == KV_Q8_0) {
    for (uint block = 0u; block < HEAD_SIZE / 32u; block++) {
      vec4 quants = vec4(0.0);
      [[unroll]] for (uint i = 0u; i < 2u; i++) {
        const uvec4 words = kv4[position * (KV_ROW / 4u) + element / 16u + 2u * block + i];
        [[unroll]] for (uint w = 0u; w < 4u; w++) add_products(quants, 8u * block + 4u * i + w, signed_bytes(words[w]), heads);
      }
      sums += load_scale(position, element + 32u * block) * quants;
    }
    return sums;
  }
  // The address of the head's first vector is kept: a compiler does not take (element + 8 i) / 8 apart.
  const uint first = position * (KV_ROW / 4u) + element / (KV_TYPE == KV_F32 ? 4u : 8u);
  if (KV_TYPE == KV_F32) {
    for (uint i = 0u; i < VECTORS; i++) add_products(sums, i, uintBitsToFloat(kv4[first + i]), heads);
    return sums;
  }
  for (uint i = 0u; i < HEAD_SIZE / 8u; i++) {
    const uvec4 k = kv4[first + i];
    add_products(sums, 2u * i, vec4(unpackHalf2x16(k.x), unpackHalf2x16(k.y)), heads);
    add_products(sums, 2u * i + 1u, vec4(unpackHalf2x16(k.z), unpackHalf2x16(k.w)), heads);
  }
  return sums;
}

// Values of the slice's positions of a tile, times their weights.
void add_values(inout vec2 sums[MOST_QUERIES], uint begin, uint tile, uint slice, uint value_pair, uint heads) {
  for (uint i = slice; i < tile; i += SLICES) {
    const vec2 pair = load_pair(begin + i, value_pair);
    const vec4 weight = cells[i];
    [[unroll]] for (uint q = 0u; q < MOST_QUERIES; q++) if (q < heads) sums[q] += weight[q] * pair;
  }
}

void main() {
  const uint id = gl_LocalInvocationID.x, column = gl_WorkGroupID.y / (SPLITS / QUERIES), layer = gl_WorkGroupID.y % (SPLITS / QUERIES);
  const uint positions = steps[WISP_STEP_POSITION] + column + 1u;
  const uint first_seen = WINDOW > 0u && positions > WINDOW ? positions - WINDOW : 0u;
  const bool together = is_split(positions - first_seen);
  const uint head = together ? gl_WorkGroupID.x / QUERIES * QUERIES : gl_WorkGroupID.x, heads = together ? QUERIES : 1u;
  const uint split = together ? gl_WorkGroupID.x % QUERIES + QUERIES * layer : layer;
  if (!together && split > 0u) return;
  const uvec2 range = together ? split_range(split, first_seen, positions) : uvec2(first_seen, positions);
  const uint key = head / (HEADS / KV_HEADS) * HEAD_SIZE;
  const uint value_pair = (key + KV_HEADS * HEAD_SIZE) / 2u + id % PAIRS;

  for (uint i = id; i < heads * VECTORS; i += LOCAL) query[i] = SCALE * data4[(X + column * X_STRIDE + head * HEAD_SIZE) / 4u + i];
  barrier();

  vec4 maximum = vec4(MINUS_INFINITY), total = vec4(0.0);  // of each query; total: of this invocation's positions
  vec2 sums[MOST_QUERIES];
  [[unroll]] for (uint q = 0u; q < MOST_QUERIES; q++) sums[q] = vec2(0.0);
  const uint slice = id / PAIRS;

  for (uint begin = range.x; begin < range.y; begin += LOCAL) {
    const uint position = begin + id, tile = min(LOCAL, range.y - begin);
    vec4 scores = vec4(MINUS_INFINITY);
    if (id < tile && together) scores = dot_key(position, key, QUERIES);
    if (id < tile && !together) scores = dot_key(position, key, 1u);
    const vec4 new_maximum = max(maximum, reduce_max(scores));
    const vec4 weights = id < tile ? exp(scores - new_maximum) : vec4(0.0);
    const vec4 correction = exp(maximum - new_maximum);  // 0 for the first tile
    total = total * correction + weights;
    maximum = new_maximum;
    cells[id] = weights;
    barrier();
    [[unroll]] for (uint q = 0u; q < MOST_QUERIES; q++) sums[q] *= correction[q];
    if (slice < SLICES && together) add_values(sums, begin, tile, slice, value_pair, QUERIES);
    if (slice < SLICES && !together) add_values(sums, begin, tile, slice, value_pair, 1u);
    barrier();
  }

  total = reduce_add(total);
  [[unroll]] for (uint q = 0u; q < MOST_QUERIES; q += 2u) {
    if (q >= heads) break;
    cells[id] = vec4(sums[q], sums[q + 1u]);
    barrier();
    if (id < PAIRS) {
      vec4 result = vec4(0.0);
      for (uint s = 0u; s < SLICES; s++) result += cells[s * PAIRS + id];
      sums[q] = result.xy;
      sums[q + 1u] = result.zw;
    }
    barrier();
  }
  const uint y = Y + column * Y_STRIDE + head * HEAD_SIZE;
  if (!together) {
    if (id < PAIRS) {
      data[y + 2u * id] = floatBitsToUint(sums[0].x / total[0]);
      data[y + 2u * id + 1u] = floatBitsToUint(sums[0].y / total[0]);
    }
    return;
  }
  [[unroll]] for (uint q = 0u; q < MOST_QUERIES; q++) {
    if (q >= QUERIES) break;
    if (id < PAIRS) {
      set_partial(head + q, split, 2u * id, sums[q].x);
      set_partial(head + q, split, 2u * id + 1u, sums[q].y);
    }
    if (id == 0u) set_share(head + q, split, maximum[q], total[q]);
  }
  memoryBarrierBuffer();
  if (!last_to_arrive(head)) return;
  memoryBarrierBuffer();
  for (uint i = id; i < QUERIES * HEAD_SIZE; i += LOCAL)
    data[y + i] = floatBitsToUint(add_partials(head + i / HEAD_SIZE, i % HEAD_SIZE));
}
