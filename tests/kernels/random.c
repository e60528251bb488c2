/* SPDX-License-Identifier: Apache-2.0 */
#include "random.h"

/* SplitMix64 (Steele, Lea and Flood 2014). */
uint64_t random_next(uint64_t *state) {
  uint64_t z = *state += 0x9e3779b97f4a7c15u;
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
  z = (z ^ z >> 27) * 0x94d049bb133111ebu;
  return z ^ z >> 31;
}

uint32_t random_below(uint64_t *state, uint32_t limit) {
  return (uint32_t)((random_next(state) >> 32) * limit >> 32);
}

/* The sum of twelve uniform numbers (Irwin-Hall): no logarithm whose bits differ between C libraries. */
float random_normal(uint64_t *state) {
  uint32_t sum = 0;
  for (int i = 0; i < 3; i++) {
    const uint64_t word = random_next(state);
    for (int j = 0; j < 4; j++) sum += (uint32_t)(word >> 16 * j & 0xffff);
  }
  return (float)sum / 65536.0f - 6.0f;
}

void random_fill(uint64_t *state, float *values, size_t count) {
  for (size_t i = 0; i < count; i++) {
    const uint32_t kind = random_below(state, 8);
    values[i] = kind == 0 ? 0 : random_normal(state) * (kind == 1 ? 16.0f : 1.0f);
  }
}
