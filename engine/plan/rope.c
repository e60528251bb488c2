/* SPDX-License-Identifier: Apache-2.0
 * Rotary position embedding (Su et al. 2021), as a table: phone GPUs' own sin and cos are too coarse for large angles. */
#include <math.h>

#include "plan/plan.h"

uint32_t wisp_rope_tables(const wisp_model *model) {
  return model->rope_theta_windowed > 0 ? 2 : 1;
}

void wisp_rope_table(const wisp_model *model, uint32_t positions, float *table) {
  const uint32_t half = model->head_size / 2, tables = wisp_rope_tables(model);
  for (uint32_t t = 0; t < tables; t++)
    for (uint32_t i = 0; i < half; i++) {
      double frequency = pow((double)(t ? model->rope_theta_windowed : model->rope_theta), -2.0 * i / model->head_size);
      if (!t) frequency /= (double)model->rope_divisor * (model->rope_factors ? (double)model->rope_factors[i] : 1.0);
      for (uint32_t p = 0; p < positions; p++) {
        float *entry = table + 2 * (((size_t)p * tables + t) * half + i);
        entry[0] = (float)cos(p * frequency);
        entry[1] = (float)sin(p * frequency);
      }
    }
}
