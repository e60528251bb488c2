/* SPDX-License-Identifier: Apache-2.0
 * The kernel that draws tokens at random, in the smallest and the largest workgroup, on logits of its own, against the host's
 * sampler: the very same tokens. */
#ifndef WISP_CHECKER_DRAW_H
#define WISP_CHECKER_DRAW_H

#include "check.h"

typedef struct draw_row {
  uint32_t draws, differ; /* tokens drawn; others than the host's, or a step that did not move on as it should */
  uint32_t blind;         /* cases that also pass with the numbers of another seed; few, of logits with one choice */
  uint32_t cases;
} draw_row;

/* Vocabularies of any size, logits alike, with ties, NaNs and infinities, every filter. Fails where the device does. */
wisp_status draw_check(const check_params *params, draw_row *row);

#endif
