/* SPDX-License-Identifier: Apache-2.0
 * The sampler: its generator against published vectors, its filters one by one, its distribution. */
#include <criterion/criterion.h>
#include <math.h>

#include "session/race.h"
#include "session/sampler.h"
#include "unit/capture.h"

static const wisp_sampler_params greedy = {.top_p = 1, .repetition_penalty = 1};

/* Known answers that the authors of Philox publish with their Random123 library (kat_vectors, philox4x32 10). */
Test(sampler, philox_known_answers) {
  static const uint32_t vectors[3][10] = {
      {0, 0, 0, 0, 0, 0, 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8},
      {0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd},
      {0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344, 0xa4093822, 0x299f31d0, 0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1},
  };
  for (int i = 0; i < 3; i++) {
    uint32_t words[4];
    wisp_philox(vectors[i], vectors[i] + 4, words);
    cr_assert_arr_eq(words, vectors[i] + 6, sizeof words, "vector %d", i);
  }
  uint32_t words[4];
  wisp_race_words(0x299f31d0a4093822, 0x85a308d3243f6a88, 0x13198a2e, words); /* the third, but for the fourth word */
  uint32_t expected[4];
  wisp_philox((const uint32_t[]){0x243f6a88, 0x85a308d3, 0x13198a2e, 0}, vectors[2] + 4, expected);
  cr_assert_arr_eq(words, expected, sizeof words);
}

/* The word of an id. */
static uint32_t word_of(uint64_t seed, uint64_t n, uint32_t id) {
  uint32_t words[4];
  wisp_race_words(seed, n, id / 4, words);
  return words[id % 4];
}

Test(sampler, words_are_even_and_use_all_bits_of_seed_and_counter) {
  uint32_t bins[32] = {0}; /* over draws, over ids */
  for (uint32_t i = 0; i < 16000; i++) {
    bins[word_of(7, i, 0) >> 28]++;
    bins[16 + (word_of(7, 0, i) >> 28)]++;
  }
  for (int i = 0; i < 32; i++) cr_assert(bins[i] > 850 && bins[i] < 1150, "bin %d: %u", i, bins[i]); /* 5 deviations */
  cr_assert_neq(word_of(1, 0, 0), word_of(1ull << 32, 0, 0));
  cr_assert_neq(word_of(0, 1, 0), word_of(0, 1ull << 32, 0));
  cr_assert_neq(word_of(0, 1, 0), word_of(0, 0, 4));
}

/* log2(-log2(u)), u = (word | 1) / 2^32. */
static double log2_of_variate(uint32_t word) {
  const uint32_t u = word | 1;
  return log2(u < 1u << 31 ? 32 - log2(u) : -log1p((0u - u) * -0x1p-32) / log(2));
}

Test(sampler, arrivals_are_logarithms_of_exponential_variates) {
  double worst = 0;
  for (uint32_t i = 0; i < 400000; i++) {
    const uint32_t shift = i % 32, random = word_of(1, 0, i) >> shift, word = i / 32 % 2 ? random : ~random; /* both ends */
    const double expected = log2_of_variate(word), arrival = wisp_race_arrival(word) * 0x1p-24 - 32;
    worst = fmax(worst, fabs(arrival - expected));
    cr_assert_leq(wisp_race_earliest(word), wisp_race_arrival(word), "word %#x", word);
  }
  cr_assert_lt(worst, 8e-6, "off by %g", worst); /* 5.6e-6 of a probability */
  /* Fixed: they make the tokens of a seed what they are. */
  static const uint32_t words[] = {0, 1, 0x7fffffff, 0x80000000, 0xffffffff, 0x12345678, 0xfedcba98};
  static const uint32_t arrivals[] = {0x25000000, 0x25000000, 0x1ffffff8, 0x1fffffc1, 0x00875d0e, 0x21ee648c, 0x18b7dbad};
  for (int i = 0; i < 7; i++) cr_assert_eq(wisp_race_arrival(words[i]), arrivals[i], "%#x", wisp_race_arrival(words[i]));
}

