#version 450
// SPDX-License-Identifier: Apache-2.0
// A batch's K and V from floats into a KV cache of q8_0: the batch kernels of qkv have no block of 32 rows together. An invocation
// takes two blocks, whose scales share a word. Grid: (1, ceil(columns * KV_WIDTH / 32 / LOCAL)).
#extension GL_GOOGLE_include_directive : require
#include "lib/bindings.glsl"
#include "lib/half.glsl"

layout(constant_id = WISP_C_KV_HEADS) const uint KV_HEADS = 1;
layout(constant_id = WISP_C_HEAD_SIZE) const uint HEAD_SIZE = 32;
layout(constant_id = WISP_C_STAGED) const uint STAGED = 0;

#include "lib/kv_write.glsl"

layout(set = 0, binding = WISP_BIND_DATA_VEC4) readonly buffer DataVec4 { vec4 data4[]; };

const uint PAIRS = KV_WIDTH / 32u;  // of blocks in a row

void main() {
  const uint index = gl_WorkGroupID.y * LOCAL + gl_LocalInvocationID.x;
  const uint column = index / PAIRS, pair = index % PAIRS;
  if (column >= steps[WISP_STEP_COUNT]) return;
  const uint position = steps[WISP_STEP_POSITION] + column, row = position * KV_ROW;
  uint scales = 0u;
  for (uint block = 2u * pair; block < 2u * pair + 2u; block++) {
    const uint from = STAGED / 4u + column * (KV_WIDTH / 2u) + 8u * block;
    float largest = 0.0;
    for (uint i = 0u; i < 8u; i++) {
      const vec4 sizes = abs(data4[from + i]);
      largest = max(largest, max(max(sizes.x, sizes.y), max(sizes.z, sizes.w)));
    }
    const uint bits = scale_bits(largest);
    for (uint i = 0u; i < 8u; i++) kv[row + 8u * block + i] = quants(data4[from + i], bits);
    scales |= bits << (16u * (block & 1u));
  }
  kv[row + KV_SCALES + pair] = scales;
  if (pair == 0u) pad_row(position);
}
