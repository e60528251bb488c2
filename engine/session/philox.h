/* SPDX-License-Identifier: Apache-2.0
 * Philox 4x32-10, a counter-based random generator: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011. */
#ifndef WISP_SESSION_PHILOX_H
#define WISP_SESSION_PHILOX_H

#include <stdint.h>

/* Four random words for a counter and a key. words may be counter. */
static inline void wisp_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t words[4]) {
  uint32_t a = counter[0], b = counter[1], c = counter[2], d = counter[3], k0 = key[0], k1 = key[1];
  for (int round = 0; round < 10; round++) {
    uint64_t p0 = (uint64_t)0xD2511F53 * a, p1 = (uint64_t)0xCD9E8D57 * c;
    a = (uint32_t)(p1 >> 32) ^ b ^ k0;
    b = (uint32_t)p1;
    c = (uint32_t)(p0 >> 32) ^ d ^ k1;
    d = (uint32_t)p0;
    k0 += 0x9E3779B9; /* golden ratio */
    k1 += 0xBB67AE85; /* sqrt(3) - 1 */
  }
  words[0] = a;
  words[1] = b;
  words[2] = c;
  words[3] = d;
}

#endif
