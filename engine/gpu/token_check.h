/* SPDX-License-Identifier: Apache-2.0
 * Two ways to decode, compared on a few tokens: logits of each, and the token chosen behind the last. */
#ifndef WISP_GPU_TOKEN_CHECK_H
#define WISP_GPU_TOKEN_CHECK_H

#include "session/executor.h"

enum { WISP_CHECK_TOKENS = 3 };

typedef struct wisp_token_check {
  float *logits; /* [WISP_CHECK_TOKENS][vocabulary], the caller's */
  int32_t next;
} wisp_token_check;

void wisp_token_check_ids(const wisp_model *model, int32_t ids[WISP_CHECK_TOKENS]);

/* Squared error over the power of what was expected. */
double wisp_token_check_nmse(const float *expected, const float *found, uint64_t count);

/* Decodes the check's tokens from the timeline's beginning on; it has room for WISP_CHECK_TOKENS + 2. */
wisp_status wisp_token_check_run(wisp_timeline *timeline, const wisp_model *model, wisp_token_check *check);

/* Whether found is what was expected, but for roundings; *nmse: squared error over the power of what was expected. */
bool wisp_token_check_agrees(const wisp_model *model, const wisp_token_check *expected, const wisp_token_check *found,
                             double *nmse);

#endif
