// SPDX-License-Identifier: Apache-2.0
// Batch attention takes QUERIES (a define) at a time of the queries of a KV head, numbered token by token and, inside a token,
// head by head of the group that shares it.

layout(constant_id = WISP_C_X) const uint X = 0;
layout(constant_id = WISP_C_X_STRIDE) const uint X_STRIDE = 8;
layout(constant_id = WISP_C_Y) const uint Y = 0;
layout(constant_id = WISP_C_Y_STRIDE) const uint Y_STRIDE = 8;
layout(constant_id = WISP_C_HEADS) const uint HEADS = 1;
layout(constant_id = WISP_C_KV_HEADS) const uint KV_HEADS = 1;
layout(constant_id = WISP_C_HEAD_SIZE) const uint HEAD_SIZE = 8;
layout(constant_id = WISP_C_SCALE) const float SCALE = 1.0;
layout(constant_id = WISP_C_WINDOW) const uint WINDOW = 0;

#include "lib/kv_read.glsl"

layout(set = 0, binding = WISP_BIND_DATA) writeonly buffer Data { float data[]; };
layout(set = 0, binding = WISP_BIND_DATA_VEC4) readonly buffer DataVec4 { vec4 data4[]; };

const uint GROUP = HEADS / KV_HEADS;

uint query_count() { return steps[WISP_STEP_COUNT] * GROUP; }

// Queries behind the last are taken for the last.
uint query_position(uint query) { return steps[WISP_STEP_POSITION] + min(query, query_count() - 1u) / GROUP; }
uint query_element(uint array, uint stride, uint query) {
  const uint q = min(query, query_count() - 1u);
  return array + q / GROUP * stride + (gl_WorkGroupID.x * GROUP + q % GROUP) * HEAD_SIZE;
}
uint last_position(uint first) { return query_position(first + QUERIES - 1u); }

// The first position that a query sees.
uint first_seen(uint query) {
  const uint positions = query_position(query) + 1u;
  return WINDOW > 0u && positions > WINDOW ? positions - WINDOW : 0u;
}
