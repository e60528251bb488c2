/* SPDX-License-Identifier: Apache-2.0
 * Means with their standard errors, and the logarithm of a softmax's denominator. */
#ifndef WISP_TOOLS_MEAN_H
#define WISP_TOOLS_MEAN_H

#include <stdint.h>

typedef struct mean {
  double sum, sum_of_squares;
  uint64_t count;
} mean;

void mean_add(mean *m, double value);
double mean_value(const mean *m);
double mean_error(const mean *m); /* standard error, values taken as independent; 0 for fewer than two */

/* ln sum exp(x[i]) */
double log_sum_exp(const float *x, uint32_t count);

#endif
