/* SPDX-License-Identifier: Apache-2.0 */
#include "session/sampler.h"

#include <math.h>

#include "session/philox.h"

typedef struct wisp_candidate {
  float logit;
  float weight; /* exp((logit - maximum) / temperature): 1 for the best */
  int32_t id;
} candidate;

/* Candidates by falling logit, ties by rising id, found one at a time: heap[0, left) is a binary heap of those not yet ranked,
 * the ranked ones stand behind it, the best last. Filters keep few of many, so most are never sorted. */
typedef struct ranking {
  candidate *heap;
  uint32_t count, left;
} ranking;

static bool before(const candidate *a, const candidate *b) {
  return a->logit != b->logit ? a->logit > b->logit : a->id < b->id;
}

static void swap(candidate *a, candidate *b) {
  candidate held = *a;
  *a = *b;
  *b = held;
}

static void sift_down(candidate *heap, uint32_t count, uint32_t i) {
  for (;;) {
    uint32_t best = i, child = 2 * i + 1;
    if (child < count && before(&heap[child], &heap[best])) best = child;
    if (child + 1 < count && before(&heap[child + 1], &heap[best])) best = child + 1;
    if (best == i) return;
    swap(&heap[i], &heap[best]);
    i = best;
  }
}

static ranking ranking_start(candidate *candidates, uint32_t count) {
  for (uint32_t i = count / 2; i-- > 0;) sift_down(candidates, count, i);
  return (ranking){.heap = candidates, .count = count, .left = count};
}

/* The candidate of rank i < count, 0 being the best. */
static const candidate *ranked(ranking *r, uint32_t i) {
  while (r->count - r->left <= i) {
    swap(&r->heap[0], &r->heap[--r->left]);
    sift_down(r->heap, r->left, 0);
  }
  return &r->heap[r->count - 1 - i];
}

/* How many of the best stay, and their weights' sum. */
typedef struct kept {
  uint32_t count;
  double mass;
} kept;

static kept keep_top_k(ranking *r, uint32_t top_k) {
  kept k = {.count = r->count};
  if (top_k && top_k < r->count) {
    for (k.count = 0; k.count < top_k; k.count++) k.mass += ranked(r, k.count)->weight;
  } else {
    for (uint32_t i = 0; i < r->count; i++) k.mass += r->heap[i].weight;
  }
  return k;
}

/* The smallest prefix with at least top_p of the mass, and of that what has at least min_p of the best one's probability. */
static kept keep_likely(ranking *r, kept all, float top_p, float min_p) {
  if (top_p >= 1 && min_p <= 0) return all;
  double enough = top_p < 1 ? top_p * all.mass : INFINITY;
  kept k = {0};
  while (k.count < all.count && k.mass < enough) {
    float weight = ranked(r, k.count)->weight;
    if (weight < min_p) break;
    k.mass += weight;
    k.count++;
  }
  return k;
}

static int32_t draw(ranking *r, kept k, float uniform) {
  double target = uniform * k.mass, mass = 0;
  for (uint32_t i = 0; i + 1 < k.count; i++) {
    const candidate *c = ranked(r, i);
    mass += c->weight;
    if (mass > target) return c->id;
  }
  return ranked(r, k.count - 1)->id;
}

/* Of each distinct token in the window once: always from the logit as it was, kept in the candidates. */
static void penalise(const wisp_sampler *sampler, float *logits, const int32_t *history, size_t length) {
  const float penalty = sampler->params.repetition_penalty;
  const size_t window = sampler->params.repetition_window;
  for (uint32_t i = 0; i < sampler->vocabulary; i++) sampler->candidates[i].logit = logits[i];
  for (size_t i = window && window < length ? length - window : 0; i < length; i++) {
    if (history[i] < 0 || (uint32_t)history[i] >= sampler->vocabulary) continue;
    float logit = sampler->candidates[history[i]].logit;
    logits[history[i]] = logit > 0 ? logit / penalty : logit * penalty;
  }
}

