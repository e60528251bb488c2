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

#include "lib/attend.glsl"

const uint INPUT_STRIDE = 9;
const uint ROW_UNITS = HEAD_SIZE / 32u * PARTS;   // of a row of M, for one head
const uint UNITS = TILE_ROWS * ROW_UNITS, ROUNDS = (UNITS + LOCAL - 1u) / LOCAL;
const uint MOST_AHEAD = 4u;

shared vec4 inputs[HEAD_SIZE / 32u * INPUT_STRIDE];
shared float partials[UNITS];

#include "lib/unit.glsl"

void main() {
  const uint id = gl_LocalInvocationID.x;
  const uint head = gl_WorkGroupID.x;
  const uint first_row = gl_WorkGroupID.y * TILE_ROWS;
  const Row query = load_query(X + head * HEAD_SIZE);
  const uint positions = steps[WISP_STEP_POSITION] + 1u;

  const Matrix m = Matrix(LAYOUT0, QUANTS0, SCALES0);
  Unit ahead[MOST_AHEAD];
  [[unroll]] for (uint k = 0u; k < MOST_AHEAD; k++) {
    const uint u = id + k * LOCAL, unit = u / 8u % ROW_UNITS, m_row = first_row + u / (8u * ROW_UNITS) * 8u + u % 8u;
    if (k < ROUNDS && u < UNITS && m_row < ROWS)
      ahead[k] = load_unit(m, unit_index(m_row, HEADS * HEAD_SIZE / 32u, head * (HEAD_SIZE / 32u) + unit / PARTS), unit % PARTS, PARTS);
  }

  float maximum, total;
  const vec4 sum = attend(query, head, WINDOW > 0u && positions > WINDOW ? positions - WINDOW : 0u, positions, maximum, total);
  if (id < HEAD_SIZE / 4u) inputs[id / 8u * INPUT_STRIDE + id % 8u] = sum / total;
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
