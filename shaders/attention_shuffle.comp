#version 450
// SPDX-License-Identifier: Apache-2.0
// Attention of a batch (prefill) for processors on which a shuffle is much cheaper than a load: a subgroup takes QUERIES queries
// that share a KV head, so that keys and values are read once for all of them.
//   scores: an invocation takes one position of LOCAL and reads its key; shuffles hand round the queries
//   values: an invocation takes CHUNKS times 8 elements of the values; shuffles hand round the weights of the positions
// Softmax kept online as in attention.comp. LOCAL is the subgroup size, at least 8.
// Grid: (KV_HEADS, ceil(columns * GROUP / QUERIES)).
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_shuffle : require
#include "lib/bindings.glsl"
#include "lib/queries.glsl"

const uint PARTS = (HEAD_SIZE + 31u) / 32u;                     // groups of 8 vec4 in a query
const uint CHUNKS = (HEAD_SIZE / 8u + LOCAL - 1u) / LOCAL;

void main() {
  const uint lane = gl_SubgroupInvocationID;
  const uint first = gl_WorkGroupID.y * QUERIES;
  const uint key = gl_WorkGroupID.x * HEAD_SIZE, value = key + KV_HEADS * HEAD_SIZE;
  const uint end = last_position(first) + 1u, start = first_seen(first);

  vec4 held[QUERIES][PARTS];  // vec4 lane % 8 of each part of each query
  vec4 low[QUERIES][CHUNKS], high[QUERIES][CHUNKS];
  float maximum[QUERIES], total[QUERIES];
  [[unroll]] for (uint q = 0u; q < QUERIES; q++) {
    const uint x = query_element(X, X_STRIDE, first + q) / 4u;
    [[unroll]] for (uint p = 0u; p < PARTS; p++) {
      const uint vector = 8u * p + lane % 8u;
      held[q][p] = 4u * vector < HEAD_SIZE ? SCALE * data4[x + min(vector, HEAD_SIZE / 4u - 1u)] : vec4(0.0);
    }
    [[unroll]] for (uint i = 0u; i < CHUNKS; i++) low[q][i] = high[q][i] = vec4(0.0);
    maximum[q] = MINUS_INFINITY;
    total[q] = 0.0;
  }

  for (uint begin = start; begin < end; begin += LOCAL) {
    const uint position = begin + lane;
    float shares[QUERIES];  // first the scores
    [[unroll]] for (uint q = 0u; q < QUERIES; q++) shares[q] = 0.0;
    [[unroll]] for (uint p = 0u; p < PARTS; p++) {
      const uint chunks = min(4u, HEAD_SIZE / 8u - 4u * p);
      for (uint i = 0u; i < chunks; i++) {
        const Row k = load_row(min(position, end - 1u), key + 32u * p + 8u * i);
        [[unroll]] for (uint q = 0u; q < QUERIES; q++)
          shares[q] += dot(subgroupShuffle(held[q][p], 2u * i), k.low) + dot(subgroupShuffle(held[q][p], 2u * i + 1u), k.high);
      }
    }
    [[unroll]] for (uint q = 0u; q < QUERIES; q++) {
      if (position > query_position(first + q) || position < first_seen(first + q)) shares[q] = MINUS_INFINITY;
      float new_maximum = max(maximum[q], shares[q]);
      for (uint mask = 1u; mask < LOCAL; mask <<= 1) new_maximum = max(new_maximum, subgroupShuffleXor(new_maximum, mask));
      const float base = WINDOW > 0u && new_maximum == MINUS_INFINITY ? 0.0 : new_maximum;  // nothing seen yet: no inf - inf
      const float correction = exp(maximum[q] - base);  // 0 for the first round
      shares[q] = exp(shares[q] - base);
      total[q] = total[q] * correction + shares[q];
      maximum[q] = new_maximum;
      [[unroll]] for (uint i = 0u; i < CHUNKS; i++) {
        low[q][i] *= correction;
        high[q][i] *= correction;
      }
    }
    const uint count = min(LOCAL, end - begin);
    for (uint j = 0u; j < count; j++) {
      Row v[CHUNKS];
      [[unroll]] for (uint i = 0u; i < CHUNKS; i++)
        v[i] = load_row(begin + j, value + 8u * min(i * LOCAL + lane, HEAD_SIZE / 8u - 1u));
      [[unroll]] for (uint q = 0u; q < QUERIES; q++) {
        const float weight = subgroupShuffle(shares[q], j);
        [[unroll]] for (uint i = 0u; i < CHUNKS; i++) {
          low[q][i] += weight * v[i].low;
          high[q][i] += weight * v[i].high;
        }
      }
    }
  }

  [[unroll]] for (uint q = 0u; q < QUERIES; q++) {
    for (uint mask = 1u; mask < LOCAL; mask <<= 1) total[q] += subgroupShuffleXor(total[q], mask);
    [[unroll]] for (uint i = 0u; i < CHUNKS; i++) {
      const uint chunk = i * LOCAL + lane;
      if (first + q < query_count() && chunk < HEAD_SIZE / 8u) {
        const uint y = query_element(Y, Y_STRIDE, first + q) + 8u * chunk;
        [[unroll]] for (uint e = 0u; e < 4u; e++) {
          data[y + e] = low[q][i][e] / total[q];
          data[y + 4u + e] = high[q][i][e] / total[q];
        }
      }
    }
  }
}
