/* SPDX-License-Identifier: Apache-2.0
 * From logits to the next token. Order: repetition penalty, temperature, top-k, top-p, min-p, draw. Deterministic for a seed:
 * the n-th draw depends on (seed, n) and the logits alone (counter-based generator).
 *
 * Everything behind the penalty is defined so that a GPU computes the very same (shaders/draw.comp): one subtraction and one
 * product in float, from there on integers.
 *   distance = greatest logit - logit; below 2^-100: 0    candidates rank by it, ties by their ids
 *   steps    = floor(distance * log2(e) / temperature * 2^24)
 *   weight   = 2^(30 - steps / 2^24), by a polynomial     a candidate is what is at most 30 octaves away
 * Top-k, top-p and min-p each keep the best so many of the ranks, top-p by a sum of weights. Sums are exact, so their order
 * does not matter. NaN and -infinity are no candidates; no candidate at all gives id 0.
 *
 * The draw is a race of exponentials (Efraimidis and Spirakis, "Weighted random sampling with a reservoir", 2006; in logarithms
 * the Gumbel-max trick). Each candidate kept has an exponential variate E of its own; the least E / 2^(-steps / 2^24) wins.
 *   word     = word id % 4 of Philox 4x32-10: counter (n, n >> 32, id / 4, 0), key = seed
 *   E        = -log2(u), u = (word | 1) / 2^32            never 0
 *   arrival  = steps + log2(E) * 2^24, by polynomials     session/race.h; the least, ties by their ids
 * A probability is off by less than 1e-5 of itself. Neither ranks nor sums of others have a part in it, so logits that differ
 * by rounding give another token only where the first two arrive within that. */
#ifndef WISP_SESSION_SAMPLER_H
#define WISP_SESSION_SAMPLER_H

#include "base/host.h"

/* The params as the arithmetic takes them. */
typedef struct wisp_draw_rule {
  float scale;       /* log2(e) / temperature, from 2^-100 to 2^100 */
  uint32_t top_k;    /* ranks kept; 0 = all */
  uint32_t top_p;    /* of 2^32: share of the weights that is enough; 0 = all */
  uint32_t farthest; /* steps: min-p */
} wisp_draw_rule;

typedef struct wisp_sampler {
  const wisp_host *host;
  wisp_sampler_params params;
  wisp_draw_rule rule;
  uint32_t vocabulary;
  uint64_t drawn;                    /* counter of the generator: tokens drawn so far */
  struct wisp_candidate *candidates; /* [vocabulary] */
} wisp_sampler;

/* ARGUMENT names the parameter that is out of its range. */
wisp_status wisp_sampler_open(wisp_sampler *sampler, const wisp_host *host, const wisp_sampler_params *params,
                              uint32_t vocabulary);
void wisp_sampler_close(wisp_sampler *sampler);

/* The next token; unless greedy it counts as drawn. logits: [vocabulary], changed by a penalty only. history: the tokens held,
 * oldest first. NaN never wins; all-NaN gives id 0. */
int32_t wisp_sampler_pick(wisp_sampler *sampler, float *logits, const int32_t *history, size_t history_length);

/* Whether the choice takes random numbers; else it is the argmax (behind the penalty). */
bool wisp_sampler_draws(const wisp_sampler *sampler);

/* Whether the choice needs the tokens held, which executors do not keep. */
bool wisp_sampler_needs_history(const wisp_sampler *sampler);

int32_t wisp_argmax(const float *logits, uint32_t count); /* lowest id wins ties */

#endif
