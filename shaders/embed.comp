#version 450
// SPDX-License-Identifier: Apache-2.0
// x[column] = row tokens[position + column] of the embedding. One invocation makes 4 elements; grid (cols / 4 / LOCAL, columns).
#extension GL_GOOGLE_include_directive : require
#include "lib/bindings.glsl"
#include "lib/weights.glsl"

layout(constant_id = WISP_C_COLS) const uint COLS = 32;
layout(constant_id = WISP_C_ROWS) const uint ROWS = 1;
layout(constant_id = WISP_C_ROW_BEGIN) const uint ROW_BEGIN = 0;
layout(constant_id = WISP_C_Y) const uint Y = 0;
layout(constant_id = WISP_C_Y_STRIDE) const uint Y_STRIDE = 32;
layout(constant_id = WISP_C_LAYOUT0) const uint LAYOUT0 = 0;
layout(constant_id = WISP_C_QUANTS0) const uint QUANTS0 = 0;
layout(constant_id = WISP_C_SCALES0) const uint SCALES0 = 0;
layout(constant_id = WISP_C_SCALE) const float SCALE = 1.0;

#ifdef FUSED
#include "lib/residual.glsl"
#else
layout(set = 0, binding = WISP_BIND_DATA) buffer Data { float data[]; };
#endif

void main() {
  const uint element = 4u * gl_GlobalInvocationID.x;
  const uint column = gl_WorkGroupID.y;
  const uint row = tokens[steps[WISP_STEP_POSITION] + column] - ROW_BEGIN;  // wraps far above ROWS for rows of earlier windows
  if (element >= COLS || row >= ROWS) return;
  const Matrix m = Matrix(LAYOUT0, QUANTS0, SCALES0);
  const uint block = row / 8u * ((COLS + 31u) / 32u) + element / 32u;
  const uint part = (element % 32u) / 4u, parts = vector_parts(m.layout_id);
  const uvec4 v = weights4[m.quants + (block * block_vectors(m.layout_id) + part / parts) * 8u + row % 8u];
  const vec2 scale = block_scale(m, block * 8u + row % 8u, part >= 4u);
  const vec4 values = vector_part(m.layout_id, v, part % parts) * scale.x + scale.y;
#ifdef FUSED  // one token, to the first half of the residual stream
  [[unroll]] for (uint i = 0u; i < 4u; i++) if (element + i < COLS) residual[element + i] = to_fixed(SCALE * values[i]);
#else
  const uint y = Y + column * Y_STRIDE + element;
  [[unroll]] for (uint i = 0u; i < 4u; i++) if (element + i < COLS) data[y + i] = SCALE * values[i];
#endif
}
