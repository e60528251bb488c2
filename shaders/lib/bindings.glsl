// SPDX-License-Identifier: Apache-2.0
// Bindings and specialisation constants that all kernels share.
#extension GL_EXT_control_flow_attributes : require
#include "shared/kernel.h"

layout(local_size_x_id = WISP_C_LOCAL) in;
layout(constant_id = WISP_C_LOCAL) const uint LOCAL = 64;

layout(set = 0, binding = WISP_BIND_WEIGHTS_VEC4) readonly buffer WeightsVec4 { uvec4 weights4[]; };
layout(set = 0, binding = WISP_BIND_WEIGHTS_WORD) readonly buffer WeightsWord { uint weights[]; };
layout(set = 0, binding = WISP_BIND_STEP) buffer Step { uint steps[]; };
layout(set = 0, binding = WISP_BIND_TOKENS) buffer Tokens { uint tokens[]; };

layout(push_constant) uniform Push {
  uint first_column;
  uint kv_stride;  // persistent: uvec4 from slot to slot of the KV cache
  uint moved;      // draw: 1: the step has moved on already, the token is its last one
  uint residual;   // fused: the half of the residual stream that an op reads
} push;

#define MINUS_INFINITY uintBitsToFloat(0xff800000u)
