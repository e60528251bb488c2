/* SPDX-License-Identifier: Apache-2.0
 * The CPU executor on tiny models: against a forward pass written out here in double precision without plan, cache or chunks,
 * and against itself, bit for bit, however the tokens are split over calls and threads; with every kernel set that is here. */
#include <criterion/criterion.h>
#include <math.h>
#include <pthread.h>

#include "cpu/cpu.h"
#include "cpu/kernel_sets.h"
#include "session/executor.h"
#include "unit/capture.h"

enum { TOKENS = 150, CONTEXT = 200 }; /* more than two chunks */

typedef struct setup {
  wisp_model model;
  wisp_plan plan;
  wisp_executor *executor;
} setup;

/* Executors made from now on use the index-th set; false behind the last, and the choice is open again. */
static bool use_kernel_set(uint32_t index) {
  if (index == wisp_kernel_set_count()) {
    unsetenv("WISP_CPU");
    return false;
  }
  setenv("WISP_CPU", wisp_kernel_set(index).name, 1);
  return true;
}

static void open_setup(setup *s, const wisp_host *host, const char *shape, const char *type, uint32_t threads) {
  cr_assert_eq(wisp_model_synthesize(&s->model, host, shape, type, 7), WISP_OK);
  cr_assert_eq(wisp_plan_create(&s->plan, host, &s->model), WISP_OK);
  const wisp_executor_params params = {.host = host, .plan = &s->plan, .threads = threads, .max_context = CONTEXT};
  cr_assert_eq(wisp_cpu_executor.create(&s->executor, &params), WISP_OK);
  cr_assert_eq(s->executor->api, &wisp_cpu_executor);
}

static void close_setup(setup *s) {
  wisp_cpu_executor.destroy(s->executor);
  wisp_plan_close(&s->plan);
  wisp_model_close(&s->model);
}

static wisp_timeline *open_timeline(setup *s, uint32_t context, wisp_kv_type type) {
  wisp_timeline *timeline;
  cr_assert_eq(wisp_cpu_executor.timeline_create(&timeline, s->executor, context, type), WISP_OK);
  cr_assert(timeline->context == context && timeline->length == 0);
  return timeline;
}

static void close_timeline(wisp_timeline *timeline) {
  wisp_cpu_executor.timeline_destroy(timeline);
}

static void append(wisp_timeline *timeline, const int32_t *ids, size_t count, wisp_logits which, float *logits) {
  uint32_t before = timeline->length;
  cr_assert_eq(wisp_cpu_executor.append(timeline, ids, count, which, logits), WISP_OK);
  cr_assert_eq(timeline->length, before + count);
}

static void some_ids(const wisp_model *model, int32_t *ids, uint32_t count) {
  for (uint32_t i = 0; i < count; i++) ids[i] = (int32_t)((i * 7919u + i * i * 31u + 5) % model->vocabulary);
}

static float *room(const wisp_model *model, size_t rows) {
  float *logits = malloc(rows * model->vocabulary * sizeof *logits);
  memset(logits, 0xff, rows * model->vocabulary * sizeof *logits); /* NaN */
  return logits;
}

/* Rows of logits for all ids, in one append of a new timeline. */
static float *whole(setup *s, wisp_kv_type type, const int32_t *ids, uint32_t count) {
  wisp_timeline *timeline = open_timeline(s, CONTEXT, type);
  float *logits = room(&s->model, count);
  append(timeline, ids, count, WISP_LOGITS_ALL, logits);
  close_timeline(timeline);
  return logits;
}

static void same_bits(const float *a, const float *b, const wisp_model *model, size_t rows, const char *what) {
  for (size_t r = 0; r < rows; r++) {
    cr_assert_arr_eq(a + r * model->vocabulary, b + r * model->vocabulary, model->vocabulary * sizeof *a, "%s: row %zu", what,
                     r);
  }
}

/* ---- The model once more, as simply as can be ------------------------------------------------------------------------ */

