// SPDX-License-Identifier: Apache-2.0
// The Walsh-Hadamard transform of a block of 32, as in wisp_reference_hadamard: butterflies over all five bits, divided by sqrt(32).

// Its first two steps, which stay inside a vector, and the division.
vec4 hadamard_vector(vec4 x) {
  const vec2 even = x.xz + x.yw, odd = x.xz - x.yw;
  return 0.17677669529663689 * vec4(even.x + even.y, odd.x + odd.y, even.x - even.y, odd.x - odd.y);
}

void hadamard(inout vec4 x[8]) {
  [[unroll]] for (uint i = 0u; i < 8u; i++) x[i] = hadamard_vector(x[i]);
  [[unroll]] for (uint step = 1u; step < 8u; step <<= 1)
    [[unroll]] for (uint i = 0u; i < 8u; i++)
      if ((i & step) == 0u) {
        const vec4 a = x[i], b = x[i + step];
        x[i] = a + b;
        x[i + step] = a - b;
      }
}
