/* SPDX-License-Identifier: Apache-2.0 */
#include "session/sampler.h"

#include <math.h>

#include "session/race.h"

typedef struct wisp_candidate {
  float distance;
  uint32_t steps;
  int32_t id;
} candidate;

/* Candidates by rising distance, ties by rising id, found one at a time: heap[0, left) is a binary heap of those not yet
 * ranked, the ranked ones stand behind it, the best last. Filters keep few of many, so most are never sorted. */
typedef struct ranking {
  candidate *heap;
  uint32_t count, left;
} ranking;

static bool before(const candidate *a, const candidate *b) {
  return a->distance != b->distance ? a->distance < b->distance : a->id < b->id;
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

/* 2^(30 - steps / 2^24) = 2^y * 2^(30 - whole), 0 <= y < 1; within 3e-7 of it before the shift cuts. */
static uint32_t weight(uint32_t steps) {
  const uint32_t whole = (steps + (WISP_DRAW_OCTAVE - 1)) / WISP_DRAW_OCTAVE, y = (whole * WISP_DRAW_OCTAVE - steps) << 8;
  uint32_t sum = WISP_DRAW_EXP2_5;
  sum = WISP_DRAW_EXP2_4 + wisp_high_product(sum, y);
  sum = WISP_DRAW_EXP2_3 + wisp_high_product(sum, y);
  sum = WISP_DRAW_EXP2_2 + wisp_high_product(sum, y);
  sum = WISP_DRAW_EXP2_1 + wisp_high_product(sum, y);
  return (WISP_DRAW_ONE + (wisp_high_product(sum, y) >> 1)) >> whole;
}

/* floor(mass * share / 2^32); mass < 2^63. */
static uint64_t share_of(uint64_t mass, uint32_t share) {
  return (mass >> 32) * share + ((mass & UINT32_MAX) * share >> 32);
}

/* How many of the best stay, and the sum of their weights. */
typedef struct kept {
  uint32_t count;
  uint64_t mass;
} kept;

static kept keep_top_k(ranking *r, uint32_t top_k) {
  kept k = {.count = r->count};
  if (top_k && top_k < r->count) {
    for (k.count = 0; k.count < top_k; k.count++) k.mass += weight(ranked(r, k.count)->steps);
  } else {
    for (uint32_t i = 0; i < r->count; i++) k.mass += weight(r->heap[i].steps);
  }
  return k;
}

/* The fewest ranks with at least a share of top_p of the mass. */
static kept keep_top_p(ranking *r, kept all, uint32_t top_p) {
  if (!top_p) return all;
  const uint64_t part = share_of(all.mass, top_p), enough = part + ((uint32_t)((all.mass & UINT32_MAX) * top_p) != 0);
  kept k = {0};
  while (k.mass < enough) k.mass += weight(ranked(r, k.count++)->steps);
  return k;
}

/* Those that top-k and top-p keep, moved to the end; how many. */
static uint32_t keep(candidate *candidates, uint32_t count, const wisp_draw_rule *rule) {
  if (!rule->top_k && !rule->top_p) return count;
  ranking r = ranking_start(candidates, count);
  return keep_top_p(&r, keep_top_k(&r, rule->top_k), rule->top_p).count;
}

static int32_t race(const candidate *candidates, uint32_t count, uint32_t farthest, uint64_t seed, uint64_t n) {
  uint32_t words[4], group = UINT32_MAX, first = UINT32_MAX;
  int32_t winner = INT32_MAX;
  for (uint32_t i = 0; i < count; i++) {
    const uint32_t id = (uint32_t)candidates[i].id, steps = candidates[i].steps;
    if (steps > farthest) continue;
    if (id / 4 != group) wisp_race_words(seed, n, group = id / 4, words);
    if (steps + wisp_race_earliest(words[id % 4]) > first) continue; /* most: saves the polynomials */
    const uint32_t arrival = steps + wisp_race_arrival(words[id % 4]);
    if (arrival > first || (arrival == first && (int32_t)id > winner)) continue;
    first = arrival;
    winner = (int32_t)id;
  }
  return winner;
}

/* The candidates among the logits, unranked; how many. */
static uint32_t find_candidates(candidate *candidates, const float *logits, uint32_t count, float greatest, float scale) {
  uint32_t found = 0;
  for (uint32_t i = 0; i < count; i++) {
    /* Compared first, since the difference of two infinities is no number. */
    float distance = logits[i] == greatest ? 0 : greatest - logits[i];
    if (distance < 0x1p-100f) distance = 0; /* where a GPU may flush to zero */
    const float octaves = distance * scale;
    if (!(octaves <= WISP_DRAW_FARTHEST / WISP_DRAW_OCTAVE)) continue; /* NaN as well */
    candidates[found++] = (candidate){distance, (uint32_t)(octaves * (float)WISP_DRAW_OCTAVE), (int32_t)i};
  }
  return found;
}

/* Of each distinct token in the window once: always from the logit as it was, kept in the candidates' room. */
static void penalise(const wisp_sampler *sampler, float *logits, const int32_t *history, size_t length) {
  const float penalty = sampler->params.repetition_penalty;
  const size_t window = sampler->params.repetition_window;
  for (uint32_t i = 0; i < sampler->vocabulary; i++) sampler->candidates[i].distance = logits[i];
  for (size_t i = window && window < length ? length - window : 0; i < length; i++) {
    if (history[i] < 0 || (uint32_t)history[i] >= sampler->vocabulary) continue;
    float logit = sampler->candidates[history[i]].distance;
    logits[history[i]] = logit > 0 ? logit / penalty : logit * penalty;
  }
}

int32_t wisp_sampler_pick(wisp_sampler *sampler, float *logits, const int32_t *history, size_t history_length) {
  const wisp_sampler_params *params = &sampler->params;
  const uint32_t count = sampler->vocabulary;
  if (params->repetition_penalty != 1) penalise(sampler, logits, history, history_length);
  int32_t best = wisp_argmax(logits, count);
  if (params->temperature == 0) return best;

  const uint64_t n = sampler->drawn++;
  if (!(logits[best] > -INFINITY)) return best; /* nothing is possible: id 0, as in the greedy case */
  const wisp_draw_rule *rule = &sampler->rule;
  const uint32_t found = find_candidates(sampler->candidates, logits, count, logits[best], rule->scale);
  const uint32_t ranks = keep(sampler->candidates, found, rule);
  return race(sampler->candidates + (found - ranks), ranks, rule->farthest, params->seed, n);
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

bool wisp_sampler_draws(const wisp_sampler *sampler) {
  return sampler->params.temperature > 0;
}

bool wisp_sampler_needs_history(const wisp_sampler *sampler) {
  return sampler->params.repetition_penalty != 1;
}

static wisp_draw_rule rule_of(const wisp_sampler_params *params) {
  const double scale = 1.4426950408889634 /* log2(e) */ / params->temperature; /* infinity for a temperature of 0 */
  const double octaves = params->min_p > 0 ? -log2(params->min_p) : INFINITY, most = WISP_DRAW_FARTHEST;
  return (wisp_draw_rule){.scale = (float)fmin(fmax(scale, 0x1p-100), 0x1p100),
                          .top_k = params->top_k,
                          .top_p = params->top_p < 1 ? (uint32_t)fmax(params->top_p * 0x1p32, 1) : 0,
                          .farthest = (uint32_t)fmin(octaves * WISP_DRAW_OCTAVE, most)};
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
  sampler->rule = rule_of(params);
  sampler->candidates = wisp_host_alloc(host, vocabulary, sizeof *sampler->candidates);
  if (!sampler->candidates) return wisp_fail_memory(host, "sampler", (uint64_t)vocabulary * sizeof *sampler->candidates);
  return WISP_OK;
}

void wisp_sampler_close(wisp_sampler *sampler) {
  wisp_host_free(sampler->host, sampler->candidates);
  *sampler = (wisp_sampler){0};
}