static void naive_product(const wisp_matrix *matrix, const double *x, double *y) {
  float row[256];
  cr_assert_leq(matrix->cols, 256);
  for (uint32_t r = 0; r < matrix->rows; r++) {
    matrix->type->dequantize(matrix->data + r * wisp_matrix_row_bytes(matrix), row, matrix->cols);
    y[r] = 0;
    for (uint32_t i = 0; i < matrix->cols; i++) y[r] += row[i] * x[i];
  }
}

static void naive_norm(const double *x, const float *weight, const wisp_model *m, double *y) {
  double squares = 0;
  for (uint32_t i = 0; i < m->width; i++) squares += x[i] * x[i];
  for (uint32_t i = 0; i < m->width; i++) y[i] = x[i] * weight[i] / sqrt(squares / m->width + (double)m->norm_epsilon);
}

static void naive_rope(double *x, uint32_t heads, uint32_t position, const wisp_model *m) {
  for (uint32_t i = 0; i < heads * m->head_size / 2; i++) {
    uint32_t pair = i % (m->head_size / 2);
    double angle = position * pow(m->rope_theta, -2.0 * pair / m->head_size), a = x[2 * i], b = x[2 * i + 1];
    x[2 * i] = a * cos(angle) - b * sin(angle);
    x[2 * i + 1] = a * sin(angle) + b * cos(angle);
  }
}

/* One executed block over all tokens: what is not handed on is forgotten, so a shared block has nothing to mix up. */
static void naive_block(const wisp_block *w, const wisp_model *m, double (*x)[256], uint32_t count) {
  static double q[TOKENS][256], k[TOKENS][256], v[TOKENS][256];
  double normed[256], attended[256], gate[256], up[256], out[256];
  for (uint32_t t = 0; t < count; t++) {
    naive_norm(x[t], w->attn_norm, m, normed);
    naive_product(&w->q, normed, q[t]);
    naive_product(&w->k, normed, k[t]);
    naive_product(&w->v, normed, v[t]);
    naive_rope(q[t], m->heads, t, m);
    naive_rope(k[t], m->kv_heads, t, m);
  }
  for (uint32_t t = 0; t < count; t++) {
    for (uint32_t h = 0; h < m->heads; h++) {
      const uint32_t shared = h * m->kv_heads / m->heads * m->head_size, own = h * m->head_size;
      double weights[TOKENS], sum = 0;
      for (uint32_t s = 0; s <= t; s++) {
        double score = 0;
        for (uint32_t i = 0; i < m->head_size; i++) score += q[t][own + i] * k[s][shared + i];
        sum += weights[s] = exp(score / sqrt(m->head_size));
      }
      for (uint32_t i = 0; i < m->head_size; i++) {
        attended[own + i] = 0;
        for (uint32_t s = 0; s <= t; s++) attended[own + i] += weights[s] / sum * v[s][shared + i];
      }
    }
    naive_product(&w->attn_out, attended, out);
    for (uint32_t i = 0; i < m->width; i++) x[t][i] += out[i];
    naive_norm(x[t], w->ffn_norm, m, normed);
    naive_product(&w->gate, normed, gate);
    naive_product(&w->up, normed, up);
    for (uint32_t i = 0; i < m->ffn_width; i++) gate[i] = gate[i] / (1 + exp(-gate[i])) * up[i];
    naive_product(&w->down, gate, out);
    for (uint32_t i = 0; i < m->width; i++) x[t][i] += out[i];
  }
}

