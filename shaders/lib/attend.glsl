// SPDX-License-Identifier: Apache-2.0
// Attention of one query by a whole workgroup, on GPUs with caches and subgroups: latency is all that counts, so rows are asked for
// ahead and nothing waits inside the loop. HEAD_SIZE / 8 neighbouring invocations hold one position's key and value, 8 elements each;
// such a team takes every TEAMS-th position and keeps a softmax of its own (running maximum, sum and weighted values; Milakov and
// Gimelshein 2018); the teams meet once at the end. HEAD_SIZE / 8 is a power of two and at most the subgroup size; LOCAL is a
// multiple of the subgroup size.
// Before: bindings.glsl, the extensions of subgroup shuffles.

layout(constant_id = WISP_C_HEADS) const uint HEADS = 1;
layout(constant_id = WISP_C_KV_HEADS) const uint KV_HEADS = 1;
layout(constant_id = WISP_C_HEAD_SIZE) const uint HEAD_SIZE = 8;
layout(constant_id = WISP_C_SCALE) const float SCALE = 1.0;
layout(constant_id = WISP_C_WINDOW) const uint WINDOW = 0;
layout(constant_id = WISP_C_SUBGROUPS) const uint SUBGROUPS = 1;   // at most so many in a workgroup

#include "lib/kv_read.glsl"

layout(set = 0, binding = WISP_BIND_DATA_VEC4) readonly buffer DataVec4 { vec4 data4[]; };

const uint TEAM = HEAD_SIZE / 8u, TEAMS = LOCAL / TEAM;
const uint ROWS_AHEAD = 4u;        // positions that a team reads at once: the next ones' keys while values are added, and the other way round

struct Softmax {                  // over the positions seen so far
  float maximum, total;
  vec4 low, high;                 // weighted values, this invocation's 8 elements
};

shared float maxima[SUBGROUPS], totals[SUBGROUPS];
shared vec4 values[SUBGROUPS * HEAD_SIZE / 4u];  // [subgroup][HEAD_SIZE / 4]

Softmax merge(Softmax a, Softmax b) {
  const float maximum = max(a.maximum, b.maximum);
  if (maximum == MINUS_INFINITY) return a;  // neither has seen a position
  const float x = exp(a.maximum - maximum), y = exp(b.maximum - maximum);
  return Softmax(maximum, x * a.total + y * b.total, x * a.low + y * b.low, x * a.high + y * b.high);
}

// This invocation's part of the query of a head, 8 elements from DATA's element x on.
Row load_query(uint x) {
  const uint first = x / 4u + gl_LocalInvocationID.x % TEAM * 2u;
  return Row(SCALE * data4[first], SCALE * data4[first + 1u]);
}

uint team_position(uint first, uint i) { return first + i * TEAMS + gl_LocalInvocationID.x / TEAM; }

void load_rows(uint element, uint first, uint end, inout RawRow raw[ROWS_AHEAD]) {
  [[unroll]] for (uint i = 0u; i < ROWS_AHEAD; i++)
    raw[i] = load_raw_row(min(team_position(first, i), end - 1u), element);
}

void score_rows(Row query, uint element, uint first, uint end, RawRow raw[ROWS_AHEAD], inout float scores[ROWS_AHEAD]) {
  [[unroll]] for (uint i = 0u; i < ROWS_AHEAD; i++) {
    const Row k = unpack_row(raw[i], element);
    float score = dot(query.low, k.low) + dot(query.high, k.high);
    [[unroll]] for (uint mask = 1u; mask < TEAM; mask <<= 1) score += subgroupShuffleXor(score, mask);
    scores[i] = team_position(first, i) < end ? score : MINUS_INFINITY;
  }
}

void add_rows(inout Softmax s, uint element, RawRow raw[ROWS_AHEAD], float scores[ROWS_AHEAD]) {
  float maximum = s.maximum;
  [[unroll]] for (uint i = 0u; i < ROWS_AHEAD; i++) maximum = max(maximum, scores[i]);
  if (maximum == MINUS_INFINITY) return;
  const float correction = exp(s.maximum - maximum);
  s = Softmax(maximum, correction * s.total, correction * s.low, correction * s.high);
  [[unroll]] for (uint i = 0u; i < ROWS_AHEAD; i++) {
    const Row v = unpack_row(raw[i], element);
    const float weight = exp(scores[i] - maximum);
    s.total += weight;
    s.low += weight * v.low;
    s.high += weight * v.high;
  }
}

// Over positions begin .. end - 1, at least one, for the query of `head`: invocations id < HEAD_SIZE / 4 get the weighted values'
// elements 4 * id to 4 * id + 3, the maximum of the scores and the sum of the weights, exp(score - maximum).
vec4 attend(Row query, uint head, uint begin, uint end, out float maximum, out float total) {
  const uint id = gl_LocalInvocationID.x, part = id % TEAM;
  const uint key = head / (HEADS / KV_HEADS) * HEAD_SIZE + 8u * part, value = key + KV_HEADS * HEAD_SIZE;
  Softmax s = Softmax(MINUS_INFINITY, 0.0, vec4(0.0), vec4(0.0));
  RawRow k[ROWS_AHEAD], v[ROWS_AHEAD];
  float scores[ROWS_AHEAD];
  load_rows(key, begin, end, k);
  load_rows(value, begin, end, v);
  // Every invocation takes every round: shuffles need them all.
  for (uint first = begin; first < end; first += ROWS_AHEAD * TEAMS) {
    const uint next = first + ROWS_AHEAD * TEAMS;
    score_rows(query, key, first, end, k, scores);
    if (next < end) load_rows(key, next, end, k);
    add_rows(s, value, v, scores);
    if (next < end) load_rows(value, next, end, v);
  }

  for (uint mask = TEAM; mask < min(gl_SubgroupSize, LOCAL); mask <<= 1) {
    const Softmax other = Softmax(subgroupShuffleXor(s.maximum, mask), subgroupShuffleXor(s.total, mask),
                                  subgroupShuffleXor(s.low, mask), subgroupShuffleXor(s.high, mask));
    s = merge(s, other);
  }
  const uint subgroup = id / gl_SubgroupSize;
  if (id % gl_SubgroupSize < TEAM) {
    maxima[subgroup] = s.maximum;
    totals[subgroup] = s.total;
    values[subgroup * (HEAD_SIZE / 4u) + 2u * part] = s.low;
    values[subgroup * (HEAD_SIZE / 4u) + 2u * part + 1u] = s.high;
  }
  barrier();
  if (id >= HEAD_SIZE / 4u) return vec4(0.0);
  const uint subgroups = max(LOCAL / gl_SubgroupSize, 1u);
  maximum = maxima[0];
  [[unroll]] for (uint i = 1u; i < SUBGROUPS; i++) if (i < subgroups) maximum = max(maximum, maxima[i]);
  total = 0.0;
  vec4 sum = vec4(0.0);
  [[unroll]] for (uint i = 0u; i < SUBGROUPS; i++) {
    if (i >= subgroups) break;
    const float weight = exp(maxima[i] - maximum);
    total += weight * totals[i];
    sum += weight * values[i * (HEAD_SIZE / 4u) + id];
  }
  return sum;
}
