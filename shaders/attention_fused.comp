#version 450
// SPDX-License-Identifier: Apache-2.0
// Decode with few dispatches: attention as in attention_direct.comp, of one token, and at once the head's share of the output
// projection: M's columns of this head times what the head made, added to the residual stream (lib/residual.glsl). Grid: (heads, slices
// of M's rows); a head's workgroups all compute the same attention, and ask for their weights before it.
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_shuffle : require
#include "lib/bindings.glsl"
#include "lib/weights.glsl"
#include "lib/residual.glsl"

layout(constant_id = WISP_C_X) const uint X = 0;
layout(constant_id = WISP_C_ROWS) const uint ROWS = 1;            // of M
layout(constant_id = WISP_C_TILE_ROWS) const uint TILE_ROWS = 8;  // of them, for a workgroup
layout(constant_id = WISP_C_PARTS) const uint PARTS = 1;
layout(constant_id = WISP_C_LAYOUT0) const uint LAYOUT0 = 0;
layout(constant_id = WISP_C_QUANTS0) const uint QUANTS0 = 0;
layout(constant_id = WISP_C_SCALES0) const uint SCALES0 = 0;
layout(constant_id = WISP_C_HEADS) const uint HEADS = 1;
layout(constant_id = WISP_C_KV_HEADS) const uint KV_HEADS = 1;
layout(constant_id = WISP_C_HEAD_SIZE) const uint HEAD_SIZE = 8;
layout(constant_id = WISP_C_SCALE) const float SCALE = 1.0;
layout(constant_id = WISP_C_WINDOW) const uint WINDOW = 0;
layout(constant_id = WISP_C_SUBGROUPS) const uint SUBGROUPS = 1;   // at most so many in a workgroup

#include "lib/kv_read.glsl"

layout(set = 0, binding = WISP_BIND_DATA_VEC4) readonly buffer DataVec4 { vec4 data4[]; };

const uint TEAM = HEAD_SIZE / 8u;
const uint TEAMS = LOCAL / TEAM;
const uint AHEAD = 4u;            // positions a team reads at once

struct Softmax {                  // over the positions seen so far
  float maximum, total;
  vec4 low, high;                 // weighted values, this invocation's 8 elements
};

const uint INPUT_STRIDE = 9;
const uint ROW_UNITS = HEAD_SIZE / 32u * PARTS;   // of a row of M, for one head
const uint UNITS = TILE_ROWS * ROW_UNITS, ROUNDS = (UNITS + LOCAL - 1u) / LOCAL;
const uint MOST_AHEAD = 4u;

shared vec4 inputs[HEAD_SIZE / 32u * INPUT_STRIDE];
shared float partials[UNITS];
shared float maxima[SUBGROUPS], totals[SUBGROUPS];
shared vec4 values[SUBGROUPS * HEAD_SIZE / 4u];  // [subgroup][HEAD_SIZE / 4]

#include "lib/unit.glsl"

Softmax merge(Softmax a, Softmax b) {
  const float maximum = max(a.maximum, b.maximum);
  if (maximum == MINUS_INFINITY) return a;  // neither has seen a position
  const float x = exp(a.maximum - maximum), y = exp(b.maximum - maximum);
  return Softmax(maximum, x * a.total + y * b.total, x * a.low + y * b.low, x * a.high + y * b.high);
}