/* Normalised mean square error of logits against the naive pass over all tokens. */
static double naive_nmse(const wisp_model *m, const int32_t *ids, uint32_t count, const float *logits) {
  static double x[TOKENS][256];
  double normed[256], error = 0, power = 0, *expected = malloc(m->vocabulary * sizeof *expected);
  for (uint32_t t = 0; t < count; t++) {
    float row[256];
    m->embedding.type->dequantize(m->embedding.data + (uint32_t)ids[t] * wisp_matrix_row_bytes(&m->embedding), row, m->width);
    for (uint32_t i = 0; i < m->width; i++) x[t][i] = row[i];
  }
  for (uint32_t b = 0; b < m->weight_blocks; b++) {
    for (uint32_t r = 0; r < m->block_repeat; r++) naive_block(&m->blocks[b], m, x, count);
  }
  for (uint32_t t = 0; t < count; t++) {
    naive_norm(x[t], m->final_norm, m, normed);
    naive_product(&m->head, normed, expected);
    for (uint32_t i = 0; i < m->vocabulary; i++) {
      error += pow(logits[t * m->vocabulary + i] - expected[i], 2);
      power += expected[i] * expected[i];
    }
  }
  free(expected);
  cr_assert_gt(power, 0);
  return error / power;
}

/* 8 bits of K and V: as far from the naive pass as their rounding takes them, and not nearer. */
Test(cpu_executor, kv_cache_of_8_bits) {
  for (uint32_t set = 0; use_kernel_set(set); set++) {
    setup s;
    open_setup(&s, NULL, "tiny-32", "q4_0", 2);
    int32_t ids[TOKENS];
    some_ids(&s.model, ids, TOKENS);
    float *logits = whole(&s, WISP_KV_Q8_0, ids, TOKENS);
    const double nmse = naive_nmse(&s.model, ids, TOKENS, logits);
    cr_assert(nmse > 1e-8 && nmse < 1e-4, "NMSE %.3g", nmse);
    free(logits);
    close_setup(&s);
  }
}

static void check_naive_within(const char *shape, const char *type, double f32_bound) {
  setup s;
  open_setup(&s, NULL, shape, type, 2);
  int32_t ids[TOKENS];
  some_ids(&s.model, ids, TOKENS);
  const struct {
    wisp_kv_type type;
    double bound;
  } kinds[] = {{WISP_KV_F32, f32_bound}, {WISP_KV_F16, 1e-6}};
  for (int i = 0; i < 2; i++) {
    float *logits = whole(&s, kinds[i].type, ids, TOKENS);
    double nmse = naive_nmse(&s.model, ids, TOKENS, logits);
    cr_log_info("%s %s %s: NMSE %.3g", shape, type, i ? "f16" : "f32", nmse);
    cr_assert(nmse <= kinds[i].bound, "%s %s, cache %s: NMSE %.3g", shape, type, i ? "f16" : "f32", nmse);
    free(logits);
  }
  close_setup(&s);
}

/* The reference computes in float; the others round the inputs of quantised weights to 16 bits. */
static void check_naive(const char *shape, const char *type) {
  for (uint32_t set = 0; use_kernel_set(set); set++) check_naive_within(shape, type, set && type[0] == 'q' ? 1e-8 : 1e-11);
}

Test(cpu_executor, agrees_with_a_naive_pass) {
  check_naive("tiny", "f16");
  check_naive("tiny", "q4_0");
  check_naive("tiny", "q4_1");
  check_naive("tiny", "q5_0");
  check_naive("tiny", "q5_1");
  check_naive("tiny", "q8_0");
}

/* Blocks 0 0 1 1 2 2, each with keys and values of its own. */
Test(cpu_executor, shared_blocks_agree_with_a_naive_pass) {
  check_naive("tiny-ls", "f16");
  check_naive("tiny-ls", "q4_0");
}

Test(cpu_executor, plan_of_shared_blocks) {
  setup s;
  open_setup(&s, NULL, "tiny-ls", NULL, 1);
  cr_assert(s.plan.executed_blocks == 6 && s.plan.kv_slots == 6 && s.plan.op_count == 33);
  for (uint32_t i = 0; i < 30; i++) {
    cr_assert_eq(s.plan.ops[1 + i].weight_block, i / 10);
    cr_assert_eq(s.plan.ops[1 + i].kv_slot, i / 5);
  }
  close_setup(&s);
}

