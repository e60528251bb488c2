/* SPDX-License-Identifier: Apache-2.0 */
#include "mean.h"

#include <math.h>

void mean_add(mean *m, double value) {
  m->sum += value;
  m->sum_of_squares += value * value;
  m->count++;
}

double mean_value(const mean *m) {
  return m->sum / (double)m->count;
}

double mean_error(const mean *m) {
  const double n = (double)m->count, value = mean_value(m);
  return n > 1 ? sqrt(fmax(m->sum_of_squares - n * value * value, 0) / (n - 1) / n) : 0;
}

double log_sum_exp(const float *x, uint32_t count) {
  double largest = -INFINITY, sum = 0;
  for (uint32_t i = 0; i < count; i++) largest = fmax(largest, (double)x[i]);
  for (uint32_t i = 0; i < count; i++) sum += exp((double)x[i] - largest);
  return largest + log(sum);
}
