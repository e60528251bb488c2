#version 450
// SPDX-License-Identifier: Apache-2.0
// attention_tile.comp with cooperative matrices, for K and V in f16: scores and values are products of matrices f16 x f16 -> f32, dealt
// out to the subgroups; in between TEAM neighbouring invocations share a query, its softmax and its sums. HEAD_SIZE and TILE are
// multiples of the matrices' sizes and of 4 * TEAM. LOCAL is TEAM * QUERIES, TEAM is 4 or 8; it divides TILE * HEAD_SIZE / 8.
// Grid: (KV_HEADS, ceil(columns * GROUP / QUERIES)), the last queries first: they take longest.
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_cooperative_matrix : require
#extension GL_KHR_memory_scope_semantics : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_shuffle : require
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
#define QUERIES WISP_TILE_QUERIES
#include "lib/bindings.glsl"
#include "lib/queries.glsl"

layout(constant_id = WISP_C_TILE) const uint TILE = 32;
layout(constant_id = WISP_C_COOP_M) const uint COOP_M = 16;
layout(constant_id = WISP_C_COOP_N) const uint COOP_N = 16;
layout(constant_id = WISP_C_COOP_K) const uint COOP_K = 16;
layout(constant_id = WISP_C_SUBGROUPS) const uint SUBGROUPS = 4;
layout(constant_id = WISP_C_OUT_FACTOR) const float OUT_FACTOR = 0.0;

const uint QUADS = HEAD_SIZE / 4u;
const uint TEAM = LOCAL / QUERIES, QUADS_EACH = QUADS / TEAM, POSITIONS_EACH = TILE / TEAM;
const uint ROWS_EACH = TILE * HEAD_SIZE / 8u / LOCAL;  // groups of 8 elements that an invocation fetches
const uint STRIDE = QUADS + 2u, SHARE_STRIDE = TILE / 4u + 2u;  // vectors of a row: 16 bytes more, against bank conflicts
const uint RESULT_STRIDE = (TILE > HEAD_SIZE ? TILE : HEAD_SIZE) / 4u + 1u;
const uint SCORE_MATRICES = QUERIES / COOP_M * (TILE / COOP_N), VALUE_MATRICES = QUERIES / COOP_M * (HEAD_SIZE / COOP_N);

shared f16vec4 queries[QUERIES * STRIDE];
shared f16vec4 keys[TILE * STRIDE];
shared f16vec4 values[TILE * STRIDE];
shared f16vec4 shares[QUERIES * SHARE_STRIDE];
shared vec4 results[QUERIES * RESULT_STRIDE];  // [QUERIES]: scores of the positions, then the tile's weighted values

uvec4 fetched[ROWS_EACH];

f16vec4 halves(uint low, uint high) { return f16vec4(unpackFloat2x16(low), unpackFloat2x16(high)); }

// Positions behind the last are taken for the last: their shares are zero.
void fetch(uint begin, uint end, uint element) {
  [[unroll]] for (uint i = 0u; i < ROWS_EACH; i++) {
    const uint row = gl_LocalInvocationID.x + i * LOCAL, position = min(begin + row / (QUADS / 2u), end - 1u);
    fetched[i] = kv4[(position * 2u * KV_HEADS * HEAD_SIZE + element) / 8u + row % (QUADS / 2u)];
  }
}

#define STAGE(to)                                                                              \
  [[unroll]] for (uint i = 0u; i < ROWS_EACH; i++) {                                           \
    const uint row = gl_LocalInvocationID.x + i * LOCAL;                                       \
    const uint at = row / (QUADS / 2u) * STRIDE + 2u * (row % (QUADS / 2u));                   \
    to[at] = halves(fetched[i].x, fetched[i].y);                                               \
    to[at + 1u] = halves(fetched[i].z, fetched[i].w);                                          \
  }

void multiply_scores() {
  for (uint m = gl_SubgroupID; m < SCORE_MATRICES; m += SUBGROUPS) {
    const uint query = m % (QUERIES / COOP_M) * COOP_M, position = m / (QUERIES / COOP_M) * COOP_N;
    coopmat<float, gl_ScopeSubgroup, COOP_M, COOP_N, gl_MatrixUseAccumulator> sum =
        coopmat<float, gl_ScopeSubgroup, COOP_M, COOP_N, gl_MatrixUseAccumulator>(0.0);
    [[unroll]] for (uint k = 0u; k < HEAD_SIZE; k += COOP_K) {
      coopmat<float16_t, gl_ScopeSubgroup, COOP_M, COOP_K, gl_MatrixUseA> a;
      coopmat<float16_t, gl_ScopeSubgroup, COOP_K, COOP_N, gl_MatrixUseB> b;
      coopMatLoad(a, queries, query * STRIDE + k / 4u, STRIDE, gl_CooperativeMatrixLayoutRowMajor);
      coopMatLoad(b, keys, position * STRIDE + k / 4u, STRIDE, gl_CooperativeMatrixLayoutColumnMajor);
      sum = coopMatMulAdd(a, b, sum);
    }
    coopMatStore(sum, results, query * RESULT_STRIDE + position / 4u, RESULT_STRIDE, gl_CooperativeMatrixLayoutRowMajor);
  }
}