/* ---- Bit for bit ------------------------------------------------------------------------------------------------------ */

static void check_steps(const char *shape, wisp_kv_type type) {
  setup s;
  open_setup(&s, NULL, shape, "q4_0", 2);
  const uint32_t vocabulary = s.model.vocabulary;
  int32_t ids[TOKENS];
  some_ids(&s.model, ids, TOKENS);
  float *all = whole(&s, type, ids, TOKENS), *stepped = room(&s.model, TOKENS), *last = room(&s.model, 1);

  wisp_timeline *timeline = open_timeline(&s, CONTEXT, type);
  for (uint32_t i = 0; i < TOKENS; i++) append(timeline, ids + i, 1, WISP_LOGITS_LAST, stepped + (size_t)i * vocabulary);
  same_bits(stepped, all, &s.model, TOKENS, "token by token");
  cr_assert_eq(wisp_cpu_executor.last_logits(timeline, last), WISP_OK);
  same_bits(last, all + (size_t)(TOKENS - 1) * vocabulary, &s.model, 1, "last logits");

  /* Pieces of odd sizes, without logits: the last ones are known all the same. */
  const uint32_t pieces[] = {1, 63, 2, 65, 19};
  wisp_cpu_executor.truncate(timeline, 0);
  for (uint32_t i = 0, at = 0; i < 5; at += pieces[i++]) {
    append(timeline, ids + at, pieces[i], WISP_LOGITS_NONE, NULL);
    cr_assert_eq(wisp_cpu_executor.last_logits(timeline, last), WISP_OK);
    same_bits(last, all + (size_t)(at + pieces[i] - 1) * vocabulary, &s.model, 1, "in pieces");
  }

  /* Back, on with other tokens, and back again. */
  wisp_cpu_executor.truncate(timeline, 70);
  append(timeline, ids, 40, WISP_LOGITS_NONE, NULL);
  wisp_cpu_executor.truncate(timeline, 70);
  memset(stepped, 0xff, TOKENS * (size_t)vocabulary * sizeof *stepped);
  append(timeline, ids + 70, TOKENS - 70, WISP_LOGITS_ALL, stepped);
  same_bits(stepped, all + (size_t)70 * vocabulary, &s.model, TOKENS - 70, "after truncate");
  cr_assert_eq(wisp_cpu_executor.last_logits(timeline, last), WISP_OK);
  same_bits(last, all + (size_t)(TOKENS - 1) * vocabulary, &s.model, 1, "last of all");

  close_timeline(timeline);
  free(all);
  free(stepped);
  free(last);
  close_setup(&s);
}

Test(cpu_executor, batch_equals_token_by_token) {
  for (uint32_t set = 0; use_kernel_set(set); set++) {
    check_steps("tiny", WISP_KV_F16);
    check_steps("tiny", WISP_KV_F32);
    check_steps("tiny-ls", WISP_KV_F16);
    check_steps("tiny-32", WISP_KV_Q8_0);
  }
}

static void check_threads(void) {
  const uint32_t threads[] = {1, 2, 3, 8};
  float *first = NULL;
  for (int i = 0; i < 4; i++) {
    setup s;
    open_setup(&s, NULL, "tiny-ls", "q4_0", threads[i]);
    int32_t ids[TOKENS];
    some_ids(&s.model, ids, TOKENS);
    wisp_engine_stats stats = {0};
    wisp_cpu_executor.get_stats(s.executor, &stats);
    cr_assert_eq(stats.threads, threads[i]);
    float *logits = whole(&s, WISP_KV_F16, ids, TOKENS);
    if (first) same_bits(logits, first, &s.model, TOKENS, "threads");
    if (first)
      free(logits);
    else
      first = logits;
    close_setup(&s);
  }
  free(first);
}

Test(cpu_executor, any_number_of_threads) {
  for (uint32_t set = 0; use_kernel_set(set); set++) check_threads();
}