Test(sampler, argmax) {
  cr_assert_eq(wisp_argmax((const float[]){1, 3, 2}, 3), 1);
  cr_assert_eq(wisp_argmax((const float[]){3, 1, 3, 3}, 4), 0, "lowest id wins");
  cr_assert_eq(wisp_argmax((const float[]){NAN, -5, NAN, -4}, 4), 3);
  cr_assert_eq(wisp_argmax((const float[]){NAN, NAN}, 2), 0);
  cr_assert_eq(wisp_argmax((const float[]){-INFINITY, -INFINITY}, 2), 0);
  cr_assert_eq(wisp_argmax((const float[]){1, INFINITY, NAN}, 3), 1);
}

/* How often each of count ids is picked in draws; logits and history are the same each time. */
static void tally(wisp_sampler_params params, const float *logits, uint32_t count, const int32_t *history, size_t length,
                  uint32_t draws, uint32_t *picked) {
  wisp_sampler sampler;
  cr_assert_eq(wisp_sampler_open(&sampler, NULL, &params, count), WISP_OK);
  float *scratch = malloc(count * sizeof *scratch);
  memset(picked, 0, count * sizeof *picked);
  for (uint32_t i = 0; i < draws; i++) {
    memcpy(scratch, logits, count * sizeof *scratch);
    int32_t id = wisp_sampler_pick(&sampler, scratch, history, length);
    cr_assert(id >= 0 && (uint32_t)id < count);
    picked[id]++;
  }
  free(scratch);
  wisp_sampler_close(&sampler);
}

/* Each frequency within five standard deviations of its probability. */
static void check_distribution(const uint32_t *picked, const double *expected, uint32_t count, uint32_t draws) {
  for (uint32_t i = 0; i < count; i++) {
    double p = expected[i], deviation = sqrt(p * (1 - p) / draws);
    if (p == 0)
      cr_assert_eq(picked[i], 0, "id %u is impossible, picked %u times", i, picked[i]);
    else
      cr_assert(fabs((double)picked[i] / draws - p) <= 5 * deviation, "id %u: %u of %u, expected %g", i, picked[i], draws, p);
  }
}

enum { DRAWS = 20000 };

/* Probabilities at temperature 1: 0.1, 0.4, 0.2, 0.25, 0.05 */
static void five_logits(float logits[5]) {
  const double p[5] = {0.1, 0.4, 0.2, 0.25, 0.05};
  for (int i = 0; i < 5; i++) logits[i] = (float)log(p[i]) + 3;
}

static wisp_sampler_params warm(void) {
  wisp_sampler_params params = greedy;
  params.temperature = 1;
  params.seed = 12345;
  return params;
}

Test(sampler, temperature) {
  float logits[5];
  uint32_t picked[5];
  five_logits(logits);
  wisp_sampler_params params = warm();
  tally(params, logits, 5, NULL, 0, DRAWS, picked);
  check_distribution(picked, (const double[]){0.1, 0.4, 0.2, 0.25, 0.05}, 5, DRAWS);
  params.temperature = 0.5f; /* probabilities squared */
  tally(params, logits, 5, NULL, 0, DRAWS, picked);
  const double sum = 0.01 + 0.16 + 0.04 + 0.0625 + 0.0025;
  check_distribution(picked, (const double[]){0.01 / sum, 0.16 / sum, 0.04 / sum, 0.0625 / sum, 0.0025 / sum}, 5, DRAWS);
  params.temperature = 1e-30f; /* nearly greedy */
  tally(params, logits, 5, NULL, 0, 100, picked);
  cr_assert_eq(picked[1], 100);
  params.temperature = 1e30f; /* nearly even */
  tally(params, logits, 5, NULL, 0, DRAWS, picked);
  check_distribution(picked, (const double[]){0.2, 0.2, 0.2, 0.2, 0.2}, 5, DRAWS);
}

