/* SPDX-License-Identifier: Apache-2.0
 * All kernels that multiply no matrices, against formulas in double. Bounds are with each check. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cpu/reference.h"
#include "judge.h"

enum { ELEMENTS_MAX = 700 };

static void check_rmsnorm(const wisp_cpu_kernels *kernels, uint64_t seed) {
  judge j = {.set = kernels->name, .kernel = "rmsnorm"};
  double expected[ELEMENTS_MAX], bound[ELEMENTS_MAX];
  for (uint32_t n = 1; n < ELEMENTS_MAX; n += n < 70 ? 1 : 101) {
    float *x = guarded_alloc(n), *w = guarded_alloc(n), *y = guarded_alloc(n);
    random_fill(&seed, x, n);
    random_fill(&seed, w, n);
    x[0] += 1; /* not all zeros */
    double squares = 0;
    for (uint32_t i = 0; i < n; i++) squares += (double)x[i] * x[i];
    for (int weighted = 0; weighted < 2; weighted++) {
      for (uint32_t i = 0; i < n; i++) {
        expected[i] = x[i] / sqrt(squares / n + 1e-5f) * (weighted ? (double)w[i] : 1);
        bound[i] = fabs(expected[i]) * 0x1p-20; /* the mean's rounding halves under the root */
      }
      kernels->rmsnorm(x, weighted ? w : NULL, n, 1e-5f, y);
      judge_floats(&j, y, expected, bound, n, weighted ? "with weights" : "without weights");
    }
    kernels->rmsnorm(x, w, n, 1e-5f, x);
    judge_floats(&j, x, expected, bound, n, "in place");
    guarded_free(x), guarded_free(w), guarded_free(y);
  }
  judge_done(&j);
}

static void check_rope(const wisp_cpu_kernels *kernels, uint64_t seed) {
  judge j = {.set = kernels->name, .kernel = "rope"};
  for (uint32_t pairs = 1; pairs <= 70; pairs++) {
    float *x = guarded_alloc(2 * pairs), *turns = guarded_alloc(2 * pairs), *expected = guarded_alloc(2 * pairs);
    random_fill(&seed, x, 2 * pairs);
    for (uint32_t i = 0; i < pairs; i++) turns[2 * i] = cosf((float)i), turns[2 * i + 1] = sinf((float)i);
    memcpy(expected, x, 2 * pairs * sizeof *x);
    wisp_reference_rope(expected, turns, pairs);
    kernels->rope(x, turns, pairs);
    bool same = guarded_intact(x, 2 * pairs);
    for (uint32_t i = 0; i < 2 * pairs; i++) same &= x[i] == expected[i]; /* -0 is 0 */
    judge_that(&j, same, "the reference's values");
    guarded_free(x), guarded_free(turns), guarded_free(expected);
  }
  judge_done(&j);
}

static void check_kv_write(const wisp_cpu_kernels *kernels, uint64_t seed) {
  judge j = {.set = kernels->name, .kernel = "kv_write"};
  static const float awkward[] = {0, -0.0f, 65504, 65519, 65520, 1e9f, -1e9f, 6e-8f, 2.9e-8f, 3e-8f, 1e-30f, 6.1e-5f, INFINITY};
  for (uint32_t width = 1; width <= 96; width += width < 40 ? 1 : 7) {
    const uint32_t n = 2 * width;
    float *values = guarded_alloc(n), *found = guarded_alloc(n), *expected = guarded_alloc(n);
    random_fill(&seed, values, n);
    for (uint32_t i = 0; i < n; i += 3) values[i] = awkward[random_below(&seed, sizeof awkward / sizeof *awkward)];
    for (int type = WISP_KV_F16; type <= WISP_KV_Q8_0; type++) {
      static const char *const what[] = {"f16: the reference's bits", "f32: the reference's bits",
                                         "q8_0: the reference's bits"};
      if (type == WISP_KV_Q8_0 && width % WISP_KV_BLOCK) continue;
      kernels->kv_write(values, width, (wisp_kv_type)type, found);
      wisp_reference_kv_write(values, width, (wisp_kv_type)type, expected);
      judge_that(&j, !memcmp(found, expected, (size_t)wisp_kv_row_bytes(width, (wisp_kv_type)type)), what[type]);
      judge_that(&j, guarded_intact(found, n), "stays inside");
    }
    guarded_free(values), guarded_free(found), guarded_free(expected);
  }
  judge_done(&j);
}

static double gate(bool gelu, double g) {
  return gelu ? g / 2 * (1 + tanh(0.7978845608028654 * (g + 0.044715 * g * g * g))) : g / (1 + exp(-g));
}

