#version 450
// SPDX-License-Identifier: Apache-2.0
// The residual stream of the fused kernels as floats, for the head.
#extension GL_GOOGLE_include_directive : require
#include "lib/bindings.glsl"
#include "lib/residual.glsl"

layout(constant_id = WISP_C_COLS) const uint COLS = 32;
layout(constant_id = WISP_C_Y) const uint Y = 0;

layout(set = 0, binding = WISP_BIND_DATA) buffer Data { float data[]; };

void main() {
  const uint i = gl_GlobalInvocationID.x;
  if (i < COLS) data[Y + i] = from_fixed(residual[push.residual * COLS + i]);
}
