// SPDX-License-Identifier: Apache-2.0
// Deterministic reductions over a workgroup. SUBGROUP: by shuffles inside a subgroup, then through shared memory. All invocations
// must call; every one of them gets the result; shared memory is free again afterwards.
#ifdef SUBGROUP
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_ballot : require
#extension GL_KHR_shader_subgroup_shuffle : require
#endif

shared float reduce_scratch[LOCAL];

// The slice of invocation id is the same throughout a subgroup of at most 8: saying so lets a compiler load inputs once.
uint row_slice(uint slice) {
#ifdef SUBGROUP
  if (gl_SubgroupSize <= 8u) return subgroupBroadcastFirst(slice);
#endif
  return slice;
}

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

// The body of a reduction of `value`, but for its end: through SCRATCH[FIRST ..], which is free again behind the next barrier only.
#ifdef SUBGROUP
#define REDUCE_THROUGH(OPERATION, SCRATCH, FIRST)                                                              \
  const uint id = gl_LocalInvocationID.x;                                                                      \
  const uint inside = min(LOCAL, gl_SubgroupSize);                                                             \
  for (uint mask = 1u; mask < inside; mask <<= 1) value = OPERATION(value, subgroupShuffleXor(value, mask));   \
  if (inside == LOCAL) return value;                                                                           \
  SCRATCH[FIRST + id] = value;                                                                                 \
  barrier();                                                                                                   \
  value = SCRATCH[FIRST];                                                                                      \
  for (uint i = inside; i < LOCAL; i += inside) value = OPERATION(value, SCRATCH[FIRST + i]);
#else
#define REDUCE_THROUGH(OPERATION, SCRATCH, FIRST)                                                              \
  const uint id = gl_LocalInvocationID.x;                                                                      \
  SCRATCH[FIRST + id] = value;                                                                                 \
  barrier();                                                                                                   \
  for (uint width = LOCAL >> 1; width > 0u; width >>= 1) {                                                     \
    if (id < width) SCRATCH[FIRST + id] = OPERATION(SCRATCH[FIRST + id], SCRATCH[FIRST + id + width]);         \
    barrier();                                                                                                 \
  }                                                                                                            \
  value = SCRATCH[FIRST];
#endif
#define REDUCE(OPERATION)                        \
  REDUCE_THROUGH(OPERATION, reduce_scratch, 0u)  \
  barrier();                                     \
  return value;

float plus(float a, float b) { return a + b; }
float reduce_add(float value) { REDUCE(plus) }
float reduce_max(float value) { REDUCE(max) }
