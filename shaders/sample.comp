#version 450
// SPDX-License-Identifier: Apache-2.0
// Greedy choice: the best of the head's candidates in column push.first_column, ties to the lowest id, becomes the token behind the
// batch; then the step moves on, so that the same commands can run again for the next token. One workgroup.
#extension GL_GOOGLE_include_directive : require
#include "lib/bindings.glsl"

layout(constant_id = WISP_C_CANDIDATES) const uint CANDIDATES = 0;
layout(constant_id = WISP_C_CANDIDATE_STRIDE) const uint CANDIDATE_STRIDE = 1;

layout(set = 0, binding = WISP_BIND_DATA) readonly buffer Data { float data[]; };

shared float values[WISP_MAX_LOCAL];
shared uint ids[WISP_MAX_LOCAL];

void main() {
  const uint id = gl_LocalInvocationID.x;
  float best = MINUS_INFINITY;
  uint best_id = 0u;
  for (uint i = id; i < CANDIDATE_STRIDE; i += LOCAL) {  // ascending ids: only a greater value replaces
    const uint candidate = CANDIDATES + 2u * (push.first_column * CANDIDATE_STRIDE + i);
    if (data[candidate] > best) {
      best = data[candidate];
      best_id = uint(data[candidate + 1u]);
    }
  }
  values[id] = best;
  ids[id] = best_id;
  barrier();
  for (uint half_width = LOCAL / 2u; half_width > 0u; half_width >>= 1) {
    if (id < half_width) {
      const float other = values[id + half_width];
      const uint other_id = ids[id + half_width];
      if (other > values[id] || (other == values[id] && other_id < ids[id])) {
        values[id] = other;
        ids[id] = other_id;
      }
    }
    barrier();
  }
  if (id == 0u) {
    const uint next = steps[WISP_STEP_POSITION] + steps[WISP_STEP_COUNT];
    tokens[next] = ids[0];
    steps[WISP_STEP_POSITION] = next;
    steps[WISP_STEP_COUNT] = 1u;
  }
}
