/* SPDX-License-Identifier: Apache-2.0
 * wisp perplexity: how well a model predicts a text. The text is cut into windows; in each, the tokens of the second half are
 * scored, each predicted from all that stands before it in its window. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "commands.h"
#include "common/json.h"
#include "common/model.h"
#include "common/report.h"
#include "mean.h"
#include "tokens.h"

typedef struct perplexity_options {
  model_options model;
  const char *file;
  uint32_t window, limit; /* tokens; windows, 0 = all */
  bool json;
} perplexity_options;

enum { LOGITS_BYTES = 64 << 20 }; /* how much is fetched at once, about */

/* Scores ids[first..count), first >= 1. */
static wisp_status score_window(wisp_session *session, const int32_t *ids, uint32_t first, uint32_t count, float *logits,
                                uint32_t rows, uint32_t vocabulary, mean *total) {
  wisp_status status = wisp_session_truncate(session, 0);
  if (status == WISP_OK && first > 1) status = wisp_session_append(session, ids, first - 1, WISP_LOGITS_NONE, NULL);
  for (uint32_t from = first - 1; from + 1 < count && status == WISP_OK; from += rows) {
    uint32_t batch = count - 1 - from < rows ? count - 1 - from : rows;
    status = wisp_session_append(session, ids + from, batch, WISP_LOGITS_ALL, logits);
    for (uint32_t i = 0; i < batch && status == WISP_OK; i++) {
      const float *row = logits + (size_t)i * vocabulary;
      mean_add(total, log_sum_exp(row, vocabulary) - (double)row[ids[from + i + 1]]); /* -ln p(token) */
    }
  }
  return status;
}

static void print_result(const perplexity_options *options, const mean *total, size_t windows) {
  double perplexity = exp(mean_value(total)), error = perplexity * mean_error(total);
  if (!options->json) {
    printf("perplexity %.4f +- %.4f (%llu scored tokens, %zu windows)\n", perplexity, error, (unsigned long long)total->count,
           windows);
    return;
  }
  json out;
  json_begin(&out, stdout);
  json_open_object(&out, NULL);
  json_number(&out, "perplexity", perplexity);
  json_number(&out, "standard_error", error);
  json_number(&out, "mean_nll", mean_value(total));
  json_integer(&out, "scored_tokens", (int64_t)total->count);
  json_integer(&out, "windows", (int64_t)windows);
  json_integer(&out, "window", options->window);
  json_close_object(&out);
  json_end(&out);
}

static int measure(const perplexity_options *options, wisp_engine *engine, const tokens *ids) {
  uint32_t window = ids->count < options->window ? (uint32_t)ids->count : options->window;
  size_t windows = ids->count / window;
  if (options->limit && windows > options->limit) windows = options->limit;
  wisp_model_info info;
  wisp_engine_model_info(engine, &info);
  uint32_t rows = LOGITS_BYTES / (info.vocabulary * (uint32_t)sizeof(float)) + 1;
  float *logits = malloc((size_t)rows * info.vocabulary * sizeof *logits);
  if (!logits) return report_error("out of memory for the logits of %u positions", rows);

  wisp_session *session;
  wisp_session_params params = wisp_session_params_defaults();
  params.context = window;
  params.kv_type = (wisp_kv_type)options->model.kv;
  wisp_status status = wisp_session_create(&session, engine, &params);
  mean total = {0};
  for (size_t i = 0; i < windows && status == WISP_OK; i++) {
    report_progress(NULL, "perplexity", (float)i / (float)windows);
    status = score_window(session, ids->ids + i * window, window / 2, window, logits, rows, info.vocabulary, &total);
  }
  report_progress(NULL, NULL, 0);
  wisp_session_destroy(&session);
  free(logits);
  if (status != WISP_OK) return report_status(status);
  print_result(options, &total, windows);
  return REPORT_DONE;
}

static int run(const perplexity_options *options) {
  wisp_engine *engine = NULL;
  tokens ids = {0};
  int code = model_open(&options->model, WISP_LOAD_ALL, &engine);
  if (code == REPORT_DONE) code = tokens_from_file(engine, options->file, 2, &ids);
  if (code == REPORT_DONE) code = measure(options, engine, &ids);
  free(ids.ids);
  wisp_engine_destroy(&engine);
  return code;
}

int command_perplexity(int argc, char **argv) {
  perplexity_options o = {.window = 512};
  const args_option options[] = {
      MODEL_OPTION_FILE(o.model),
      ARG_TEXT("-f", "--file", &o.file, "FILE", "the text, - = standard input"),
      ARG_U32("--window", "-w", &o.window, 2, 1 << 20, "tokens a window; its second half is scored; default 512"),
      ARG_U32("--chunks", NULL, &o.limit, 1, UINT32_MAX, "stop after N windows"),
      MODEL_OPTION_KV(o.model),
      MODEL_OPTIONS_DEVICE(o.model),
      ARG_FLAG("--json", NULL, &o.json, "print one object"),
      MODEL_OPTION_VERBOSE(o.model),
  };
  const args_command command = {.name = "wisp perplexity",
                                .operands = "",
                                .summary = "Prints the perplexity of a text with its standard error.",
                                .options = options,
                                .option_count = sizeof options / sizeof options[0]};
  int code = args_parse(&command, argc, argv);
  if (code == ARGS_OK) code = model_check(&o.model, &command);
  if (code != ARGS_OK) return code;
  if (!o.file) return args_mistake(&command, "no text given; use -f FILE");
  if (o.model.context && o.model.context < o.window) {
    return args_mistake(&command, "--ctx %u is smaller than a window of %u tokens", o.model.context, o.window);
  }
  return run(&o);
}