Test(sampler, greedy_takes_the_best) {
  float logits[5];
  uint32_t picked[5];
  five_logits(logits);
  tally(greedy, logits, 5, NULL, 0, 10, picked);
  cr_assert_eq(picked[1], 10);
}

Test(sampler, top_k) {
  float logits[5];
  uint32_t picked[5];
  five_logits(logits);
  wisp_sampler_params params = warm();
  params.top_k = 1;
  tally(params, logits, 5, NULL, 0, 100, picked);
  cr_assert_eq(picked[1], 100);
  params.top_k = 3;
  tally(params, logits, 5, NULL, 0, DRAWS, picked);
  check_distribution(picked, (const double[]){0, 0.4 / 0.85, 0.2 / 0.85, 0.25 / 0.85, 0}, 5, DRAWS);
  params.top_k = 100; /* more than there are */
  tally(params, logits, 5, NULL, 0, DRAWS, picked);
  check_distribution(picked, (const double[]){0.1, 0.4, 0.2, 0.25, 0.05}, 5, DRAWS);
  params.top_k = 2; /* of equals the lower ids stay */
  tally(params, (const float[]){1, 1, 1, 1, 1}, 5, NULL, 0, DRAWS, picked);
  check_distribution(picked, (const double[]){0.5, 0.5, 0, 0, 0}, 5, DRAWS);
  params.temperature = 1e30f; /* all weights equal: the logits still tell the order */
  tally(params, logits, 5, NULL, 0, DRAWS, picked);
  check_distribution(picked, (const double[]){0, 0.5, 0, 0.5, 0}, 5, DRAWS);
}

Test(sampler, top_p) {
  float logits[5];
  uint32_t picked[5];
  five_logits(logits);
  wisp_sampler_params params = warm();
  params.top_p = 0.1f; /* at least one */
  tally(params, logits, 5, NULL, 0, 100, picked);
  cr_assert_eq(picked[1], 100);
  params.top_p = 0.6f; /* 0.4 + 0.25 reach it */
  tally(params, logits, 5, NULL, 0, DRAWS, picked);
  check_distribution(picked, (const double[]){0, 0.4 / 0.65, 0, 0.25 / 0.65, 0}, 5, DRAWS);
  params.top_p = 0.5f; /* of two equals the first alone reaches a half */
  tally(params, (const float[]){2, 2, -50}, 3, NULL, 0, 100, picked);
  cr_assert_eq(picked[0], 100);
  params.top_k = 2; /* of what top-k left: 0.4 / 0.65 is above 0.6 */
  params.top_p = 0.6f;
  tally(params, logits, 5, NULL, 0, 100, picked);
  cr_assert_eq(picked[1], 100);
}

Test(sampler, min_p) {
  float logits[5];
  uint32_t picked[5];
  five_logits(logits);
  wisp_sampler_params params = warm();
  params.min_p = 0.45f; /* of 0.4: 0.18 */
  tally(params, logits, 5, NULL, 0, DRAWS, picked);
  check_distribution(picked, (const double[]){0, 0.4 / 0.85, 0.2 / 0.85, 0.25 / 0.85, 0}, 5, DRAWS);
  params.min_p = 1;
  tally(params, logits, 5, NULL, 0, 100, picked);
  cr_assert_eq(picked[1], 100);
  params.min_p = 0.45f; /* top-p first: it leaves two */
  params.top_p = 0.6f;
  tally(params, logits, 5, NULL, 0, DRAWS, picked);
  check_distribution(picked, (const double[]){0, 0.4 / 0.65, 0, 0.25 / 0.65, 0}, 5, DRAWS);
}

