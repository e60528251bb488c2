#version 450
// SPDX-License-Identifier: Apache-2.0
// Attention of a batch (prefill): a workgroup takes QUERIES queries that share a KV head, so that keys and values are read once
// for all of them. Softmax kept online over tiles of LOCAL positions as in attention.comp; in each tile
//   scores:  an invocation takes a position, all queries
//   softmax: SHARERS invocations take a query
//   values:  an invocation takes 4 elements, all queries, and every SLICES-th position
// LOCAL is a multiple of QUERIES, at least HEAD_SIZE / 4. Grid: (KV_HEADS, ceil(columns * GROUP / QUERIES)).
#extension GL_GOOGLE_include_directive : require
#include "lib/bindings.glsl"
#include "lib/queries.glsl"

const uint QUADS = HEAD_SIZE / 4u;
const uint SLICES = LOCAL / QUADS;
const uint SHARERS = LOCAL / QUERIES;

shared vec4 queries[QUERIES * HEAD_SIZE / 4u];  // [QUERIES][QUADS]
shared float shares[QUERIES * LOCAL];          // [QUERIES][LOCAL]; first the scores
shared float partials[LOCAL];                   // [QUERIES][SHARERS]
shared float corrections[QUERIES];
shared vec4 slices[LOCAL];                      // [SLICES][QUADS]

void main() {
  const uint id = gl_LocalInvocationID.x;
  const uint first = gl_WorkGroupID.y * QUERIES;
  const uint key = gl_WorkGroupID.x * HEAD_SIZE, value = key + KV_HEADS * HEAD_SIZE;
  const uint end = last_position(first) + 1u, start = first_seen(first);
  const uint mine = id / SHARERS;  // query of this invocation's share of the softmax
  const uint quad = id % QUADS, slice = id / QUADS;

  for (uint i = id; i < QUERIES * QUADS; i += LOCAL)
    queries[i] = SCALE * data4[query_element(X, X_STRIDE, first + i / QUADS) / 4u + i % QUADS];
  barrier();

  float maximum = MINUS_INFINITY, total = 0.0;
  vec4 sums[QUERIES];
  [[unroll]] for (uint q = 0u; q < QUERIES; q++) sums[q] = vec4(0.0);

  for (uint begin = start; begin < end; begin += LOCAL) {
    float scores[QUERIES];
    [[unroll]] for (uint q = 0u; q < QUERIES; q++) scores[q] = 0.0;
    for (uint i = 0u; i < HEAD_SIZE / 8u; i++) {
      const Row k = load_row(min(begin + id, end - 1u), key + 8u * i);
      [[unroll]] for (uint q = 0u; q < QUERIES; q++)
        scores[q] += dot(queries[q * QUADS + 2u * i], k.low) + dot(queries[q * QUADS + 2u * i + 1u], k.high);
    }
    [[unroll]] for (uint q = 0u; q < QUERIES; q++) {
      const bool in_window = WINDOW == 0u || begin + id >= first_seen(first + q);
      shares[q * LOCAL + id] = begin + id <= query_position(first + q) && in_window ? scores[q] : MINUS_INFINITY;
    }
    barrier();

    float new_maximum = maximum;
    for (uint i = 0u; i < QUERIES; i++) new_maximum = max(new_maximum, shares[mine * LOCAL + i * SHARERS + id % SHARERS]);
    partials[id] = new_maximum;
    barrier();
    for (uint i = 0u; i < SHARERS; i++) new_maximum = max(new_maximum, partials[mine * SHARERS + i]);
    const float base = WINDOW > 0u && new_maximum == MINUS_INFINITY ? 0.0 : new_maximum;  // nothing seen yet: no inf - inf
    const float correction = exp(maximum - base);  // 0 for the first tile
    maximum = new_maximum;
    total *= correction;
    for (uint i = 0u; i < QUERIES; i++) {
      const uint at = mine * LOCAL + i * SHARERS + id % SHARERS;
      const float weight = exp(shares[at] - base);
      shares[at] = weight;
      total += weight;
    }
    if (id % SHARERS == 0u) corrections[mine] = correction;
    barrier();

    [[unroll]] for (uint q = 0u; q < QUERIES; q++) sums[q] *= corrections[q];
    const uint count = min(LOCAL, end - begin);
    if (slice < SLICES)
      for (uint j = slice; j < count; j += SLICES) {
        const vec4 v = load_quad(begin + j, value + 4u * quad);
        [[unroll]] for (uint q = 0u; q < QUERIES; q++) sums[q] += shares[q * LOCAL + j] * v;
      }
    barrier();
  }

  partials[id] = total;
  [[unroll]] for (uint q = 0u; q < QUERIES; q++) {
    slices[id] = sums[q];
    barrier();
    if (id < QUADS && first + q < query_count()) {
      vec4 result = vec4(0.0);
      for (uint s = 0u; s < SLICES; s++) result += slices[s * QUADS + id];
      float all = 0.0;
      for (uint i = 0u; i < SHARERS; i++) all += partials[q * SHARERS + i];
      const uint y = query_element(Y, Y_STRIDE, first + q) + 4u * id;
      [[unroll]] for (uint e = 0u; e < 4u; e++) data[y + e] = result[e] / all;
    }
    barrier();
  }
}
