/* SPDX-License-Identifier: Apache-2.0
 * wisp compare: how far model B is from model A on a text, or one model on two devices or
 * with two kinds of KV cache. Windows and scored tokens as in wisp
 * perplexity: in each window the second half, each token predicted from all that stands before it. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "commands.h"
#include "common/json.h"
#include "common/model.h"
#include "common/report.h"
#include "mean.h"
#include "tokens.h"

enum { ROWS = 32 }; /* positions whose logits are in memory at once */

typedef struct compare_options {
  const char *paths[2], *file, *device;
  model_options models[2];
  uint32_t threads, window, limit;
  bool json, verbose;
} compare_options;

typedef struct side {
  wisp_engine *engine;
  wisp_session *session;
  float *logits; /* [ROWS][vocabulary] */
  mean surprise; /* -ln p(token) */
} side;

typedef struct comparison {
  side sides[2];
  uint32_t vocabulary;
  mean divergence, ratio; /* KL(A || B); ln p_A(token) - ln p_B(token) */
  uint64_t same_top;
  double *divergences; /* [room] */
  size_t room;
} comparison;

static uint32_t argmax(const float *x, uint32_t count) {
  uint32_t best = 0;
  for (uint32_t i = 1; i < count; i++)
    if (x[i] > x[best]) best = i;
  return best;
}

static void compare_row(comparison *c, const float *a, const float *b, int32_t id) {
  const double log_a = log_sum_exp(a, c->vocabulary), log_b = log_sum_exp(b, c->vocabulary);
  double divergence = 0;
  for (uint32_t i = 0; i < c->vocabulary; i++) {
    const double p = (double)a[i] - log_a;
    divergence += exp(p) * (p - ((double)b[i] - log_b));
  }
  if (divergence < 0) divergence = 0; /* rounding */
  const double surprise_a = log_a - (double)a[id], surprise_b = log_b - (double)b[id];
  c->divergences[c->divergence.count] = divergence;
  mean_add(&c->divergence, divergence);
  mean_add(&c->sides[0].surprise, surprise_a);
  mean_add(&c->sides[1].surprise, surprise_b);
  mean_add(&c->ratio, surprise_b - surprise_a);
  c->same_top += argmax(a, c->vocabulary) == argmax(b, c->vocabulary);
}

static wisp_status compare_window(comparison *c, const int32_t *ids, uint32_t first, uint32_t count) {
  wisp_status status = WISP_OK;
  for (int s = 0; s < 2 && status == WISP_OK; s++) {
    status = wisp_session_truncate(c->sides[s].session, 0);
    if (status == WISP_OK && first > 1)
      status = wisp_session_append(c->sides[s].session, ids, first - 1, WISP_LOGITS_NONE, NULL);
  }
  for (uint32_t from = first - 1; from + 1 < count && status == WISP_OK; from += ROWS) {
    const uint32_t rows = count - 1 - from < ROWS ? count - 1 - from : ROWS;
    for (int s = 0; s < 2 && status == WISP_OK; s++)
      status = wisp_session_append(c->sides[s].session, ids + from, rows, WISP_LOGITS_ALL, c->sides[s].logits);
    for (uint32_t i = 0; i < rows && status == WISP_OK; i++) {
      const size_t row = (size_t)i * c->vocabulary;
      compare_row(c, c->sides[0].logits + row, c->sides[1].logits + row, ids[from + i + 1]);
    }
  }
  return status;
}

static int by_value(const void *a, const void *b) {
  const double left = *(const double *)a, right = *(const double *)b;
  return (left > right) - (left < right);
}

static void print_result(const compare_options *options, comparison *c, size_t windows) {
  const uint64_t count = c->divergence.count;
  qsort(c->divergences, count, sizeof *c->divergences, by_value);
  const double top = (double)c->same_top / (double)count, p99 = c->divergences[(count - 1) * 99 / 100];
  const double ratio = exp(mean_value(&c->ratio)), ratio_error = ratio * mean_error(&c->ratio);
  double perplexity[2], error[2];
  for (int s = 0; s < 2; s++) {
    perplexity[s] = exp(mean_value(&c->sides[s].surprise));
    error[s] = perplexity[s] * mean_error(&c->sides[s].surprise);
  }
  if (!options->json) {
    printf("KL divergence  mean %.6f +- %.6f, 99 %% below %.6f, largest %.6f\n", mean_value(&c->divergence),
           mean_error(&c->divergence), p99, c->divergences[count - 1]);
    printf("same top token %.2f %% +- %.2f %%\n", 100 * top, 100 * sqrt(top * (1 - top) / (double)count));
    printf("perplexity     A %.4f +- %.4f, B %.4f +- %.4f, B / A %.5f +- %.5f\n", perplexity[0], error[0], perplexity[1],
           error[1], ratio, ratio_error);
    printf("(%llu scored tokens, %zu windows)\n", (unsigned long long)count, windows);
    return;
  }
  json out;
  json_begin(&out, stdout);
  json_open_object(&out, NULL);
  json_number(&out, "kl_mean", mean_value(&c->divergence));
  json_number(&out, "kl_standard_error", mean_error(&c->divergence));
  json_number(&out, "kl_p99", p99);
  json_number(&out, "kl_max", c->divergences[count - 1]);
  json_number(&out, "same_top", top);
  json_number(&out, "same_top_standard_error", sqrt(top * (1 - top) / (double)count));
  json_number(&out, "perplexity_a", perplexity[0]);
  json_number(&out, "perplexity_a_standard_error", error[0]);
  json_number(&out, "perplexity_b", perplexity[1]);
  json_number(&out, "perplexity_b_standard_error", error[1]);
  json_number(&out, "perplexity_ratio", ratio);
  json_number(&out, "perplexity_ratio_standard_error", ratio_error);
  json_integer(&out, "scored_tokens", (int64_t)count);
  json_integer(&out, "windows", (int64_t)windows);
  json_integer(&out, "window", options->window);
  json_close_object(&out);
  json_end(&out);
}

