/* SPDX-License-Identifier: Apache-2.0
 * Rotary position embedding (Su et al. 2021), as a table: phone GPUs' own sin and cos are too coarse for large angles. */
#include <math.h>

#include "plan/plan.h"

void wisp_rope_table(const wisp_model *model, uint32_t positions, float *table) {
  const uint32_t half = model->head_size / 2;
  for (uint32_t i = 0; i < half; i++) {
    double frequency = pow((double)model->rope_theta, -2.0 * i / model->head_size);
    if (model->rope_factors) frequency /= (double)model->rope_factors[i];
    for (uint32_t p = 0; p < positions; p++) {
      table[2 * ((size_t)p * half + i)] = (float)cos(p * frequency);
      table[2 * ((size_t)p * half + i) + 1] = (float)sin(p * frequency);
    }
  }
}
