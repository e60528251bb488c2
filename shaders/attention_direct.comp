#version 450
// SPDX-License-Identifier: Apache-2.0
// attention.comp for GPUs with caches and subgroups (lib/attend.glsl): a workgroup takes one query head of one token, and where there are
// many positions a split of them (lib/splits.glsl). Grid: (heads, columns * SPLITS), several columns only without splits.
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_shuffle : require
#include "lib/bindings.glsl"

layout(constant_id = WISP_C_X) const uint X = 0;
layout(constant_id = WISP_C_X_STRIDE) const uint X_STRIDE = 8;
layout(constant_id = WISP_C_Y) const uint Y = 0;
layout(constant_id = WISP_C_Y_STRIDE) const uint Y_STRIDE = 8;

#include "lib/attend.glsl"
#define SPLIT_LOOP [[unroll]]
#include "lib/splits.glsl"

void main() {
  const uint id = gl_LocalInvocationID.x, head = gl_WorkGroupID.x, column = gl_WorkGroupID.y / SPLITS, split = gl_WorkGroupID.y % SPLITS;
  const Row query = load_query(X + column * X_STRIDE + head * HEAD_SIZE);
  const uint positions = steps[WISP_STEP_POSITION] + column + 1u;
  const uint first_seen = WINDOW > 0u && positions > WINDOW ? positions - WINDOW : 0u;
  const bool is_one = !is_split(positions - first_seen);
  if (is_one && split > 0u) return;
  const uvec2 range = is_one ? uvec2(first_seen, positions) : split_range(split, first_seen, positions);
  float maximum, total;
  const vec4 sum = attend(query, head, range.x, range.y, maximum, total);
  const uint y = Y + column * Y_STRIDE + head * HEAD_SIZE;
  if (is_one) {
    if (id < HEAD_SIZE / 4u) [[unroll]] for (uint e = 0u; e < 4u; e++) data[y + 4u * id + e] = floatBitsToUint(sum[e] / total);
    return;
  }
  if (id < HEAD_SIZE / 4u) {
    [[unroll]] for (uint e = 0u; e < 4u; e++) set_partial(head, split, 4u * id + e, sum[e]);
    if (id == 0u) set_share(head, split, maximum, total);
    memoryBarrierBuffer();
  }
  if (!last_to_arrive(head)) return;
  memoryBarrierBuffer();
  for (uint i = id; i < HEAD_SIZE; i += LOCAL) data[y + i] = floatBitsToUint(add_partials(head, i));
}
