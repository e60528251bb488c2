/* SPDX-License-Identifier: Apache-2.0 */
#include "truth/compare.h"

#include <math.h>

/* Sums for the NMSE without means, in double. */
typedef struct sums {
  double x, truth, difference2, truth2;
  uint32_t count;
} sums;

static void add(sums *s, double x, double truth) {
  s->x += x;
  s->truth += truth;
  s->difference2 += (x - truth) * (x - truth);
  s->truth2 += truth * truth;
  s->count++;
}

static double nmse(const sums *s) {
  const double n = s->count, shift = s->x - s->truth;
  return (s->difference2 - shift * shift / n) / (s->truth2 - s->truth * s->truth / n);
}

double compare_nmse(const float *x, const float *truth, uint32_t count) {
  sums s = {0};
  for (uint32_t i = 0; i < count; i++) add(&s, (double)x[i], (double)truth[i]);
  return nmse(&s);
}

double compare_nmse_stored(const float *x, const truth_row *stored) {
  sums s = {0};
  for (uint32_t i = 0; i < stored->count; i++) add(&s, (double)x[stored->ids[i]], (double)stored->logits[i]);
  return nmse(&s);
}

int32_t compare_argmax(const float *logits, uint32_t count) {
  int32_t best = -1;
  for (uint32_t i = 0; i < count; i++)
    if (best < 0 ? logits[i] == logits[i] : logits[i] > logits[best]) best = (int32_t)i;
  return best;
}

double compare_gap_stored(const truth_choices *choices, uint32_t i, int32_t id) {
  const int32_t *ids = choices->ids + (size_t)i * choices->width;
  const float *logits = choices->logits + (size_t)i * choices->width;
  uint32_t k = 0;
  while (k + 1 < choices->width && ids[k] != id) k++;
  return (double)logits[0] - (double)logits[k];
}

double compare_nll(const float *logits, uint32_t count, int32_t id) {
  double largest = -INFINITY, sum = 0;
  for (uint32_t i = 0; i < count; i++) largest = fmax(largest, (double)logits[i]);
  for (uint32_t i = 0; i < count; i++) sum += exp((double)logits[i] - largest);
  return largest + log(sum) - (double)logits[id];
}
