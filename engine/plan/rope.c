/* SPDX-License-Identifier: Apache-2.0
 * Rotary position embedding (Su et al. 2021), as a table: phone GPUs' own sin and cos are too coarse for large angles. */
#include <math.h>

#include "plan/plan.h"

uint32_t wisp_rope_tables(const wisp_model *model) {
  return model->rope_theta_windowed > 0 ? 2 : 1;
}

enum { STRIDE = 64 }; /* positions */

/* Entries at frequency for all positions: turns by a multiple of STRIDE and by the rest, multiplied as complex numbers, since
 * sines and cosines of a long context would take longer than all else of a session's start. In double: exact to 2^-51. */
static void fill(float *entry, uint32_t stride, uint32_t positions, double frequency) {
  double rest[STRIDE][2];
  for (uint32_t p = 0; p < STRIDE; p++) {
    rest[p][0] = cos(p * frequency);
    rest[p][1] = sin(p * frequency);
  }
  for (uint32_t first = 0; first < positions; first += STRIDE) {
    const double c = cos(first * frequency), s = sin(first * frequency);
    for (uint32_t p = first; p < positions && p < first + STRIDE; p++, entry += stride) {
      const double *r = rest[p - first];
      entry[0] = (float)(c * r[0] - s * r[1]);
      entry[1] = (float)(s * r[0] + c * r[1]);
    }
  }
}

void wisp_rope_table(const wisp_model *model, uint32_t positions, float *table) {
  const uint32_t half = model->head_size / 2, tables = wisp_rope_tables(model);
  for (uint32_t t = 0; t < tables; t++)
    for (uint32_t i = 0; i < half; i++) {
      double frequency = pow((double)(t ? model->rope_theta_windowed : model->rope_theta), -2.0 * i / model->head_size);
      if (!t) frequency /= (double)model->rope_divisor * (model->rope_factors ? (double)model->rope_factors[i] : 1.0);
      fill(table + 2 * ((size_t)t * half + i), 2 * tables * half, positions, frequency);
    }
}
