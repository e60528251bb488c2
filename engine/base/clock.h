/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WISP_BASE_CLOCK_H
#define WISP_BASE_CLOCK_H

#include <time.h>

/* Seconds since some fixed moment, never going back. */
static inline double wisp_now_s(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

#endif