/* Relative, 2^-20 of |g up|: the exponential is within 2 units, gelu's argument is rounded before it. */
static void check_activation(const wisp_cpu_kernels *kernels, bool gelu, uint64_t seed) {
  judge j = {.set = kernels->name, .kernel = gelu ? "gelu_mul" : "silu_mul"};
  double expected[ELEMENTS_MAX], bound[ELEMENTS_MAX];
  for (uint32_t n = 1; n < ELEMENTS_MAX; n += n < 40 ? 1 : 111) {
    float *g = guarded_alloc(n), *up = guarded_alloc(n);
    random_fill(&seed, g, n);
    random_fill(&seed, up, n);
    for (uint32_t i = 0; i < n; i++) {
      if (i % 5 == 0) g[i] = random_normal(&seed) * 60;
      expected[i] = gate(gelu, g[i]) * up[i];
      bound[i] = fabs((double)g[i] * up[i]) * 0x1p-20 + 1e-37;
    }
    (gelu ? kernels->gelu_mul : kernels->silu_mul)(g, up, n);
    judge_floats(&j, g, expected, bound, n, "random");
    judge_that(&j, guarded_intact(up, n), "reads only");
    guarded_free(g), guarded_free(up);
  }
  judge_done(&j);
}

typedef struct attention_case {
  uint32_t queries, kv_heads, head_size, length;
  wisp_kv_type type;
} attention_case;

/* Element i of position t. */
static double cached(const attention_case *c, const void *positions, size_t t, size_t i) {
  const uint32_t width = c->kv_heads * c->head_size;
  const void *row = (const uint8_t *)positions + t * wisp_kv_row_bytes(width, c->type);
  if (c->type == WISP_KV_F32) return ((const float *)row)[i];
  if (c->type == WISP_KV_F16) return wisp_f16_to_f32(((const uint16_t *)row)[i]);
  return ((const int8_t *)row)[i] * (double)wisp_f16_to_f32(wisp_kv_scales(row, width)[i / WISP_KV_BLOCK]);
}

/* In double; the bound: 2^-18 of the values' magnitude, for scores of up to some tens whose rounding the exponential magnifies.
 */
static void attend(const attention_case *c, const float *q, const void *positions, uint32_t head, double *expected,
                   double *bound) {
  const size_t width = (size_t)c->kv_heads * c->head_size, at = (size_t)head * c->head_size;
  double *weights = malloc(c->length * sizeof *weights), largest = -INFINITY, total = 0, magnitude = 0;
  if (!weights) abort();
  for (uint32_t t = 0; t < c->length; t++) {
    double score = 0, size = 0;
    for (uint32_t i = 0; i < c->head_size; i++) {
      const double product = q[i] * cached(c, positions, t, at + i);
      score += product;
      size += fabs(product);
    }
    weights[t] = score / sqrt(c->head_size);
    largest = fmax(largest, weights[t]);
    magnitude = fmax(magnitude, size / sqrt(c->head_size));
  }
  for (uint32_t t = 0; t < c->length; t++) total += weights[t] = exp(weights[t] - largest);
  for (uint32_t i = 0; i < c->head_size; i++) {
    double sum = 0, sizes = 0;
    for (uint32_t t = 0; t < c->length; t++) {
      const double v = cached(c, positions, t, width + at + i);
      sum += weights[t] / total * v;
      sizes += weights[t] / total * fabs(v);
    }
    expected[i] = sum;
    bound[i] = sizes * (1 + magnitude) * 0x1p-20 + 1e-30;
  }
  free(weights);
}

static void check_attention(const wisp_cpu_kernels *kernels, uint64_t seed) {
  static const uint32_t sizes[] = {64, 16, 8, 80, 128, 20, 256, 96};
  for (int type = WISP_KV_F16; type <= WISP_KV_Q8_0; type++) {
    static const char *const names[] = {"attention f16", "attention f32", "attention q8_0"};
    judge j = {.set = kernels->name, .kernel = names[type]};
    for (uint32_t i = 0; i < 80; i++) {
      const attention_case c = {.queries = 1 + i % 5,
                                .kv_heads = 1 + i % 3,
                                .head_size = sizes[i % 8],
                                .length = i < 20 ? i + 1 : 1 + random_below(&seed, 200),
                                .type = (wisp_kv_type)type};
      if (c.type == WISP_KV_Q8_0 && c.head_size % WISP_KV_BLOCK) continue;
      const size_t row = 2 * (size_t)c.kv_heads * c.head_size, results = (size_t)c.queries * c.head_size;
      const size_t row_bytes = (size_t)wisp_kv_row_bytes(c.kv_heads * c.head_size, c.type);
      const size_t words = (c.length * row_bytes + 3) / 4, scores = c.queries * wisp_scores_stride(c.length);
      float *positions = guarded_alloc(words), *values = guarded_alloc(row), *q = guarded_alloc(results);
      float *out = guarded_alloc(results), *alone = guarded_alloc(results), *scratch = guarded_alloc(scores);
      double *expected = malloc(results * sizeof *expected), *bound = malloc(results * sizeof *bound);
      if (!expected || !bound) abort();
      for (uint32_t t = 0; t < c.length; t++) {
        random_fill(&seed, values, row);
        wisp_reference_kv_write(values, c.kv_heads * c.head_size, c.type, (uint8_t *)positions + t * row_bytes);
      }
      random_fill(&seed, q, results);
      const wisp_kv_slot slot = {.positions = positions, .type = c.type, .kv_width = c.kv_heads * c.head_size};
      const uint32_t head = i % c.kv_heads;
      for (uint32_t g = 0; g < c.queries; g++)
        attend(&c, q + g * c.head_size, positions, head, expected + g * c.head_size, bound + g * c.head_size);
      kernels->attention(q, c.queries, &slot, head, c.head_size, c.length, scratch, out);
      judge_floats(&j, out, expected, bound, results, "random");
      judge_that(&j, guarded_intact(scratch, scores), "scratch stays inside");
      for (uint32_t g = 0; g < c.queries; g++)
        kernels->attention(q + g * c.head_size, 1, &slot, head, c.head_size, c.length, scratch, alone + g * c.head_size);
      judge_that(&j, !memcmp(out, alone, results * sizeof *out), "a query alone has the bits of the group");
      guarded_free(positions), guarded_free(values), guarded_free(q), guarded_free(out), guarded_free(alone),
          guarded_free(scratch);
      free(expected), free(bound);
    }
    judge_done(&j);
  }
}