Test(cpu_executor, greedy_equals_argmax_and_append) {
  setup s;
  open_setup(&s, NULL, "tiny", "q8_0", 2);
  int32_t ids[60], prompt[10];
  some_ids(&s.model, prompt, 10);
  wisp_timeline *timeline = open_timeline(&s, CONTEXT, WISP_KV_F16);
  append(timeline, prompt, 10, WISP_LOGITS_NONE, NULL);
  for (uint32_t made, total = 0; total < 60; total += made) {
    cr_assert_eq(wisp_cpu_executor.generate(timeline, 60 - total, ids + total, &made), WISP_OK);
    cr_assert(made >= 1 && made <= 60 - total);
  }
  cr_assert_eq(timeline->length, 70);
  wisp_cpu_executor.truncate(timeline, 9);
  float *logits = room(&s.model, 1);
  append(timeline, prompt + 9, 1, WISP_LOGITS_LAST, logits);
  for (uint32_t i = 0; i < 60; i++) {
    int32_t best = 0;
    for (uint32_t k = 1; k < s.model.vocabulary; k++) {
      if (logits[k] > logits[best]) best = (int32_t)k;
    }
    cr_assert_eq(ids[i], best, "token %u", i);
    append(timeline, &best, 1, WISP_LOGITS_LAST, logits);
  }
  free(logits);
  close_timeline(timeline);
  close_setup(&s);
}

/* ---- Several timelines, cancelling, memory ----------------------------------------------------------------------------- */

typedef struct player {
  wisp_executor *executor;
  const int32_t *ids;
  const float *expected; /* [TOKENS][vocabulary] */
  uint32_t vocabulary;
  bool equal;
} player;

static void *play(void *argument) {
  player *self = argument;
  wisp_timeline *timeline;
  float *logits = malloc(self->vocabulary * sizeof *logits);
  if (wisp_cpu_executor.timeline_create(&timeline, self->executor, CONTEXT, WISP_KV_F16) != WISP_OK) return NULL;
  self->equal = true;
  for (uint32_t i = 0; i < TOKENS; i += 3) {
    self->equal &= wisp_cpu_executor.append(timeline, self->ids + i, 3, WISP_LOGITS_LAST, logits) == WISP_OK &&
                   !memcmp(logits, self->expected + (size_t)(i + 2) * self->vocabulary, self->vocabulary * sizeof *logits);
  }
  wisp_cpu_executor.timeline_destroy(timeline);
  free(logits);
  return NULL;
}

Test(cpu_executor, timelines_side_by_side) {
  const uint32_t counts[] = {1, 3, 4};
  for (int n = 0; n < 3; n++) {
    const uint32_t threads = counts[n];
    setup s;
    open_setup(&s, NULL, "tiny-ls", "q4_0", threads);
    int32_t ids[TOKENS];
    some_ids(&s.model, ids, TOKENS);
    float *all = whole(&s, WISP_KV_F16, ids, TOKENS);
    player players[4];
    pthread_t handles[4];
    for (int i = 0; i < 4; i++) {
      players[i] = (player){s.executor, ids, all, s.model.vocabulary, false};
      cr_assert_eq(pthread_create(&handles[i], NULL, play, &players[i]), 0);
    }
    for (int i = 0; i < 4; i++) {
      pthread_join(handles[i], NULL);
      cr_assert(players[i].equal, "timeline %d of 4, %u threads", i, threads);
    }
    free(all);
    close_setup(&s);
  }
}

