/* SPDX-License-Identifier: Apache-2.0 */
#include "measure.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/platform.h"
#include "common/report.h"
#include "sessions.h"

#define WARM_UP_MS 400

typedef struct measure {
  wisp_engine *engine;
  wisp_session *session;
  const measure_tests *tests;
  wisp_model_info model;
  row common; /* what all rows of this device share */
  bool vulkan;
  int32_t *ids;    /* [context]: deterministic pseudo-random prompt, then scratch for replies */
  int32_t *reply;  /* [context] */
  double *samples; /* [repetitions * context]: ms of each token or batch */
  size_t sample_count;
  double last_ms; /* when the last token came */
} measure;

/* What one test did over all its repetitions. */
typedef struct totals {
  double rate_sum, rate_sum_of_squares; /* tokens per second */
  double cpu_ms;
  uint64_t tokens, dispatches, submits;
} totals;

/* Where the clocks and counters stood. */
typedef struct mark {
  double ms, cpu_ms;
  wisp_engine_stats stats;
} mark;

static mark set_mark(const measure *m) {
  mark start;
  wisp_engine_get_stats(m->engine, &start.stats);
  start.cpu_ms = platform_cpu_ms();
  start.ms = platform_now_ms();
  return start;
}

/* Adds what happened since start, which made count tokens. */
static void add_since(const measure *m, const mark *start, uint32_t count, totals *sum) {
  double rate = count * 1e3 / (platform_now_ms() - start->ms);
  sum->cpu_ms += platform_cpu_ms() - start->cpu_ms;
  wisp_engine_stats stats;
  wisp_engine_get_stats(m->engine, &stats);
  sum->dispatches += stats.dispatches - start->stats.dispatches;
  sum->submits += stats.submits - start->stats.submits;
  sum->tokens += count;
  sum->rate_sum += rate;
  sum->rate_sum_of_squares += rate * rate;
}

/* Numerical Recipes' LCG: the same ids everywhere. */
static void fill_ids(int32_t *ids, uint32_t count, uint32_t vocabulary) {
  uint32_t state = 1;
  for (uint32_t i = 0; i < count; i++) {
    state = state * 1664525u + 1013904223u;
    ids[i] = (int32_t)((uint64_t)state * vocabulary >> 32);
  }
}

static bool on_token(void *user, int32_t id) {
  measure *m = user;
  double now = platform_now_ms();
  m->samples[m->sample_count++] = now - m->last_ms;
  m->last_ms = now;
  return true;
}

static wisp_status fill_cache(measure *m, uint32_t depth) {
  enum { BATCH = 512 };
  wisp_status status = wisp_session_truncate(m->session, 0);
  for (uint32_t from = 0; from < depth && status == WISP_OK; from += BATCH) {
    uint32_t count = depth - from < BATCH ? depth - from : BATCH;
    status = wisp_session_append(m->session, m->ids + from, count, WISP_LOGITS_NONE, NULL);
  }
  return status;
}

/* One repetition behind depth tokens: adds to the samples and to sum. */
typedef wisp_status (*run_fn)(measure *m, uint32_t depth, uint32_t count, totals *sum);

static wisp_status run_prompt(measure *m, uint32_t depth, uint32_t count, totals *sum) {
  wisp_status status = wisp_session_truncate(m->session, depth);
  if (status != WISP_OK) return status;
  mark start = set_mark(m);
  status = wisp_session_append(m->session, m->ids + depth, count, WISP_LOGITS_NONE, NULL);
  m->samples[m->sample_count++] = platform_now_ms() - start.ms;
  add_since(m, &start, count, sum);
  return status;
}

/* Tokens of one submit come at once, after one wait: each of them took its share of it. */
static void share_waits(double *samples, uint32_t count, double mean_ms) {
  for (uint32_t first = 0, next; first < count; first = next) {
    double sum = samples[first];
    for (next = first + 1; next < count && samples[next] < 0.1 * mean_ms; next++) sum += samples[next];
    for (uint32_t i = first; i < next; i++) samples[i] = sum / (next - first);
  }
}

static wisp_status run_reply(measure *m, uint32_t depth, uint32_t count, totals *sum) {
  wisp_generate_params params = {.max_tokens = count, .ignore_end = true, .on_token = on_token, .user = m};
  wisp_status status = wisp_session_truncate(m->session, depth);
  /* A token to continue from, evaluated outside the measured time. */
  if (status == WISP_OK) status = wisp_session_append(m->session, m->ids + depth, 1, WISP_LOGITS_NONE, NULL);
  if (status != WISP_OK) return status;
  uint32_t made = 0;
  mark start = set_mark(m);
  m->last_ms = start.ms;
  status = wisp_session_generate(m->session, &params, m->reply, &made);
  if (made) share_waits(m->samples + m->sample_count - made, made, (m->last_ms - start.ms) / made);
  add_since(m, &start, made, sum);
  return status;
}