void multiply_values() {
  for (uint m = gl_SubgroupID; m < VALUE_MATRICES; m += SUBGROUPS) {
    const uint query = m % (QUERIES / COOP_M) * COOP_M, element = m / (QUERIES / COOP_M) * COOP_N;
    coopmat<float, gl_ScopeSubgroup, COOP_M, COOP_N, gl_MatrixUseAccumulator> sum =
        coopmat<float, gl_ScopeSubgroup, COOP_M, COOP_N, gl_MatrixUseAccumulator>(0.0);
    [[unroll]] for (uint k = 0u; k < TILE; k += COOP_K) {
      coopmat<float16_t, gl_ScopeSubgroup, COOP_M, COOP_K, gl_MatrixUseA> a;
      coopmat<float16_t, gl_ScopeSubgroup, COOP_K, COOP_N, gl_MatrixUseB> b;
      coopMatLoad(a, shares, query * SHARE_STRIDE + k / 4u, SHARE_STRIDE, gl_CooperativeMatrixLayoutRowMajor);
      coopMatLoad(b, values, k * STRIDE + element / 4u, STRIDE, gl_CooperativeMatrixLayoutRowMajor);
      sum = coopMatMulAdd(a, b, sum);
    }
    coopMatStore(sum, results, query * RESULT_STRIDE + element / 4u, RESULT_STRIDE, gl_CooperativeMatrixLayoutRowMajor);
  }
}

void main() {
  const uint id = gl_LocalInvocationID.x, mine = id / TEAM, lane = id % TEAM;
  const uint first = (gl_NumWorkGroups.y - 1u - gl_WorkGroupID.y) * QUERIES;
  const uint key = gl_WorkGroupID.x * HEAD_SIZE, value = key + KV_HEADS * HEAD_SIZE;
  const uint end = last_position(first) + 1u, start = first_seen(first) / TILE * TILE;
  const uint position = query_position(first + mine), seen = first_seen(first + mine);

  for (uint i = id; i < QUERIES * QUADS; i += LOCAL)
    queries[i / QUADS * STRIDE + i % QUADS] = f16vec4(SCALE * data4[query_element(X, X_STRIDE, first + i / QUADS) / 4u + i % QUADS]);

  float maximum = MINUS_INFINITY, total = 0.0;
  vec4 sums[QUADS_EACH];  // elements 4 (lane + TEAM i) .. of the query
  [[unroll]] for (uint i = 0u; i < QUADS_EACH; i++) sums[i] = vec4(0.0);

  fetch(start, end, key);
  for (uint begin = start; begin < end; begin += TILE) {
    STAGE(keys)
    barrier();
    fetch(begin, end, value);
    multiply_scores();
    barrier();
    vec4 scores[POSITIONS_EACH / 4u];  // of positions 4 (lane + TEAM i) ..
    float new_maximum = maximum;
    [[unroll]] for (uint i = 0u; i < POSITIONS_EACH / 4u; i++) {
      const uint quad = lane + TEAM * i;
      scores[i] = results[mine * RESULT_STRIDE + quad];
      [[unroll]] for (uint e = 0u; e < 4u; e++) {
        const uint at = begin + 4u * quad + e;
        if (at > position || at < seen) scores[i][e] = MINUS_INFINITY;
        new_maximum = max(new_maximum, scores[i][e]);
      }
    }
    [[unroll]] for (uint i = 1u; i < TEAM; i *= 2u) new_maximum = max(new_maximum, subgroupShuffleXor(new_maximum, i));
    const float base = new_maximum > MINUS_INFINITY ? new_maximum : 0.0;  // nothing seen yet: no difference of infinities
    const float correction = exp(maximum - base);
    maximum = new_maximum;
    total *= correction;
    [[unroll]] for (uint i = 0u; i < POSITIONS_EACH / 4u; i++) {
      const f16vec4 share = f16vec4(exp(scores[i] - base));
      shares[mine * SHARE_STRIDE + lane + TEAM * i] = share;
      total += dot(vec4(share), vec4(1.0));  // of the shares as they are multiplied
    }
    STAGE(values)
    barrier();
    if (begin + TILE < end) fetch(begin + TILE, end, key);
    multiply_values();
    barrier();
    [[unroll]] for (uint i = 0u; i < QUADS_EACH; i++)
      sums[i] = correction * sums[i] + results[mine * RESULT_STRIDE + lane + TEAM * i];
  }

  [[unroll]] for (uint i = 1u; i < TEAM; i *= 2u) total += subgroupShuffleXor(total, i);
  if (first + mine >= query_count()) return;
  const uint y = Y + (first + mine) / GROUP * Y_STRIDE, head = gl_WorkGroupID.x * GROUP + (first + mine) % GROUP;
  [[unroll]] for (uint i = 0u; i < QUADS_EACH; i++) {
    const vec4 result = sums[i] / total;
    const uint element = head * HEAD_SIZE + 4u * (lane + TEAM * i);
    if (OUT_FACTOR == 0.0) {
      [[unroll]] for (uint e = 0u; e < 4u; e++) data[y + element + e] = result[e];
    } else {
      data[y + element / 2u] = uintBitsToFloat(packFloat2x16(f16vec2(result.xy / OUT_FACTOR)));
      data[y + element / 2u + 1u] = uintBitsToFloat(packFloat2x16(f16vec2(result.zw / OUT_FACTOR)));
    }
  }
}
