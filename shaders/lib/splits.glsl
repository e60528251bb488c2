// SPDX-License-Identifier: Apache-2.0
// Attention of one token by several workgroups a head where there are many positions, each with a split of them. Commands are recorded
// before that is known: at fewer positions one workgroup takes all, and the others end at once. Each leaves a partial result; the last
// one to do so adds them up, in their order, so that the bits do not depend on which one that is. Nobody waits for anybody, and where
// there is one split nothing of this happens. HEADS and HEAD_SIZE are declared before.

#ifndef SPLIT_LOOP  // what hides latency on large GPUs is only more code on small ones
#define SPLIT_LOOP [[dont_unroll]]
#endif

layout(constant_id = WISP_C_SPLITS) const uint SPLITS = 1;          // of a head's positions
layout(constant_id = WISP_C_SPLIT_FROM) const uint SPLIT_FROM = 0;  // at least so many positions; SPLITS squared or more
layout(constant_id = WISP_C_PARTIALS) const uint PARTIALS = 0;  // DATA: [HEADS][SPLITS][HEAD_SIZE + 2]: weighted values, maximum, sum of weights
layout(constant_id = WISP_C_ARRIVALS) const uint ARRIVALS = 0;  // DATA: [HEADS]: partial results there are, 0 between dispatches

layout(set = 0, binding = WISP_BIND_DATA) coherent buffer Data { uint data[]; };  // floats, but for ARRIVALS

shared uint arrival;

bool is_split(uint positions) { return SPLITS > 1u && positions >= SPLIT_FROM; }

// The first position of a split and the one behind its last, of begin .. end - 1.
uvec2 split_range(uint split, uint begin, uint end) {
  const uint each = (end - begin + SPLITS - 1u) / SPLITS, first = begin + split * each;
  return uvec2(first, min(first + each, end));
}

uint partial(uint head, uint split) { return PARTIALS + (head * SPLITS + split) * (HEAD_SIZE + 2u); }

// To be followed by memoryBarrierBuffer() in the invocations that set some.
void set_partial(uint head, uint split, uint element, float value) { data[partial(head, split) + element] = floatBitsToUint(value); }
void set_share(uint head, uint split, float maximum, float total) {
  set_partial(head, split, HEAD_SIZE, maximum);
  set_partial(head, split, HEAD_SIZE + 1u, total);
}

// Whether this workgroup is the last one that comes here with that head. All its invocations must. Those that then read partial results
// begin with memoryBarrierBuffer().
bool last_to_arrive(uint head) {
  barrier();
  if (gl_LocalInvocationID.x == 0u) {
    arrival = atomicAdd(data[ARRIVALS + head], 1u);
    if (arrival + 1u == SPLITS) data[ARRIVALS + head] = 0u;
  }
  barrier();
  return arrival + 1u == SPLITS;
}

// An element of the head's result.
float add_partials(uint head, uint element) {
  float maximum = MINUS_INFINITY, total = 0.0, sum = 0.0;
  SPLIT_LOOP for (uint i = 0u; i < SPLITS; i++) maximum = max(maximum, uintBitsToFloat(data[partial(head, i) + HEAD_SIZE]));
  SPLIT_LOOP for (uint i = 0u; i < SPLITS; i++) {
    const uint at = partial(head, i);
    const float weight = exp(uintBitsToFloat(data[at + HEAD_SIZE]) - maximum);
    total += weight * uintBitsToFloat(data[at + HEAD_SIZE + 1u]);
    sum += weight * uintBitsToFloat(data[at + element]);
  }
  return sum / total;
}
