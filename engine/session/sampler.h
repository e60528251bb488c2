/* SPDX-License-Identifier: Apache-2.0
 * From logits to the next token. Order: repetition penalty, temperature, top-k, top-p, min-p, draw. Deterministic for a seed:
 * the n-th draw depends on (seed, n) alone (counter-based generator), so that other executors can give the same numbers. */
#ifndef WISP_SESSION_SAMPLER_H
#define WISP_SESSION_SAMPLER_H

#include "base/host.h"

typedef struct wisp_sampler {
  const wisp_host *host;
  wisp_sampler_params params;
  uint32_t vocabulary;
  uint64_t drawn;                    /* counter of the generator */
  struct wisp_candidate *candidates; /* [vocabulary] */
} wisp_sampler;

/* ARGUMENT names the parameter that is out of its range. */
wisp_status wisp_sampler_open(wisp_sampler *sampler, const wisp_host *host, const wisp_sampler_params *params,
                              uint32_t vocabulary);
void wisp_sampler_close(wisp_sampler *sampler);

/* logits: [vocabulary], changed. history: the tokens held, oldest first. NaN never wins; all-NaN gives id 0. */
int32_t wisp_sampler_pick(wisp_sampler *sampler, float *logits, const int32_t *history, size_t history_length);

/* Greedy and without penalty: an executor may do it by itself. */
bool wisp_sampler_is_argmax(const wisp_sampler *sampler);

/* Uniform in [0, 1) with 24 bits from (seed, counter): Philox 4x32-10 (Salmon et al. 2011), first word. */
float wisp_random_uniform(uint64_t seed, uint64_t counter);

int32_t wisp_argmax(const float *logits, uint32_t count); /* lowest id wins ties */

#endif