void main() {
  const uint id = gl_LocalInvocationID.x;
  const uint head = gl_WorkGroupID.x;
  const uint first_row = gl_WorkGroupID.y * TILE_ROWS;
  const uint part = id % TEAM;
  const uint key = head / (HEADS / KV_HEADS) * HEAD_SIZE + 8u * part;
  const uint value = key + KV_HEADS * HEAD_SIZE;
  const uint x = (X + head * HEAD_SIZE + 8u * part) / 4u;
  const Row query = Row(SCALE * data4[x], SCALE * data4[x + 1u]);
  const uint positions = steps[WISP_STEP_POSITION] + 1u;

  const Matrix m = Matrix(LAYOUT0, QUANTS0, SCALES0);
  Unit ahead[MOST_AHEAD];
  [[unroll]] for (uint k = 0u; k < MOST_AHEAD; k++) {
    const uint u = id + k * LOCAL, unit = u / 8u % ROW_UNITS, m_row = first_row + u / (8u * ROW_UNITS) * 8u + u % 8u;
    if (k < ROUNDS && u < UNITS && m_row < ROWS)
      ahead[k] = load_unit(m, unit_index(m_row, HEADS * HEAD_SIZE / 32u, head * (HEAD_SIZE / 32u) + unit / PARTS), unit % PARTS, PARTS);
  }

  Softmax s = Softmax(MINUS_INFINITY, 0.0, vec4(0.0), vec4(0.0));
  // Every invocation takes every round: shuffles need them all.
  const uint first_seen = WINDOW > 0u && positions > WINDOW ? positions - WINDOW : 0u;
  for (uint begin = first_seen; begin < positions; begin += AHEAD * TEAMS) {
    Row k[AHEAD], v[AHEAD];
    [[unroll]] for (uint i = 0u; i < AHEAD; i++) {
      const uint position = min(begin + i * TEAMS + id / TEAM, positions - 1u);
      k[i] = load_row(position, key);
      v[i] = load_row(position, value);
    }
    float scores[AHEAD];
    float maximum = s.maximum;
    [[unroll]] for (uint i = 0u; i < AHEAD; i++) {
      float score = dot(query.low, k[i].low) + dot(query.high, k[i].high);
      for (uint mask = 1u; mask < TEAM; mask <<= 1) score += subgroupShuffleXor(score, mask);
      scores[i] = begin + i * TEAMS + id / TEAM < positions ? score : MINUS_INFINITY;
      maximum = max(maximum, scores[i]);
    }
    if (maximum > MINUS_INFINITY) {
      const float correction = exp(s.maximum - maximum);
      s.maximum = maximum;
      s.total *= correction;
      s.low *= correction;
      s.high *= correction;
      [[unroll]] for (uint i = 0u; i < AHEAD; i++) {
        const float weight = exp(scores[i] - maximum);
        s.total += weight;
        s.low += weight * v[i].low;
        s.high += weight * v[i].high;
      }
    }
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
  if (id < HEAD_SIZE / 4u) {
    const uint subgroups = max(LOCAL / gl_SubgroupSize, 1u);
    float maximum = maxima[0];
    [[unroll]] for (uint i = 1u; i < SUBGROUPS; i++) if (i < subgroups) maximum = max(maximum, maxima[i]);
    float total = 0.0;
    vec4 sum = vec4(0.0);
    [[unroll]] for (uint i = 0u; i < SUBGROUPS; i++) {
      if (i >= subgroups) break;
      const float weight = exp(maxima[i] - maximum);
      total += weight * totals[i];
      sum += weight * values[i * (HEAD_SIZE / 4u) + id];
    }
    sum /= total;
    inputs[id / 8u * INPUT_STRIDE + id % 8u] = sum;
  }
  barrier();
  [[unroll]] for (uint k = 0u; k < MOST_AHEAD; k++) {
    const uint u = id + k * LOCAL, unit = u / 8u % ROW_UNITS, m_row = first_row + u / (8u * ROW_UNITS) * 8u + u % 8u;
    if (k < ROUNDS && u < UNITS && m_row < ROWS) {
      vec4 x[8];
      take_inputs(32u / PARTS * unit, PARTS, x);
      partials[u] = dot_unit(LAYOUT0, ahead[k], m_row, unit % PARTS, PARTS, x);
    }
  }
  barrier();
  for (uint r = id; r < TILE_ROWS; r += LOCAL) {
    float sum = 0.0;
    [[unroll]] for (uint unit = 0u; unit < ROW_UNITS; unit++) sum += partials[(r / 8u * ROW_UNITS + unit) * 8u + r % 8u];
    if (first_row + r < ROWS) atomicAdd(residual[push.residual * ROWS + first_row + r], to_fixed(sum));
  }
}
