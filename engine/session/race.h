/* SPDX-License-Identifier: Apache-2.0
 * A race of exponentials in integers, for the sampler (session/sampler.h has the definition; shaders/draw.comp does the same).
 */
#ifndef WISP_SESSION_RACE_H
#define WISP_SESSION_RACE_H

#include "session/philox.h"
#include "shared/draw.h"

static inline uint32_t wisp_high_product(uint32_t a, uint32_t b) {
  return (uint32_t)((uint64_t)a * b >> 32);
}

/* Of the n-th draw: the random words of the ids from 4 * group on. */
static inline void wisp_race_words(uint64_t seed, uint64_t n, uint32_t group, uint32_t words[4]) {
  const uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
  const uint32_t counter[4] = {(uint32_t)n, (uint32_t)(n >> 32), group, 0};
  wisp_philox(counter, key, words);
}

static inline uint32_t wisp_race_octave(uint32_t x) {
  return 31 - (uint32_t)__builtin_clz(x);
}

/* log2(x) * WISP_DRAW_OCTAVE for x > 0: log2 within 1.2e-6, not below its whole part. */
static inline uint32_t wisp_race_log2(uint32_t x) {
  const uint32_t whole = wisp_race_octave(x), y = x << (31 - whole) << 1;
  uint32_t sum = WISP_DRAW_LOG2_7;
  sum = WISP_DRAW_LOG2_6 - wisp_high_product(sum, y);
  sum = WISP_DRAW_LOG2_5 - wisp_high_product(sum, y);
  sum = WISP_DRAW_LOG2_4 - wisp_high_product(sum, y);
  sum = WISP_DRAW_LOG2_3 - wisp_high_product(sum, y);
  sum = WISP_DRAW_LOG2_2 - wisp_high_product(sum, y);
  sum = WISP_DRAW_LOG2_1 - wisp_high_product(sum, y);
  return whole * WISP_DRAW_OCTAVE + (wisp_high_product(sum, y) >> 7);
}

/* (32 + log2(-log2(u))) * WISP_DRAW_OCTAVE, u = (word | 1) / 2^32: log2 within 8e-6. */
static inline uint32_t wisp_race_arrival(uint32_t word) {
  const uint32_t u = word | 1;
  if (u < 0x80000000u) return wisp_race_log2(32 * WISP_DRAW_OCTAVE - wisp_race_log2(u)) + 8 * WISP_DRAW_OCTAVE;
  const uint32_t t = u << 1; /* near 1 the rest to 1 is what counts: -log2(u) is it times a smooth function */
  uint32_t sum = WISP_DRAW_SLOPE_5;
  sum = WISP_DRAW_SLOPE_4 - wisp_high_product(sum, t);
  sum = WISP_DRAW_SLOPE_3 - wisp_high_product(sum, t);
  sum = WISP_DRAW_SLOPE_2 - wisp_high_product(sum, t);
  sum = WISP_DRAW_SLOPE_1 - wisp_high_product(sum, t);
  sum = WISP_DRAW_SLOPE_0 - wisp_high_product(sum, t);
  return wisp_race_log2(0 - u) + (sum >> 7);
}

/* At most the arrival, and cheap: -log2(u) > 1 - u. */
static inline uint32_t wisp_race_earliest(uint32_t word) {
  return wisp_race_octave(0 - (word | 1)) * WISP_DRAW_OCTAVE;
}

#endif
