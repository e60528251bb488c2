// SPDX-License-Identifier: Apache-2.0
// Deterministic reductions over the threads of a workgroup. SUBGROUP: by shuffles inside a subgroup, then through shared memory.
#ifdef SUBGROUP
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_shuffle : require
#endif

shared float reduce_scratch[WISP_MAX_LOCAL];

// Sum over each run of `width` neighbouring threads (a power of two that divides LOCAL); every thread of the run gets it.
// All threads must call. Leaves shared memory free for the next call.
float reduce_add(float value, uint width) {
  const uint id = gl_LocalInvocationID.x;
#ifdef SUBGROUP
  const uint inside = min(width, gl_SubgroupSize);
  for (uint mask = 1u; mask < inside; mask <<= 1) value += subgroupShuffleXor(value, mask);
  if (inside == width) return value;
  reduce_scratch[id] = value;
  barrier();
  const uint first = id & ~(width - 1u);
  value = 0.0;
  for (uint i = 0u; i < width; i += inside) value += reduce_scratch[first + i];
  barrier();
  return value;
#else
  reduce_scratch[id] = value;
  barrier();
  for (uint half_width = width >> 1; half_width > 0u; half_width >>= 1) {
    if ((id & (width - 1u)) < half_width) reduce_scratch[id] += reduce_scratch[id + half_width];
    barrier();
  }
  value = reduce_scratch[id & ~(width - 1u)];
  barrier();
  return value;
#endif
}

float reduce_max(float value) {
  const uint id = gl_LocalInvocationID.x;
#ifdef SUBGROUP
  const uint inside = min(LOCAL, gl_SubgroupSize);
  for (uint mask = 1u; mask < inside; mask <<= 1) value = max(value, subgroupShuffleXor(value, mask));
  if (inside == LOCAL) return value;
  reduce_scratch[id] = value;
  barrier();
  for (uint i = 0u; i < LOCAL; i += inside) value = max(value, reduce_scratch[i]);
  barrier();
  return value;
#else
  reduce_scratch[id] = value;
  barrier();
  for (uint half_width = LOCAL >> 1; half_width > 0u; half_width >>= 1) {
    if (id < half_width) reduce_scratch[id] = max(reduce_scratch[id], reduce_scratch[id + half_width]);
    barrier();
  }
  value = reduce_scratch[0];
  barrier();
  return value;
#endif
}