Test(sampler, repetition_penalty) {
  wisp_sampler_params params = greedy;
  params.repetition_penalty = 2;
  wisp_sampler sampler;
  cr_assert_eq(wisp_sampler_open(&sampler, NULL, &params, 5), WISP_OK);
  float logits[5] = {4, -1, 3, 0, 8};
  const int32_t history[] = {4, 0, 1, 0, 3, 0, 99, -1}; /* 0 three times: once; ids that are none are passed over */
  cr_assert_eq(wisp_sampler_pick(&sampler, logits, history, 8), 4);
  cr_assert_arr_eq(logits, ((const float[]){2, -2, 3, 0, 4}), sizeof logits);
  sampler.params.repetition_window = 7; /* leaves out the 4 */
  memcpy(logits, (const float[]){4, -1, 3, 0, 3.5f}, sizeof logits);
  cr_assert_eq(wisp_sampler_pick(&sampler, logits, history, 8), 4);
  cr_assert_arr_eq(logits, ((const float[]){2, -2, 3, 0, 3.5f}), sizeof logits);
  sampler.params.repetition_window = 1000;
  memcpy(logits, (const float[]){4, -1, 3, 0, 3.5f}, sizeof logits);
  cr_assert_eq(wisp_sampler_pick(&sampler, logits, history, 8), 2);
  wisp_sampler_close(&sampler);

  uint32_t picked[2]; /* before the temperature: 2 / 2 = 1 against 1 */
  params.temperature = 0.01f;
  tally(params, (const float[]){2, 1}, 2, (const int32_t[]){0}, 1, DRAWS, picked);
  check_distribution(picked, (const double[]){0.5, 0.5}, 2, DRAWS);
}

Test(sampler, odd_logits) {
  uint32_t picked[4];
  wisp_sampler_params params = warm();
  tally(params, (const float[]){NAN, 1, NAN, 1}, 4, NULL, 0, DRAWS, picked);
  check_distribution(picked, (const double[]){0, 0.5, 0, 0.5}, 4, DRAWS);
  tally(params, (const float[]){1, INFINITY, 3e38f, INFINITY}, 4, NULL, 0, DRAWS, picked);
  check_distribution(picked, (const double[]){0, 0.5, 0, 0.5}, 4, DRAWS);
  tally(params, (const float[]){NAN, NAN, NAN, NAN}, 4, NULL, 0, 10, picked);
  cr_assert_eq(picked[0], 10);
  tally(params, (const float[]){-INFINITY, -INFINITY, NAN, -INFINITY}, 4, NULL, 0, 10, picked);
  cr_assert_eq(picked[0], 10);
  tally(params, (const float[]){-INFINITY, -INFINITY, -3e38f, NAN}, 4, NULL, 0, 10, picked);
  cr_assert_eq(picked[2], 10);
  tally(params, (const float[]){3e38f, -3e38f, -INFINITY, NAN}, 4, NULL, 0, 10, picked);
  cr_assert_eq(picked[0], 10);
  tally(params, (const float[]){5}, 1, NULL, 0, 10, picked);
  cr_assert_eq(picked[0], 10);
}

/* A large vocabulary against a plain sort, filters together. */
static int by_logit(const void *a, const void *b) {
  const float *const *x = a, *const *y = b;
  return **x != **y ? (**x < **y ? 1 : -1) : *x < *y ? -1 : 1;
}