Test(cpu_executor, cancel) {
  setup s;
  capture said;
  wisp_host host = capture_host(&said);
  open_setup(&s, &host, "tiny", "q4_0", 2);
  int32_t ids[TOKENS], id;
  uint32_t made = 99;
  some_ids(&s.model, ids, TOKENS);
  float *before = room(&s.model, 1), *after = room(&s.model, 1);
  atomic_int cancel = 0;
  wisp_timeline *timeline = open_timeline(&s, CONTEXT, WISP_KV_F16);
  timeline->cancel = &cancel;
  append(timeline, ids, 10, WISP_LOGITS_LAST, before);
  cancel = 1;
  cr_assert_eq(wisp_cpu_executor.append(timeline, ids, 100, WISP_LOGITS_NONE, NULL), WISP_ERROR_CANCELLED);
  cr_assert_eq(timeline->length, 10);
  cr_assert_eq(wisp_cpu_executor.generate(timeline, 5, &id, &made), WISP_ERROR_CANCELLED);
  cr_assert(timeline->length == 10 && made == 0);
  cr_assert_eq(wisp_cpu_executor.last_logits(timeline, after), WISP_OK);
  same_bits(after, before, &s.model, 1, "a cancelled token changes nothing");
  cancel = 0;
  cr_assert_eq(wisp_cpu_executor.generate(timeline, 5, &id, &made), WISP_OK);
  cr_assert(timeline->length == 11 && made == 1);
  cr_assert_eq(said.errors, 0, "%s", said.error);
  close_timeline(timeline);
  close_setup(&s);
  free(before);
  free(after);
}

Test(cpu_executor, unknown_last_logits_are_refused) {
  setup s;
  capture said;
  wisp_host host = capture_host(&said);
  open_setup(&s, &host, "tiny", "q4_0", 1);
  float *logits = room(&s.model, 1);
  int32_t ids[3] = {1, 2, 3}, id;
  uint32_t made;
  wisp_timeline *timeline = open_timeline(&s, 10, WISP_KV_F16);
  cr_assert_eq(wisp_cpu_executor.last_logits(timeline, logits), WISP_ERROR_ARGUMENT);
  append(timeline, ids, 3, WISP_LOGITS_NONE, NULL);
  cr_assert_eq(wisp_cpu_executor.last_logits(timeline, logits), WISP_OK);
  wisp_cpu_executor.truncate(timeline, 2);
  cr_assert_eq(wisp_cpu_executor.last_logits(timeline, logits), WISP_ERROR_ARGUMENT);
  cr_assert_eq(wisp_cpu_executor.generate(timeline, 1, &id, &made), WISP_ERROR_ARGUMENT);
  cr_assert_eq(said.errors, 3);
  close_timeline(timeline);
  close_setup(&s);
  free(logits);
}

Test(cpu_executor, memory_is_counted_and_given_back) {
  setup s;
  capture said;
  wisp_host host = capture_host(&said);
  open_setup(&s, &host, "tiny-ls", "q4_0", 2);
  const long held = said.live;
  wisp_engine_stats stats = {0}, after = {0};
  wisp_cpu_executor.get_stats(s.executor, &stats);
  const uint64_t weights = stats.device_bytes; /* packed: none of the reference's */
  wisp_timeline *small = open_timeline(&s, 10, WISP_KV_F16), *large = open_timeline(&s, 100, WISP_KV_F32);
  wisp_cpu_executor.get_stats(s.executor, &stats);
  cr_assert_gt(stats.device_bytes, weights + 6 * (10 * 64 * 2 + 100 * 64 * 4)); /* slots * positions * (K and V) * bytes */
  cr_assert_eq(stats.peak_device_bytes, stats.device_bytes);
  close_timeline(large);
  close_timeline(small);
  wisp_cpu_executor.get_stats(s.executor, &after);
  cr_assert(after.device_bytes == weights && after.peak_device_bytes == stats.peak_device_bytes);
  cr_assert_str_eq(after.device.selector, "cpu");
  cr_assert_eq(said.live, held);
  cr_assert_eq(wisp_cpu_executor.pipelines(s.executor, NULL, 0), 0);

  wisp_timeline *timeline;
  for (unsigned fail = 1; fail <= 3; fail++) {
    unsigned errors = said.errors;
    said.fail_at = said.allocations + fail;
    cr_assert_eq(wisp_cpu_executor.timeline_create(&timeline, s.executor, 10, WISP_KV_F16), WISP_ERROR_MEMORY);
    cr_assert_null(timeline);
    cr_assert(said.live == held && said.errors == errors + 1, "allocation %u", fail);
  }
  close_setup(&s);
  cr_assert_eq(said.live, 0);
}