int32_t wisp_sampler_pick(wisp_sampler *sampler, float *logits, const int32_t *history, size_t history_length) {
  const wisp_sampler_params *params = &sampler->params;
  const uint32_t count = sampler->vocabulary;
  if (params->repetition_penalty != 1) penalise(sampler, logits, history, history_length);
  int32_t best = wisp_argmax(logits, count);
  if (params->temperature == 0) return best;

  float uniform = wisp_random_uniform(params->seed, sampler->drawn++), maximum = logits[best];
  if (!(maximum > -INFINITY)) return best; /* nothing is possible: id 0, as in the greedy case */
  for (uint32_t i = 0; i < count; i++) {
    float logit = isnan(logits[i]) ? -INFINITY : logits[i];
    /* Compared first, since the difference of two infinities is no number. */
    float weight = logit == maximum ? 1 : expf((logit - maximum) / params->temperature);
    sampler->candidates[i] = (candidate){.logit = logit, .weight = weight, .id = (int32_t)i};
  }
  ranking r = ranking_start(sampler->candidates, count);
  return draw(&r, keep_likely(&r, keep_top_k(&r, params->top_k), params->top_p, params->min_p), uniform);
}

int32_t wisp_argmax(const float *logits, uint32_t count) {
  uint32_t best = 0;
  float maximum = -INFINITY;
  for (uint32_t i = 0; i < count; i++) {
    if (logits[i] > maximum) {
      maximum = logits[i];
      best = i;
    }
  }
  return (int32_t)best;
}

float wisp_random_uniform(uint64_t seed, uint64_t counter) {
  const uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
  uint32_t words[4] = {(uint32_t)counter, (uint32_t)(counter >> 32), 0, 0};
  wisp_philox(words, key, words);
  return (float)(words[0] >> 8) * 0x1p-24f;
}

bool wisp_sampler_is_argmax(const wisp_sampler *sampler) {
  return sampler->params.temperature == 0 && sampler->params.repetition_penalty == 1;
}

wisp_status wisp_sampler_open(wisp_sampler *sampler, const wisp_host *host, const wisp_sampler_params *params,
                              uint32_t vocabulary) {
  *sampler = (wisp_sampler){.host = host, .params = *params, .vocabulary = vocabulary};
  /* Written so that a NaN fails. */
  if (!(params->temperature >= 0 && params->temperature < INFINITY)) {
    return wisp_fail(host, WISP_ERROR_ARGUMENT, "sampler: temperature is %g, it must be 0 or more", params->temperature);
  }
  if (!(params->top_p > 0 && params->top_p <= 1)) {
    return wisp_fail(host, WISP_ERROR_ARGUMENT, "sampler: top_p is %g, it must be above 0 and at most 1", params->top_p);
  }
  if (!(params->min_p >= 0 && params->min_p <= 1)) {
    return wisp_fail(host, WISP_ERROR_ARGUMENT, "sampler: min_p is %g, it must be from 0 to 1", params->min_p);
  }
  if (!(params->repetition_penalty > 0 && params->repetition_penalty < INFINITY)) {
    return wisp_fail(host, WISP_ERROR_ARGUMENT, "sampler: repetition_penalty is %g, it must be above 0",
                     params->repetition_penalty);
  }
  if (vocabulary == 0) return wisp_fail(host, WISP_ERROR_ARGUMENT, "sampler: the vocabulary is empty");
  sampler->candidates = wisp_host_alloc(host, vocabulary, sizeof *sampler->candidates);
  if (!sampler->candidates) return wisp_fail_memory(host, "sampler", (uint64_t)vocabulary * sizeof *sampler->candidates);
  return WISP_OK;
}

void wisp_sampler_close(wisp_sampler *sampler) {
  wisp_host_free(sampler->host, sampler->candidates);
  *sampler = (wisp_sampler){0};
}