/* Bit for bit as token by token; heads of other KV heads and what lies between tokens stays untouched. */
static void check_prompt_attention(const wisp_cpu_kernels *kernels, uint64_t seed) {
  static const uint32_t sizes[] = {64, 32, 128, 96, 256, 8, 80};
  judge j = {.set = kernels->name, .kernel = "prompt_attention"};
  if (!kernels->prompt_attention) return;
  for (uint32_t i = 0; i < 120; i++) {
    const uint32_t queries = 1 + i % 5, kv_heads = 1 + i % 3, size = sizes[i % 7], width = kv_heads * size;
    wisp_prompt p = {.slot = {.type = (wisp_kv_type)(i / 2 % 3), .kv_width = width},
                     .kv_head = i % kv_heads,
                     .head_size = size,
                     .queries = queries,
                     .tokens = 1 + random_below(&seed, WISP_PROMPT_QUERIES / queries),
                     .position = i < 40 ? i : random_below(&seed, 300),
                     .window = i % 4 == 3 ? 1 + random_below(&seed, 90) : 0,
                     .stride = (size_t)kv_heads * queries * size};
    if (p.slot.type == WISP_KV_Q8_0 && size % WISP_KV_BLOCK) p.slot.type = WISP_KV_F16;
    const uint32_t length = p.position + p.tokens;
    const size_t row = (size_t)wisp_kv_row_bytes(width, p.slot.type), results = p.tokens * p.stride;
    const size_t scratch_floats = wisp_prompt_scratch(size, length);
    float *positions = guarded_alloc(length * row / 4), *values = guarded_alloc(2 * width), *q = guarded_alloc(results);
    float *out = guarded_alloc(results), *alone = guarded_alloc(results), *scratch = guarded_alloc(scratch_floats);
    for (uint32_t t = 0; t < length; t++) {
      random_fill(&seed, values, 2 * width);
      wisp_reference_kv_write(values, width, p.slot.type, (uint8_t *)positions + t * row);
    }
    random_fill(&seed, q, results);
    memset(out, 0x7e, results * sizeof *out);
    memset(alone, 0x7e, results * sizeof *out);
    p.slot.positions = positions;
    p.q = q + (size_t)p.kv_head * queries * size;
    p.out = out + (size_t)p.kv_head * queries * size;
    kernels->prompt_attention(&p, scratch);
    judge_that(&j, guarded_intact(scratch, scratch_floats), "scratch stays inside");
    for (uint32_t t = 0; t < p.tokens; t++) {
      const uint32_t first = wisp_first_seen(p.position + t, p.window);
      const wisp_kv_slot slot = {(const uint8_t *)positions + first * row, p.slot.type, width};
      kernels->attention(p.q + t * p.stride, queries, &slot, p.kv_head, size, p.position + t + 1 - first, scratch,
                         alone + (size_t)p.kv_head * queries * size + t * p.stride);
    }
    judge_that(&j, !memcmp(out, alone, results * sizeof *out), "a token has the bits that it has alone");
    guarded_free(positions), guarded_free(values), guarded_free(q), guarded_free(out), guarded_free(alone),
        guarded_free(scratch);
  }
  judge_done(&j);
}

void check_vectors(const wisp_cpu_kernels *kernels, uint64_t seed) {
  check_rmsnorm(kernels, seed);
  check_rope(kernels, seed + 1);
  check_kv_write(kernels, seed + 2);
  check_activation(kernels, false, seed + 3);
  check_activation(kernels, true, seed + 4);
  check_attention(kernels, seed + 5);
  check_prompt_attention(kernels, seed + 6);
}
