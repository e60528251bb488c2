/* SPDX-License-Identifier: Apache-2.0
 * Biases of q, k and v for a synthetic model, which has none. */
#ifndef WISP_KERNELS_BIASES_H
#define WISP_KERNELS_BIASES_H

#include "model/model.h"

/* False: out of memory. */
static inline bool add_biases(wisp_model *m) {
  for (uint32_t i = 0; i < m->weight_blocks; i++) {
    wisp_block *b = &m->blocks[i];
    const uint32_t count = b->q.rows + b->k.rows + b->v.rows;
    float *biases = wisp_arena_alloc(&m->arena, count, sizeof *biases);
    if (!biases) return false;
    for (uint32_t j = 0; j < count; j++) biases[j] = (float)((j * 37 + i) % 101) / 100.0f - 0.5f;
    b->q_bias = biases;
    b->k_bias = biases + b->q.rows;
    b->v_bias = b->k_bias + b->k.rows;
  }
  return true;
}

#endif
