/* SPDX-License-Identifier: Apache-2.0
 * Comparing logits. */
#ifndef WISP_TRUTH_COMPARE_H
#define WISP_TRUTH_COMPARE_H

#include "truth/vectors.h"

/* sum (x - truth)^2 / sum truth^2, each side less its own mean, which changes no probability. */
double compare_nmse(const float *x, const float *truth, uint32_t count);

/* The same over the logits that were stored; x: [vocabulary]. */
double compare_nmse_stored(const float *x, const truth_row *stored);

/* Lowest id of the largest logit; -1 where there is none (NaN). */
int32_t compare_argmax(const float *logits, uint32_t count);

/* How much larger the largest of the stored logits of position i is than that of id; where id's was not stored, than the
 * smallest that was. */
double compare_gap_stored(const truth_choices *choices, uint32_t i, int32_t id);

/* -ln softmax(logits)[id] */
double compare_nll(const float *logits, uint32_t count, int32_t id);

#endif
