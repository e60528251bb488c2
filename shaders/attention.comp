#version 450
// SPDX-License-Identifier: Apache-2.0
// Attention of one token: a = softmax(q K' * scale) V over positions 0 .. position, with the softmax kept online (Milakov and
// Gimelshein 2018) over tiles of LOCAL positions: any KV length. A workgroup takes one query head; where there are many positions, QUERIES
// heads that share a KV head, so that K and V are read once for all of them, and a split of the positions (lib/splits.glsl).
// Grid: (heads, columns * SPLITS / QUERIES); several columns only without splits. LOCAL is at least HEAD_SIZE / 2.
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
layout(constant_id = WISP_C_QUERIES) const uint QUERIES = 1;  // at most 4, a divisor of HEADS / KV_HEADS; times HEAD_SIZE at most 512

#include "lib/kv_read.glsl"
#include "lib/splits.glsl"

layout(set = 0, binding = WISP_BIND_DATA_VEC4) readonly buffer DataVec4 { vec4 data4[]; };

const uint PAIRS = HEAD_SIZE / 2u;              // pairs of V elements, one a thread
const uint SLICES = LOCAL / PAIRS;              // groups of threads that take every SLICES-th position
const uint VECTORS = HEAD_SIZE / 4u;

// What can is in shared memory: registers bound how many workgroups a phone's core takes.
shared vec4 query[QUERIES * VECTORS];  // [QUERIES][VECTORS]
shared uvec4 place;                    // first head, split, column, whether there are splits
shared float greatest[2u * QUERIES];   // score so far, before this tile and with it, in turns
shared float totals[QUERIES];          // of weights so far; seen by invocation q alone
// [QUERIES][LOCAL]: scores of the tile's positions, then exp(score - greatest), their weights; in the end the slices' sums.
shared float cells[(QUERIES > 1u ? QUERIES : 2u) * LOCAL];

// Vector i of a key times that of each of `heads` queries.
void add_products(inout vec4 sums, uint i, vec4 key, uint heads) {
  [[unroll]] for (uint q = 0u; q < QUERIES; q++) if (q < heads) sums[q] += dot(query[q * VECTORS + i], key);
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
  [[dont_unroll]] for (uint i = 0u; i < HEAD_SIZE / 8u; i++) {  // two at a time would take half of Mali's threads
    const uvec4 k = kv4[first + i];
    add_products(sums, 2u * i, vec4(unpackHalf2x16(k.x), unpackHalf2x16(k.y)), heads);
    add_products(sums, 2u * i + 1u, vec4(unpackHalf2x16(k.z), unpackHalf2x16(k.w)), heads);
  }
  return sums;
}

// In turns: what one of them goes through is free behind the other's barrier.
float greatest_of(float value, uint first) { REDUCE_THROUGH(max, cells, first) return value; }
float total_of(float value) { REDUCE_THROUGH(plus, reduce_scratch, 0u) return value; }

// Of the head's K in a row; that of its V is KV_HEADS * HEAD_SIZE further on.
uint first_element(uint head) { return head / (HEADS / KV_HEADS) * HEAD_SIZE; }

// Values of the slice's positions of the tile from begin on, times their weights.
void add_values(inout vec2 sums[QUERIES], uint begin, uint end, uint head, uint heads) {
  const uint slice = gl_LocalInvocationID.x / PAIRS, tile = min(LOCAL, end - begin);
  const uint value_pair = (first_element(head) + KV_HEADS * HEAD_SIZE) / 2u + gl_LocalInvocationID.x % PAIRS;
  for (uint i = slice; slice < SLICES && i < tile; i += SLICES) {
    const vec2 pair = load_pair(begin + i, value_pair);
    [[unroll]] for (uint q = 0u; q < QUERIES; q++) if (q < heads) sums[q] += cells[q * LOCAL + i] * pair;
  }
}

