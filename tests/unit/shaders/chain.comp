#version 450
// SPDX-License-Identifier: Apache-2.0
// sums[i] = sums[i] * factor + window[i] + addend, rounds times: the result tells the order in which dispatches ran.
layout(local_size_x_id = 0) in;
layout(constant_id = 1) const uint factor = 1;
layout(constant_id = 2) const float addend = 0.0;

layout(set = 0, binding = 0) readonly buffer Window { uint window[]; };
layout(set = 0, binding = 1) buffer Sums { uint sums[]; };
layout(push_constant) uniform Push {
  uint count;
  uint rounds;
};

void main() {
  uint i = gl_GlobalInvocationID.x;
  if (i >= count) return;
  uint sum = sums[i];
  for (uint round = 0; round < rounds; round++) sum = sum * factor + window[i] + uint(addend);
  sums[i] = sum;
}
