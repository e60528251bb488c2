#version 450
// SPDX-License-Identifier: Apache-2.0
// y += rmsnorm(x): what attention or the feed-forward network adds, normed first. One workgroup a column.
#extension GL_GOOGLE_include_directive : require
#include "lib/bindings.glsl"
#include "lib/reduce.glsl"

layout(constant_id = WISP_C_COLS) const uint COLS = 4;
layout(constant_id = WISP_C_X) const uint X = 0;
layout(constant_id = WISP_C_X_STRIDE) const uint X_STRIDE = 4;
layout(constant_id = WISP_C_Y) const uint Y = 0;
layout(constant_id = WISP_C_Y_STRIDE) const uint Y_STRIDE = 4;
layout(constant_id = WISP_C_NORM) const uint NORM = 0;
layout(constant_id = WISP_C_EPSILON) const float EPSILON = 0.0;

layout(set = 0, binding = WISP_BIND_DATA) buffer Data { float data[]; };

void main() {
  const uint x = X + gl_WorkGroupID.y * X_STRIDE, y = Y + gl_WorkGroupID.y * Y_STRIDE;
  float squares = 0.0;
  for (uint i = gl_LocalInvocationID.x; i < COLS; i += LOCAL) squares += data[x + i] * data[x + i];
  const float factor = inversesqrt(reduce_add(squares) / float(COLS) + EPSILON);
  for (uint i = gl_LocalInvocationID.x; i < COLS; i += LOCAL)
    data[y + i] += factor * uintBitsToFloat(weights[4u * NORM + i]) * data[x + i];
}
