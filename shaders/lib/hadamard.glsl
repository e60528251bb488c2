// SPDX-License-Identifier: Apache-2.0
// The Walsh-Hadamard transform of a block of 32, as in wisp_reference_hadamard: butterflies over all five bits, divided by sqrt(32).

void hadamard(inout vec4 x[8]) {
  [[unroll]] for (uint i = 0u; i < 8u; i++) {
    const vec2 even = x[i].xz + x[i].yw, odd = x[i].xz - x[i].yw;
    x[i] = 0.17677669529663689 * vec4(even.x + even.y, odd.x + odd.y, even.x - even.y, odd.x - odd.y);
  }
  [[unroll]] for (uint step = 1u; step < 8u; step <<= 1)
    [[unroll]] for (uint i = 0u; i < 8u; i++)
      if ((i & step) == 0u) {
        const vec4 a = x[i], b = x[i + step];
        x[i] = a + b;
        x[i + step] = a - b;
      }
}
