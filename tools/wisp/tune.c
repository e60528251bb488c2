/* SPDX-License-Identifier: Apache-2.0
 * wisp tune: which kernels of decode, and which sizes of their work, are fastest on a device for a model. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "commands.h"
#include "common/json.h"
#include "common/model.h"
#include "common/output.h"
#include "common/platform.h"
#include "common/report.h"

typedef struct tune_options {
  model_options model;
  const char *json;
  float budget; /* seconds */
  bool forget, f16;
} tune_options;

typedef struct row {
  char knob[32], value[16], why_not[32];
  double us, best_us;
  bool taken;
} row;

typedef struct table {
  row *rows; /* [count], room for [capacity] */
  uint32_t count, capacity;
  double begin_ms, budget_s;
} table;

/* As wisp_tune_params.report. Stops after Ctrl-C while a file is open, and out of memory. */
static bool add_row(void *user, const wisp_tune_trial *trial) {
  static char stage[64];
  table *t = user;
  if (t->count == t->capacity) {
    const uint32_t capacity = t->capacity ? 2 * t->capacity : 64;
    row *rows = realloc(t->rows, capacity * sizeof *rows);
    if (!rows) return false;
    t->rows = rows;
    t->capacity = capacity;
  }
  row *r = &t->rows[t->count++];
  snprintf(r->knob, sizeof r->knob, "%s", trial->knob);
  snprintf(r->value, sizeof r->value, "%s", trial->value);
  snprintf(r->why_not, sizeof r->why_not, "%s", trial->why_not);
  r->us = trial->us_per_token;
  r->best_us = trial->best_us_per_token;
  r->taken = trial->taken;
  const double done = (platform_now_ms() - t->begin_ms) / 1e3 / t->budget_s;
  snprintf(stage, sizeof stage, "tuning %s", trial->knob);
  return output_continue(stage, done < 1 ? (float)done : 1);
}

static void print_text(const table *t, const wisp_tune_result *result) {
  if (t->count) printf("%-20s %-10s %12s %12s\n", "tried", "", "us/token", "best so far");
  for (uint32_t i = 0; i < t->count; i++) {
    const row *r = &t->rows[i];
    printf("%-20s %-10s %12.1f ", *r->knob ? r->knob : "default", r->value, r->us);
    if (r->best_us > 0)
      printf("%12.1f", r->best_us);
    else
      printf("%12s", "");
    printf("  %s\n", *r->why_not ? r->why_not : i && r->taken ? "taken" : "");
  }
  printf("chosen      %s%s\n", *result->choice ? result->choice : "as by default",
         result->kept ? " (found earlier; --forget forgets it)" : "");
  if (result->us_per_token > 0)
    printf("a token     %.1f us, %.1f by default: %.2f times as fast\n", result->us_per_token, result->default_us_per_token,
           result->default_us_per_token / result->us_per_token);
  if (!result->complete) printf("not all was tried: give it more than --budget\n");
}

static void json_time(json *out, const char *key, double us) {
  if (us > 0)
    json_number(out, key, us);
  else
    json_text(out, key, NULL);
}

static void write_json(FILE *file, wisp_engine *engine, const tune_options *options, const table *t,
                       const wisp_tune_result *result) {
  wisp_model_info model;
  wisp_engine_stats stats;
  json out;
  wisp_engine_model_info(engine, &model);
  wisp_engine_get_stats(engine, &stats);
  json_begin(&out, file);
  json_open_object(&out, NULL);
  json_text(&out, "model", model.name);
  json_text(&out, "type", model.type);
  json_text(&out, "kv_type", model_kv_types[options->model.kv]);
  json_text(&out, "device", stats.device.name);
  json_text(&out, "driver", stats.device.driver);
  json_text(&out, "choice", result->choice);
  json_time(&out, "us_per_token", result->us_per_token);
  json_time(&out, "default_us_per_token", result->default_us_per_token);
  json_bool(&out, "kept", result->kept);
  json_bool(&out, "complete", result->complete);
  json_open_array(&out, "trials");
  for (uint32_t i = 0; i < t->count; i++) {
    const row *r = &t->rows[i];
    json_open_object(&out, NULL);
    json_text(&out, "knob", r->knob);
    json_text(&out, "value", r->value);
    json_time(&out, "us_per_token", r->us);
    json_time(&out, "best_us_per_token", r->best_us);
    json_bool(&out, "taken", r->taken);
    json_text(&out, "why_not", r->why_not);
    json_close_object(&out);
  }
  json_close_array(&out);
  json_close_object(&out);
  json_end(&out);
}

