#version 450
// SPDX-License-Identifier: Apache-2.0
// Attention of a batch for GPUs with much shared memory: a workgroup takes QUERIES queries that share a KV head, a tile of TILE
// positions after the other, with the softmax kept online (Milakov and Gimelshein 2018). 16 neighbouring invocations, lanes, share
// 4 queries:
//   scores: a lane takes every 16th position of the tile      values: a lane takes every 16th group of 4 elements
// Keys and values of the tile are staged one after the other in the same place; the next ones are fetched into registers meanwhile.
// LOCAL is 4 * QUERIES; it divides TILE * HEAD_SIZE / 8. Grid: (KV_HEADS, ceil(columns * GROUP / QUERIES)).
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_shuffle : require
#define QUERIES WISP_TILE_QUERIES
#include "lib/bindings.glsl"
#include "lib/queries.glsl"

layout(constant_id = WISP_C_TILE) const uint TILE = 32;

const uint QUADS = HEAD_SIZE / 4u;
const uint LANES = 16u;
const uint POSITIONS_EACH = TILE / LANES, QUADS_EACH = (QUADS + LANES - 1u) / LANES;
const uint ROWS_EACH = TILE * HEAD_SIZE / 8u / LOCAL;  // groups of 8 elements that an invocation fetches
const uint STAGED_STRIDE = QUADS + 1u;                 // against bank conflicts

shared vec4 queries[QUERIES * QUADS];        // [QUERIES][QUADS]
shared vec4 staged[TILE * STAGED_STRIDE];    // keys or values: [TILE][QUADS]
shared vec4 shares[TILE * QUERIES / 4u];     // [TILE][QUERIES / 4]
shared vec4 exchanged[LOCAL];

Row fetched[ROWS_EACH];

// Positions behind the last are taken for the last: their shares are zero.
void fetch(uint begin, uint end, uint element) {
  [[unroll]] for (uint i = 0u; i < ROWS_EACH; i++) {
    const uint row = gl_LocalInvocationID.x + i * LOCAL;
    fetched[i] = load_row(min(begin + row / (QUADS / 2u), end - 1u), element + 8u * (row % (QUADS / 2u)));
  }
}

void stage() {
  [[unroll]] for (uint i = 0u; i < ROWS_EACH; i++) {
    const uint row = gl_LocalInvocationID.x + i * LOCAL;
    const uint first = row / (QUADS / 2u) * STAGED_STRIDE + 2u * (row % (QUADS / 2u));
    staged[first] = fetched[i].low;
    staged[first + 1u] = fetched[i].high;
  }
}

// Over the 16 lanes, for each of the 4 queries.
#define REDUCE_LANES(name, OPERATION)                                                            \
  vec4 name(vec4 value) {                                                                        \
    const uint inside = min(LANES, gl_SubgroupSize), id = gl_LocalInvocationID.x;                \
    for (uint mask = 1u; mask < inside; mask <<= 1)                                              \
      value = OPERATION(value, subgroupShuffleXor(value, mask));                                 \
    if (inside == LANES) return value;                                                           \
    exchanged[id] = value;                                                                       \
    barrier();                                                                                   \
    for (uint i = inside; i < LANES; i += inside)                                                \
      value = OPERATION(value, exchanged[id / LANES * LANES + (id + i) % LANES]);                \
    barrier();                                                                                   \
    return value;                                                                                \
  }
vec4 plus(vec4 a, vec4 b) { return a + b; }
REDUCE_LANES(lanes_add, plus)
REDUCE_LANES(lanes_max, max)