void main() {
  const uint id = gl_LocalInvocationID.x, column = gl_WorkGroupID.y / (SPLITS / QUERIES), layer = gl_WorkGroupID.y % (SPLITS / QUERIES);
  const uint positions = steps[WISP_STEP_POSITION] + column + 1u;
  const uint first_seen = WINDOW > 0u && positions > WINDOW ? positions - WINDOW : 0u;
  const bool together = is_split(positions - first_seen);
  uint head = together ? gl_WorkGroupID.x / QUERIES * QUERIES : gl_WorkGroupID.x;
  const uint heads = together ? QUERIES : 1u;
  uint split = together ? gl_WorkGroupID.x % QUERIES + QUERIES * layer : layer;
  if (!together && split > 0u) return;
  const uvec2 range = together ? split_range(split, first_seen, positions) : uvec2(first_seen, positions);

  for (uint i = id; i < heads * VECTORS; i += LOCAL) query[i] = SCALE * data4[(X + column * X_STRIDE + head * HEAD_SIZE) / 4u + i];
  if (id == 0u) place = uvec4(head, split, column, together);
  if (id < QUERIES) {
    greatest[id] = MINUS_INFINITY;
    totals[id] = 0.0;
  }
  barrier();

  vec2 sums[QUERIES];
  [[unroll]] for (uint q = 0u; q < QUERIES; q++) sums[q] = vec2(0.0);

  uint before = 0u;  // where in greatest that of the tiles before is
  for (uint begin = range.x; begin < range.y; begin += LOCAL) {
    const uint position = begin + id;
    vec4 scores = vec4(MINUS_INFINITY);
    if (position < range.y) scores = dot_key(position, first_element(head), heads);
    [[unroll]] for (uint q = 0u; q < QUERIES; q++) cells[q * LOCAL + id] = scores[q];
    [[dont_unroll]] for (uint q = 0u; q < heads; q++) {
      const float score = cells[q * LOCAL + id], maximum = max(greatest[before + q], greatest_of(score, q * LOCAL));
      const float weight = exp(score - maximum), total = total_of(weight);
      cells[q * LOCAL + id] = weight;
      if (id == q) {
        totals[q] = totals[q] * exp(greatest[before + q] - maximum) + total;  // times 0 for the first tile
        greatest[QUERIES - before + q] = maximum;
      }
    }
    barrier();
    [[unroll]] for (uint q = 0u; q < QUERIES; q++)
      if (q < heads) sums[q] *= exp(greatest[before + q] - greatest[QUERIES - before + q]);
    add_values(sums, begin, range.y, head, heads);
    before = QUERIES - before;
    barrier();
  }

  head = place.x;
  split = place.y;
  const bool meets = place.w == 1u;
  const uint y = Y + place.z * Y_STRIDE + head * HEAD_SIZE;
  [[dont_unroll]] for (uint q = 0u; q < heads; q++) {
    vec2 own = sums[0];
    [[unroll]] for (uint other = 1u; other < QUERIES; other++) if (q == other) own = sums[other];
    cells[2u * id] = own.x;
    cells[2u * id + 1u] = own.y;
    barrier();
    for (uint i = id; i < HEAD_SIZE; i += LOCAL) {
      float sum = 0.0;
      [[dont_unroll]] for (uint s = 0u; s < SLICES; s++) sum += cells[s * HEAD_SIZE + i];
      if (meets)
        set_partial(head + q, split, i, sum);
      else
        data[y + i] = floatBitsToUint(sum / totals[0]);
    }
    if (meets && id == q) set_share(head + q, split, greatest[before + q], totals[q]);
    barrier();
  }
  if (!meets) return;
  memoryBarrierBuffer();
  if (!last_to_arrive(head)) return;
  memoryBarrierBuffer();
  for (uint i = id; i < QUERIES * HEAD_SIZE; i += LOCAL)
    data[y + i] = floatBitsToUint(add_partials(head + i / HEAD_SIZE, i % HEAD_SIZE));
}