Test(sampler, filters_agree_with_a_sort) {
  enum { COUNT = 5000 };
  static float logits[COUNT], scratch[COUNT];
  static const float *order[COUNT];
  wisp_sampler_params params = warm();
  params.temperature = 0.8f;
  params.top_k = 400;
  params.top_p = 0.9f;
  params.min_p = 0.01f;
  for (int i = 0; i < COUNT; i++) {
    logits[i] = roundf((float)word_of(99, 0, (uint32_t)i) * 0x1p-32f * 400) / 40; /* with many ties */
    order[i] = &logits[i];
  }
  qsort(order, COUNT, sizeof *order, by_logit);
  double total = 0, mass = 0;
  uint32_t kept = 0;
  for (int i = 0; i < 400; i++) total += exp((*order[i] - *order[0]) / 0.8);
  for (; kept < 400 && mass < 0.9 * total && exp((*order[kept] - *order[0]) / 0.8) >= 0.01; kept++) {
    mass += exp((*order[kept] - *order[0]) / 0.8);
  }
  cr_assert(kept > 10 && kept < 400);
  wisp_sampler sampler;
  cr_assert_eq(wisp_sampler_open(&sampler, NULL, &params, COUNT), WISP_OK);
  for (uint64_t n = 0; n < 300; n++) {
    const float *winner = NULL;
    double first = INFINITY;
    for (uint32_t i = 0; i < kept; i++) {
      const double arrival = log2_of_variate(word_of(params.seed, n, (uint32_t)(order[i] - logits))) - *order[i] / 0.8 / log(2);
      if (arrival < first) winner = order[i], first = arrival;
    }
    memcpy(scratch, logits, sizeof logits);
    int32_t id = wisp_sampler_pick(&sampler, scratch, NULL, 0);
    cr_assert_eq(id, winner - logits, "draw %d", (int)n);
  }
  wisp_sampler_close(&sampler);
}

enum { LARGE = 49152 };

static float random_normal(uint64_t seed, uint32_t i) {
  const double u = (word_of(seed, 0, i) + 0.5) * 0x1p-32, angle = word_of(seed, 1, i) * 0x1p-31 * acos(-1);
  return (float)(sqrt(-2 * log(u)) * cos(angle));
}

/* How many of 2,000 draws take another token for the other logits. */
static uint32_t count_other_tokens(const float *logits, const float *other) {
  wisp_sampler_params params = warm();
  params.temperature = 0.8f;
  wisp_sampler a, b;
  cr_assert_eq(wisp_sampler_open(&a, NULL, &params, LARGE), WISP_OK);
  cr_assert_eq(wisp_sampler_open(&b, NULL, &params, LARGE), WISP_OK);
  uint32_t differ = 0; /* no penalty: the logits stay as they are */
  for (int i = 0; i < 2000; i++)
    differ += wisp_sampler_pick(&a, (float *)logits, NULL, 0) != wisp_sampler_pick(&b, (float *)other, NULL, 0);
  wisp_sampler_close(&a);
  wisp_sampler_close(&b);
  return differ;
}

Test(sampler, rounding_of_logits_rarely_changes_a_token) {
  static float logits[LARGE], other[LARGE];
  for (uint32_t i = 0; i < LARGE; i++) {
    logits[i] = 2 * random_normal(1, i);
    other[i] = logits[i] + 1e-4f * random_normal(2, i);
  }
  const uint32_t noisy = count_other_tokens(logits, other);
  /* 0 were seen: another compiler may contract the noise differently. */
  cr_assert_leq(noisy, 4, "noise of 1e-4 changes %u of 2,000 draws", noisy);

  uint32_t below = 0, above = 1; /* the two that are nearest to each other among some of the tail */
  for (uint32_t i = 0; i < 1000; i++)
    for (uint32_t j = 0; j < i; j++)
      if (logits[i] < 0 && fabsf(logits[i] - logits[j]) < fabsf(logits[above] - logits[below])) below = j, above = i;
  memcpy(other, logits, sizeof other);
  other[below] = logits[above];
  other[above] = logits[below];
  cr_assert_neq(other[below], logits[below]);
  cr_assert_eq(count_other_tokens(logits, other), 0);
}