static wisp_status search(const tune_options *options, wisp_engine *engine, table *t, wisp_tune_result *result) {
  wisp_tune_params params = wisp_tune_params_defaults();
  params.budget_s = (double)options->budget;
  params.forget = options->forget;
  params.f16 = options->f16;
  params.report = add_row;
  params.user = t;
  t->begin_ms = platform_now_ms();
  t->budget_s = params.budget_s;
  const wisp_status status = wisp_engine_tune(engine, &params, result);
  report_progress(NULL, NULL, 0);
  return status;
}

static int tune(const tune_options *options, wisp_engine *engine, table *t) {
  const bool to_stdout = options->json && !strcmp(options->json, "-"), to_file = options->json && !to_stdout;
  wisp_tune_result result;
  output out;
  int code = to_file ? output_open(&out, options->json) : REPORT_DONE;
  if (code != REPORT_DONE) return code;
  const wisp_status status = search(options, engine, t, &result);
  if (to_file && status == WISP_OK) write_json(out.file, engine, options, t, &result);
  if (to_file) code = output_close(&out, status);
  if (!to_file && status != WISP_OK)
    code = status == WISP_ERROR_CANCELLED ? report_error("out of memory for the table") : report_status(status);
  if (code != REPORT_DONE) return code;
  if (to_stdout)
    write_json(stdout, engine, options, t, &result);
  else if (options->forget)
    printf("forgotten\n");
  else
    print_text(t, &result);
  return REPORT_DONE;
}

int command_tune(int argc, char **argv) {
  tune_options o = {.budget = 60, .model.device = "vulkan"};
  const args_option options[] = {
      MODEL_OPTION_FILE(o.model),
      MODEL_OPTIONS_SYNTHETIC(o.model),
      MODEL_OPTION_KV(o.model),
      ARG_TEXT("--device", NULL, &o.model.device, "D", "vulkan (default) or vulkan:INDEX; see wisp devices"),
      ARG_FLOAT("--budget", NULL, &o.budget, "SECONDS", 1, 86400, "seconds to try in; default 60"),
      ARG_FLAG("--forget", NULL, &o.forget, "forget what was found earlier, and try nothing"),
      ARG_FLAG("--f16", NULL, &o.f16, "keep f16 arithmetic too if it is faster: results differ by its rounding"),
      ARG_TEXT("--json", NULL, &o.json, "FILE", "write what was tried and chosen as one object, - = standard output"),
      MODEL_OPTION_VERBOSE(o.model),
  };
  const args_command command = {.name = "wisp tune",
                                .operands = "",
                                .summary = "Times the ways to decode on a GPU and keeps the fastest for this model.",
                                .options = options,
                                .option_count = sizeof options / sizeof options[0]};
  wisp_engine *engine = NULL;
  table t = {0};
  int code = args_parse(&command, argc, argv);
  if (code == ARGS_OK) code = model_check(&o.model, &command);
  if (code != ARGS_OK) return code;
  if (!model_is_safe(&o.model, o.json)) return args_mistake(&command, "the model would be overwritten: %s", o.json);
  code = model_open(&o.model, WISP_LOAD_ALL, &engine);
  if (code == REPORT_DONE) code = tune(&o, engine, &t);
  free(t.rows);
  wisp_engine_destroy(&engine);
  return code;
}