Test(cpu_executor, contexts_beyond_memory_are_refused) {
  setup s;
  capture said;
  wisp_host host = capture_host(&said);
  open_setup(&s, &host, "tiny", "q4_0", 2);
  /* Just beyond: 3 slots of 256 bytes a position in f32, and more for tables. */
  const uint64_t beyond = wisp_cpu_memory() / (3 * 256) + 1;
  const uint32_t contexts[] = {beyond < UINT32_MAX ? (uint32_t)beyond : UINT32_MAX, UINT32_MAX};
  wisp_timeline *timeline;
  for (unsigned i = 0; i < 2; i++) {
    char tokens[32];
    snprintf(tokens, sizeof tokens, "%u tokens", contexts[i]);
    cr_assert_eq(wisp_cpu_executor.timeline_create(&timeline, s.executor, contexts[i], WISP_KV_F32), WISP_ERROR_MEMORY);
    cr_assert_null(timeline);
    cr_assert_not_null(strstr(said.error, tokens), "%s", said.error);
    cr_assert_eq(said.errors, i + 1);
  }
  cr_assert_eq(wisp_cpu_executor.timeline_create(&timeline, s.executor, 0, WISP_KV_F32), WISP_ERROR_ARGUMENT);
  close_setup(&s);
}

Test(cpu_executor, failures_of_creation_leave_nothing) {
  wisp_model model;
  wisp_plan plan;
  cr_assert_eq(wisp_model_synthesize(&model, NULL, "tiny", NULL, 1), WISP_OK);
  cr_assert_eq(wisp_plan_create(&plan, NULL, &model), WISP_OK);
  unsigned fail = 1;
  for (wisp_status status = WISP_ERROR_MEMORY; status != WISP_OK; fail++) {
    capture said;
    wisp_host host = capture_host(&said);
    said.fail_at = fail;
    wisp_executor *executor;
    const wisp_executor_params params = {.host = &host, .plan = &plan, .threads = 2};
    status = wisp_cpu_executor.create(&executor, &params);
    cr_assert(status == WISP_OK ? said.errors == 0 : status == WISP_ERROR_MEMORY && !executor && said.errors == 1);
    wisp_cpu_executor.destroy(executor);
    cr_assert(said.live == 0, "allocation %u", fail);
  }
  cr_assert_geq(fail, 5);
  wisp_plan_close(&plan);
  wisp_model_close(&model);
}

Test(cpu_executor, copy_bandwidth) {
  setup s;
  open_setup(&s, NULL, "tiny", NULL, 0);
  double gb_per_s = 0;
  cr_assert_eq(wisp_cpu_executor.copy_bandwidth(s.executor, &gb_per_s), WISP_OK);
  cr_assert(gb_per_s > 0.05 && gb_per_s < 1e5, "%g GB/s", gb_per_s);
  cr_log_info("copies %.1f GB/s", gb_per_s);
  close_setup(&s);
}

Test(cpu_executor, unknown_kernel_sets_are_refused) {
  capture said;
  wisp_host host = capture_host(&said);
  wisp_cpu_kernels kernels;
  cr_assert_eq(wisp_kernel_set_choose(&host, "mmx", &kernels), WISP_ERROR_ARGUMENT);
  cr_assert(said.errors == 1 && strstr(said.error, "\"mmx\"") && strstr(said.error, ", c"), "%s", said.error);
  cr_assert_eq(wisp_kernel_set_choose(&host, "c", &kernels), WISP_OK);
  cr_assert_str_eq(kernels.name, "c");
  cr_assert_eq(wisp_kernel_set_choose(&host, NULL, &kernels), WISP_OK);
  cr_assert_str_eq(kernels.name, wisp_kernel_set(wisp_kernel_set_count() - 1).name);
}