/* Tokens of a seed that must not change: what draws is the same on every device and in every build. */
Test(sampler, fixed_tokens) {
  static float logits[LARGE];
  static const int32_t tokens[2][6] = {{13291, 2000, 17798, 14479, 38813, 47254}, {12565, 2000, 38386, 14479, 38813, 13486}};
  for (uint32_t i = 0; i < LARGE; i++) logits[i] = (float)(word_of(3, 0, i) >> 20) * 0x1p-8f; /* exact */
  for (int filtered = 0; filtered < 2; filtered++) {
    wisp_sampler_params params = warm();
    if (filtered) params.top_k = 2000, params.top_p = 0.9f, params.min_p = 0.3f;
    wisp_sampler sampler;
    cr_assert_eq(wisp_sampler_open(&sampler, NULL, &params, LARGE), WISP_OK);
    for (int i = 0; i < 6; i++) {
      const int32_t id = wisp_sampler_pick(&sampler, logits, NULL, 0);
      cr_assert_eq(id, tokens[filtered][i], "filtered %d, draw %d: %d", filtered, i, id);
    }
    wisp_sampler_close(&sampler);
  }
}

Test(sampler, same_seed_same_tokens) {
  float logits[5];
  int32_t first[100];
  int different = 0;
  for (int run = 0; run < 3; run++) {
    wisp_sampler_params params = warm();
    params.seed = run == 2 ? 777 : 12345;
    wisp_sampler sampler;
    cr_assert_eq(wisp_sampler_open(&sampler, NULL, &params, 5), WISP_OK);
    for (int i = 0; i < 100; i++) {
      five_logits(logits);
      int32_t id = wisp_sampler_pick(&sampler, logits, NULL, 0);
      if (run == 0) first[i] = id;
      if (run == 1) cr_assert_eq(id, first[i]);
      if (run == 2) different += id != first[i];
    }
    cr_assert_eq(sampler.drawn, 100);
    wisp_sampler_close(&sampler);
  }
  cr_assert_gt(different, 30);
}

Test(sampler, says_what_it_needs) {
  wisp_sampler sampler = {.params = greedy};
  cr_assert(!wisp_sampler_draws(&sampler) && !wisp_sampler_needs_history(&sampler));
  sampler.params.temperature = 0.1f;
  cr_assert(wisp_sampler_draws(&sampler) && !wisp_sampler_needs_history(&sampler));
  sampler.params = greedy;
  sampler.params.repetition_penalty = 1.1f;
  cr_assert(!wisp_sampler_draws(&sampler) && wisp_sampler_needs_history(&sampler));
}

Test(sampler, refuses) {
  capture said;
  wisp_host host = capture_host(&said);
  const struct {
    const char *name;
    wisp_sampler_params params;
  } cases[] = {
      {"temperature", {.temperature = -1, .top_p = 1, .repetition_penalty = 1}},
      {"temperature", {.temperature = NAN, .top_p = 1, .repetition_penalty = 1}},
      {"temperature", {.temperature = INFINITY, .top_p = 1, .repetition_penalty = 1}},
      {"top_p", {.top_p = 0, .repetition_penalty = 1}},
      {"top_p", {.top_p = 1.5f, .repetition_penalty = 1}},
      {"top_p", {.top_p = NAN, .repetition_penalty = 1}},
      {"min_p", {.top_p = 1, .min_p = -0.1f, .repetition_penalty = 1}},
      {"min_p", {.top_p = 1, .min_p = 1.1f, .repetition_penalty = 1}},
      {"repetition_penalty", {.top_p = 1, .repetition_penalty = 0}},
      {"repetition_penalty", {.top_p = 1, .repetition_penalty = INFINITY}},
  };
  wisp_sampler sampler;
  for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
    cr_assert_eq(wisp_sampler_open(&sampler, &host, &cases[i].params, 5), WISP_ERROR_ARGUMENT, "case %u", i);
    cr_assert_not_null(strstr(said.error, cases[i].name), "%s", said.error);
    cr_assert_eq(said.errors, i + 1);
    wisp_sampler_close(&sampler);
  }
  cr_assert_eq(wisp_sampler_open(&sampler, &host, &greedy, 0), WISP_ERROR_ARGUMENT);
  said.fail_at = said.allocations + 1;
  cr_assert_eq(wisp_sampler_open(&sampler, &host, &greedy, 5), WISP_ERROR_MEMORY);
  wisp_sampler_close(&sampler);
  cr_assert_eq(said.live, 0);
}
