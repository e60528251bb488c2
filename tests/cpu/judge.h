/* SPDX-License-Identifier: Apache-2.0
 * What the checks of CPU kernels share: guarded memory, comparing, counting. */
#ifndef WISP_CPU_CHECK_JUDGE_H
#define WISP_CPU_CHECK_JUDGE_H

#include "cpu/kernel_sets.h"
#include "kernels/random.h"

/* One kernel of one set: the worst of its cases. */
typedef struct judge {
  const char *set, *kernel;
  uint32_t cases, failures;
  double worst; /* error as a share of its bound */
} judge;

/* count floats (4-byte words) with a band of a known pattern on either side; the values are NaN until written. */
float *guarded_alloc(size_t count);
bool guarded_intact(const float *values, size_t count); /* the bands */
void guarded_free(float *values);

/* A case: |found - expected| <= bound for each of count (NaN only where expected), and the bands of found whole. */
void judge_floats(judge *j, const float *found, const double *expected, const double *bound, size_t count, const char *what);

/* A case that holds or does not. */
void judge_that(judge *j, bool holds, const char *what);

/* Prints the line of j and adds it to the totals. */
void judge_done(const judge *j);

extern uint32_t judge_passed, judge_failed; /* kernels */

void check_products(const wisp_cpu_kernels *kernels, uint64_t seed);
void check_vectors(const wisp_cpu_kernels *kernels, uint64_t seed);

/* Times products by processor time, which other programs on the machine disturb least. */
void bench_products(const wisp_cpu_kernels *kernels);
void bench_attention(const wisp_cpu_kernels *kernels);

#endif
