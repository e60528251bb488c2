// SPDX-License-Identifier: Apache-2.0
// Deterministic reductions over a workgroup. SUBGROUP: by shuffles inside a subgroup, then through shared memory. All invocations
// must call; every one of them gets the result; shared memory is free again afterwards.
#ifdef SUBGROUP
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_ballot : require
#extension GL_KHR_shader_subgroup_shuffle : require
#endif

#ifdef REDUCE_VEC4  // four values at a time, and nothing else
#define REDUCED vec4
#else
#define REDUCED float
#endif
shared REDUCED reduce_scratch[LOCAL];

// The slice of invocation id is the same throughout a subgroup of at most 8: saying so lets a compiler load inputs once.
uint row_slice(uint slice) {
#ifdef SUBGROUP
  if (gl_SubgroupSize <= 8u) return subgroupBroadcastFirst(slice);
#endif
  return slice;
}

#ifndef REDUCE_VEC4
// Sum over the `slices` invocations of each row: those with the same id % 8 in a run of 8 * slices.
float reduce_slices(float value, uint slices) {
  const uint id = gl_LocalInvocationID.x;
  uint inside = 1u;
#ifdef SUBGROUP
  for (; inside < slices && 8u * inside < gl_SubgroupSize; inside <<= 1) value += subgroupShuffleXor(value, 8u * inside);
#endif
  if (inside == slices) return value;
  reduce_scratch[id] = value;
  barrier();
  const uint first = id / (8u * slices) * (8u * slices) + id % 8u;
  value = 0.0;
  for (uint i = 0u; i < slices; i += inside) value += reduce_scratch[first + 8u * i];
  barrier();
  return value;
}
#endif

#ifdef SUBGROUP
#define REDUCE(OPERATION)                                                                                    \
  const uint id = gl_LocalInvocationID.x;                                                                    \
  const uint inside = min(LOCAL, gl_SubgroupSize);                                                           \
  for (uint mask = 1u; mask < inside; mask <<= 1) value = OPERATION(value, subgroupShuffleXor(value, mask)); \
  if (inside == LOCAL) return value;                                                                         \
  reduce_scratch[id] = value;                                                                                \
  barrier();                                                                                                 \
  value = reduce_scratch[0];                                                                                 \
  for (uint i = inside; i < LOCAL; i += inside) value = OPERATION(value, reduce_scratch[i]);                 \
  barrier();                                                                                                 \
  return value;
#else
#define REDUCE(OPERATION)                                                                                    \
  const uint id = gl_LocalInvocationID.x;                                                                    \
  reduce_scratch[id] = value;                                                                                \
  barrier();                                                                                                 \
  for (uint width = LOCAL >> 1; width > 0u; width >>= 1) {                                                   \
    if (id < width) reduce_scratch[id] = OPERATION(reduce_scratch[id], reduce_scratch[id + width]);          \
    barrier();                                                                                               \
  }                                                                                                          \
  value = reduce_scratch[0];                                                                                 \
  barrier();                                                                                                 \
  return value;
#endif

REDUCED plus(REDUCED a, REDUCED b) { return a + b; }
REDUCED reduce_add(REDUCED value) { REDUCE(plus) }
REDUCED reduce_max(REDUCED value) { REDUCE(max) }
