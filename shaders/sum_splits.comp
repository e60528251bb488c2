#version 450
// SPDX-License-Identifier: Apache-2.0
// Adds up what the workgroups that shared a tile's features have left, always in the same order: y (+)= sum of x[split][column].
// Grid: (ceil(ROWS / 4 / LOCAL), columns).
#extension GL_GOOGLE_include_directive : require
#include "lib/bindings.glsl"

layout(constant_id = WISP_C_ROWS) const uint ROWS = 4;
layout(constant_id = WISP_C_X) const uint X = 0;
layout(constant_id = WISP_C_Y) const uint Y = 0;
layout(constant_id = WISP_C_ADD) const uint ADD = 1;
layout(constant_id = WISP_C_SPLITS) const uint SPLITS = 2;
layout(constant_id = WISP_C_SPLIT_COLUMNS) const uint SPLIT_COLUMNS = 1;

layout(set = 0, binding = WISP_BIND_DATA_VEC4) buffer DataVec4 { vec4 data4[]; };

void main() {
  const uint vector = gl_GlobalInvocationID.x, row = gl_WorkGroupID.y * (ROWS / 4u) + vector;
  if (vector >= ROWS / 4u) return;
  vec4 parts[SPLITS];
  [[unroll]] for (uint i = 0u; i < SPLITS; i++) parts[i] = data4[X / 4u + i * SPLIT_COLUMNS * (ROWS / 4u) + row];
  vec4 sum = parts[0];
  [[unroll]] for (uint i = 1u; i < SPLITS; i++) sum += parts[i];
  data4[Y / 4u + row] = ADD == 1u ? data4[Y / 4u + row] + sum : sum;
}