void main() {
  const uint id = gl_LocalInvocationID.x, lane = id % LANES, group = id / LANES;
  const uint first = gl_WorkGroupID.y * QUERIES;
  const uint key = gl_WorkGroupID.x * HEAD_SIZE, value = key + KV_HEADS * HEAD_SIZE;
  const uint end = last_position(first) + 1u, start = first_seen(first) / TILE * TILE;

  for (uint i = id; i < QUERIES * QUADS; i += LOCAL)
    queries[i] = SCALE * data4[query_element(X, X_STRIDE, first + i / QUADS) / 4u + i % QUADS];
  uint position[4], seen[4];  // of this invocation's queries: their own, and the first one that they see
  [[unroll]] for (uint q = 0u; q < 4u; q++) {
    position[q] = query_position(first + 4u * group + q);
    seen[q] = first_seen(first + 4u * group + q);
  }

  vec4 maximum = vec4(MINUS_INFINITY), total = vec4(0.0);
  vec4 sums[4][QUADS_EACH];
  [[unroll]] for (uint q = 0u; q < 4u; q++)
    [[unroll]] for (uint i = 0u; i < QUADS_EACH; i++) sums[q][i] = vec4(0.0);

  fetch(start, end, key);
  for (uint begin = start; begin < end; begin += TILE) {
    stage();
    barrier();
    fetch(begin, end, value);
    vec4 scores[POSITIONS_EACH];  // [position](queries)
    [[unroll]] for (uint p = 0u; p < POSITIONS_EACH; p++) scores[p] = vec4(0.0);
    for (uint i = 0u; i < QUADS; i++) {
      vec4 q[4];
      [[unroll]] for (uint j = 0u; j < 4u; j++) q[j] = queries[(4u * group + j) * QUADS + i];
      [[unroll]] for (uint p = 0u; p < POSITIONS_EACH; p++) {
        const vec4 k = staged[(lane + LANES * p) * STAGED_STRIDE + i];
        scores[p] += vec4(dot(q[0], k), dot(q[1], k), dot(q[2], k), dot(q[3], k));
      }
    }
    vec4 new_maximum = maximum;
    [[unroll]] for (uint p = 0u; p < POSITIONS_EACH; p++) {
      const uint at = begin + lane + LANES * p;
      [[unroll]] for (uint q = 0u; q < 4u; q++)
        if (at > position[q] || at < seen[q]) scores[p][q] = MINUS_INFINITY;
      new_maximum = max(new_maximum, scores[p]);
    }
    new_maximum = lanes_max(new_maximum);
    // A query that has seen nothing yet: no difference of infinities.
    const vec4 base = mix(new_maximum, vec4(0.0), equal(new_maximum, vec4(MINUS_INFINITY)));
    const vec4 correction = exp(maximum - base);
    maximum = new_maximum;
    vec4 added = vec4(0.0);
    [[unroll]] for (uint p = 0u; p < POSITIONS_EACH; p++) {
      const vec4 share = exp(scores[p] - base);
      shares[(lane + LANES * p) * (QUERIES / 4u) + group] = share;
      added += share;
    }
    total = total * correction + added;
    barrier();
    stage();
    barrier();
    if (begin + TILE < end) fetch(begin + TILE, end, key);
    [[unroll]] for (uint q = 0u; q < 4u; q++)
      [[unroll]] for (uint i = 0u; i < QUADS_EACH; i++) sums[q][i] *= correction[q];
    for (uint j = 0u; j < TILE; j++) {
      const vec4 share = shares[j * (QUERIES / 4u) + group];
      [[unroll]] for (uint i = 0u; i < QUADS_EACH; i++) {
        const vec4 v = staged[j * STAGED_STRIDE + min(lane + LANES * i, QUADS - 1u)];
        [[unroll]] for (uint q = 0u; q < 4u; q++) sums[q][i] += share[q] * v;
      }
    }
    barrier();
  }

  total = lanes_add(total);
  [[unroll]] for (uint q = 0u; q < 4u; q++) {
    const uint query = first + 4u * group + q;
    [[unroll]] for (uint i = 0u; i < QUADS_EACH; i++) {
      const uint quad = lane + LANES * i;
      if (query < query_count() && quad < QUADS) {
        const vec4 result = sums[q][i] / total[q];
        const uint y = query_element(Y, Y_STRIDE, query) + 4u * quad;
        [[unroll]] for (uint e = 0u; e < 4u; e++) data[y + e] = result[e];
      }
    }
  }
}