static int compare(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

/* Nearest rank; samples are sorted. */
static double percentile(const measure *m, double share) {
  if (m->sample_count == 0) return NAN;
  size_t rank = (size_t)ceil(share * (double)m->sample_count);
  return m->samples[rank > 0 ? rank - 1 : 0];
}

static row finish_row(measure *m, const totals *sum, bool prompt, uint32_t depth, uint32_t count) {
  row item = m->common;
  double n = m->tests->repetitions, tokens = (double)sum->tokens;
  snprintf(item.test, sizeof item.test, "%s%u", prompt ? "pp" : "tg", count);
  item.depth = depth;
  item.tok_per_s = sum->rate_sum / n;
  if (n > 1) {
    double variance = (sum->rate_sum_of_squares - n * item.tok_per_s * item.tok_per_s) / (n - 1);
    item.tok_per_s_stddev = sqrt(fmax(variance, 0));
  }
  qsort(m->samples, m->sample_count, sizeof *m->samples, compare);
  item.ms_p50 = percentile(m, 0.50);
  item.ms_p90 = percentile(m, 0.90);
  item.ms_p99 = percentile(m, 0.99);
  if (!prompt) {
    /* Token i of count sees depth + 1 + i tokens. */
    double mean_context = depth + 1 + (count - 1) / 2.0;
    item.bytes_per_token = (double)m->model.bytes_per_token + mean_context * (double)m->model.kv_bytes_per_token;
    item.gb_per_s = item.bytes_per_token * item.tok_per_s / 1e9;
  }
  wisp_engine_stats stats;
  wisp_engine_get_stats(m->engine, &stats);
  if (m->vulkan) {
    item.dispatches_per_token = (double)sum->dispatches / tokens;
    item.submits_per_token = (double)sum->submits / tokens;
    if (!prompt) item.host_us_per_token = sum->cpu_ms * 1e3 / tokens;
  }
  item.peak_device_bytes = (double)stats.peak_device_bytes;
  uint64_t resident = platform_peak_rss();
  if (resident) item.peak_rss_bytes = (double)resident;
  return item;
}

/* Once at least, and for as long as a GPU that idled takes to get back to its clock rate: an H100 drops to a fifth of it within
 * two seconds and needs 0.2 s of work. */
static wisp_status warm_up(measure *m, run_fn run, uint32_t depth, uint32_t count, totals *sum) {
  const double end = platform_now_ms() + (m->vulkan ? WARM_UP_MS : 0);
  wisp_status status;
  do {
    m->sample_count = 0;
    status = run(m, depth, count, sum);
  } while (status == WISP_OK && platform_now_ms() < end);
  return status;
}

static wisp_status run_test(measure *m, bool prompt, uint32_t depth, uint32_t count, rows *list) {
  run_fn run = prompt ? run_prompt : run_reply;
  totals sum = {0};
  char label[64];
  snprintf(label, sizeof label, "%s %s%u", m->common.backend, prompt ? "pp" : "tg", count);
  report_progress(NULL, label, 0);
  m->sample_count = 0;
  wisp_status status = warm_up(m, run, depth, count, &sum);
  m->sample_count = 0;
  sum = (totals){0};
  for (uint32_t i = 0; i < m->tests->repetitions && status == WISP_OK; i++) {
    report_progress(NULL, label, (float)(i + 1) / (float)(m->tests->repetitions + 1));
    status = run(m, depth, count, &sum);
  }
  report_progress(NULL, NULL, 0);
  if (status != WISP_OK) return status;
  row item = finish_row(m, &sum, prompt, depth, count);
  return rows_add(list, &item) ? WISP_OK : WISP_ERROR_MEMORY;
}

/* Replies by several sessions at once: one row, their tokens together. */
static wisp_status run_sessions(measure *m, uint32_t count, rows *list) {
  double rate, sum = 0, squares = 0, n = m->tests->repetitions;
  for (uint32_t i = 0; i < m->tests->repetitions; i++) {
    const wisp_status status = sessions_measure(m->engine, m->tests->sessions, count, m->tests->kv_type, &rate);
    if (status != WISP_OK) return status;
    sum += rate, squares += rate * rate;
  }
  row item = m->common;
  snprintf(item.test, sizeof item.test, "tg%ux%u", count, m->tests->sessions);
  item.depth = 0;
  item.tok_per_s = sum / n;
  if (n > 1) item.tok_per_s_stddev = sqrt(fmax(0, (squares - sum * sum / n) / (n - 1)));
  return rows_add(list, &item) ? WISP_OK : WISP_ERROR_MEMORY;
}

/* A new session, the first prompt and one token: what a user waits for after the engine is there. */
static wisp_status measure_first_token(measure *m) {
  uint32_t count = 1, made;
  for (uint32_t i = m->tests->prompts.count; i > 0; i--) {
    if (m->tests->prompts.items[i - 1]) count = m->tests->prompts.items[i - 1];
  }
  wisp_session_params params = wisp_session_params_defaults();
  params.context = m->tests->context;
  params.kv_type = m->tests->kv_type;
  wisp_generate_params generate = {.max_tokens = 1, .ignore_end = true};
  double start = platform_now_ms();
  wisp_status status = wisp_session_create(&m->session, m->engine, &params);
  if (status == WISP_OK) status = wisp_session_append(m->session, m->ids, count, WISP_LOGITS_NONE, NULL);
  if (status == WISP_OK) status = wisp_session_generate(m->session, &generate, m->reply, &made);
  m->common.first_token_ms = platform_now_ms() - start;
  wisp_engine_settle(m->engine);
  return status;
}

static void fill_common(measure *m) {
  wisp_engine_stats stats;
  wisp_engine_get_stats(m->engine, &stats);
  wisp_engine_model_info(m->engine, &m->model);
  m->common = row_unknown();
  snprintf(m->common.model, sizeof m->common.model, "%s", m->model.name);
  snprintf(m->common.type, sizeof m->common.type, "%s", m->model.type);
  snprintf(m->common.device, sizeof m->common.device, "%s", stats.device.name);
  snprintf(m->common.backend, sizeof m->common.backend, "%s", stats.device.backend);
  m->common.threads = stats.threads;
  m->common.load_ms = stats.load_ms;
  m->common.init_ms = stats.init_ms;
  m->vulkan = !strcmp(stats.device.backend, "vulkan");
}

/* Last, for their buffers would count as the model's peak memory. */
static void measure_what_bounds(measure *m, measure_limits *limits) {
  enum { OPS_MAX = 4096, PROMPT = 64 };
  wisp_engine_stats stats;
  wisp_engine_get_stats(m->engine, &stats);
  snprintf(limits->kernels, sizeof limits->kernels, "%s", stats.kernels);
  snprintf(limits->decode, sizeof limits->decode, "%s", stats.decode);
  limits->token_bytes = (double)m->model.bytes_per_token;
  limits->token_gflop = (double)m->model.flops_per_token / 1e9;
  wisp_op_info *ops = calloc(OPS_MAX, sizeof *ops);
  const uint32_t count = ops ? wisp_engine_plan(m->engine, WISP_PHASE_PREFILL, ops, OPS_MAX) : 0;
  for (uint32_t i = 0; i < count && i < OPS_MAX; i++) limits->prompt_gflop += (double)ops[i].flops / PROMPT / 1e9;
  free(ops);
  if (wisp_engine_copy_bandwidth(m->engine, &limits->copy_gb_per_s) != WISP_OK) {
    report_forget();
    limits->copy_gb_per_s = NAN;
  }
  if (wisp_engine_cpu_limits(m->engine, &limits->cpu) != WISP_OK) report_forget();
}

wisp_status measure_device(wisp_engine *engine, const measure_tests *tests, rows *list, measure_limits *limits) {
  measure m = {.engine = engine, .tests = tests};
  fill_common(&m);
  m.ids = malloc(tests->context * sizeof *m.ids);
  m.reply = malloc(tests->context * sizeof *m.reply);
  m.samples = malloc((size_t)tests->context * tests->repetitions * sizeof *m.samples);
  wisp_status status = m.ids && m.reply && m.samples ? WISP_OK : WISP_ERROR_MEMORY;
  if (status == WISP_OK) {
    fill_ids(m.ids, tests->context, m.model.vocabulary);
    status = measure_first_token(&m);
  }
  for (uint32_t i = 0; i < tests->depths.count && status == WISP_OK; i++) {
    uint32_t depth = tests->depths.items[i];
    status = fill_cache(&m, depth);
    for (uint32_t j = 0; j < tests->prompts.count && status == WISP_OK; j++) {
      if (tests->prompts.items[j]) status = run_test(&m, true, depth, tests->prompts.items[j], list);
    }
    for (uint32_t j = 0; j < tests->replies.count && status == WISP_OK; j++) {
      if (tests->replies.items[j]) status = run_test(&m, false, depth, tests->replies.items[j], list);
    }
  }
  for (uint32_t j = 0; tests->sessions > 1 && j < tests->replies.count && status == WISP_OK; j++) {
    if (tests->replies.items[j]) status = run_sessions(&m, tests->replies.items[j], list);
  }
  wisp_session_destroy(&m.session);
  free(m.ids);
  free(m.reply);
  free(m.samples);
  *limits = (measure_limits){.copy_gb_per_s = NAN};
  if (status == WISP_OK) measure_what_bounds(&m, limits);
  return status;
}