static int open_sides(const compare_options *options, comparison *c) {
  for (int s = 0; s < 2; s++) {
    side *opened = &c->sides[s];
    int code = model_open(&options->models[s], WISP_LOAD_ALL, &opened->engine);
    if (code != REPORT_DONE) return code;
    wisp_model_info info;
    wisp_engine_model_info(opened->engine, &info);
    if (s && info.vocabulary != c->vocabulary)
      return report_error("the vocabularies differ: %s has %u tokens, %s %u", options->models[0].path, c->vocabulary,
                          options->models[1].path, info.vocabulary);
    c->vocabulary = info.vocabulary;
    opened->logits = malloc((size_t)ROWS * info.vocabulary * sizeof *opened->logits);
    if (!opened->logits) return report_error("out of memory for the logits of %d positions", ROWS);
  }
  return REPORT_DONE;
}

static int measure(const compare_options *options, comparison *c, const tokens *ids) {
  const uint32_t window = ids->count < options->window ? (uint32_t)ids->count : options->window;
  size_t windows = ids->count / window;
  if (options->limit && windows > options->limit) windows = options->limit;
  c->divergences = malloc(windows * window * sizeof *c->divergences);
  if (!c->divergences) return report_error("out of memory for %zu windows", windows);
  wisp_session_params params = wisp_session_params_defaults();
  params.context = window;
  wisp_status status = WISP_OK;
  for (int s = 0; s < 2 && status == WISP_OK; s++) {
    params.kv_type = (wisp_kv_type)options->models[s].kv;
    status = wisp_session_create(&c->sides[s].session, c->sides[s].engine, &params);
  }
  for (size_t i = 0; i < windows && status == WISP_OK; i++) {
    report_progress(NULL, "comparing", (float)i / (float)windows);
    status = compare_window(c, ids->ids + i * window, window / 2, window);
  }
  report_progress(NULL, NULL, 0);
  if (status != WISP_OK) return report_status(status);
  print_result(options, c, windows);
  return REPORT_DONE;
}

static int run(const compare_options *options) {
  comparison c = {0};
  tokens ids = {0};
  int code = open_sides(options, &c);
  if (code == REPORT_DONE) code = tokens_from_file(c.sides[0].engine, options->file, 2, &ids);
  if (code == REPORT_DONE) code = measure(options, &c, &ids);
  free(ids.ids);
  free(c.divergences);
  for (int s = 0; s < 2; s++) {
    free(c.sides[s].logits);
    wisp_session_destroy(&c.sides[s].session);
    wisp_engine_destroy(&c.sides[s].engine);
  }
  return code;
}

int command_compare(int argc, char **argv) {
  compare_options o = {.window = 512};
  const args_option options[] = {
      ARG_TEXT("-f", "--file", &o.file, "FILE", "the text, - = standard input"),
      ARG_U32("--window", "-w", &o.window, 2, 1 << 20, "tokens a window; its second half is scored; default 512"),
      ARG_U32("--chunks", NULL, &o.limit, 1, UINT32_MAX, "stop after N windows"),
      ARG_TEXT("--device", NULL, &o.device, "D", "of both: auto (default), cpu, vulkan or vulkan:INDEX"),
      ARG_TEXT("--device-a", NULL, &o.models[0].device, "D", "of A"),
      ARG_TEXT("--device-b", NULL, &o.models[1].device, "D", "of B"),
      ARG_CHOICE("--kv-a", NULL, &o.models[0].kv, "TYPE", model_kv_types, "type of A's KV cache: f16 (default), f32 or q8_0"),
      ARG_CHOICE("--kv-b", NULL, &o.models[1].kv, "TYPE", model_kv_types, "of B's"),
      ARG_U32("--threads", "-t", &o.threads, 1, MODEL_THREADS_MAX, "CPU threads; default one for each fast core"),
      ARG_FLAG("--json", NULL, &o.json, "print one object"),
      ARG_FLAG("-v", "--verbose", &o.verbose, "say what was chosen: device, kernels"),
  };
  const args_command command = {
      .name = "wisp compare",
      .operands = "A [B]",
      .summary = "Prints how far model B is from model A on a text; without B, A on two devices or with two KV caches.",
      .options = options,
      .option_count = sizeof options / sizeof options[0],
      .operands_to = o.paths,
      .operand_count = 2};
  int code = args_parse(&command, argc, argv);
  if (code != ARGS_OK) return code;
  if (!o.paths[0]) return args_mistake(&command, "no model given");
  if (!o.paths[1] && !o.models[0].device && !o.models[1].device && o.models[0].kv == o.models[1].kv)
    return args_mistake(&command, "give two models, or one with --device-a and --device-b, or --kv-a and --kv-b");
  for (int s = 0; s < 2; s++) {
    o.models[s].path = o.paths[s] ? o.paths[s] : o.paths[0];
    if (!o.models[s].device) o.models[s].device = o.device;
    o.models[s].threads = o.threads;
    o.models[s].context = o.window;
    o.models[s].verbose = o.verbose;
    code = model_check(&o.models[s], &command);
    if (code != ARGS_OK) return code;
  }
  if (!o.file) return args_mistake(&command, "no text given; use -f FILE");
  return run(&o);
}
