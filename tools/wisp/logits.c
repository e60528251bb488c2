/* SPDX-License-Identifier: Apache-2.0
 * wisp logits: what the model says at every position, for comparison with other programs. */
#include <stdio.h>
#include <stdlib.h>

#include "commands.h"
#include "common/file.h"
#include "common/json.h"
#include "common/model.h"
#include "common/report.h"
#include "tokens.h"

typedef struct logits_options {
  model_options model;
  args_numbers ids;
  const char *file;
  bool step;
} logits_options;

enum { BATCH = 512 }; /* positions whose logits are in memory at once */

/* All rows are computed before the first is printed in a batch, so that a failure prints nothing of it. */
static int print_logits(const logits_options *options, const wisp_engine *engine, wisp_session *session, const tokens *ids) {
  wisp_model_info info;
  wisp_engine_model_info(engine, &info);
  size_t batch = options->step ? 1 : ids->count < BATCH ? ids->count : BATCH;
  float *logits = malloc(batch * info.vocabulary * sizeof *logits);
  if (!logits) return report_error("out of memory for the logits of %zu positions", batch);

  json out;
  json_begin(&out, stdout);
  wisp_status status = WISP_OK;
  for (size_t from = 0; from < ids->count && status == WISP_OK; from += batch) {
    size_t count = ids->count - from < batch ? ids->count - from : batch;
    status = wisp_session_append(session, ids->ids + from, count, WISP_LOGITS_ALL, logits);
    if (status != WISP_OK) break;
    if (from == 0) {
      json_open_object(&out, NULL);
      json_open_array(&out, "ids");
      for (size_t i = 0; i < ids->count; i++) json_integer(&out, NULL, ids->ids[i]);
      json_close_array(&out);
      json_open_array(&out, "logits");
    }
    for (size_t i = 0; i < count; i++) {
      json_open_array(&out, NULL);
      for (uint32_t j = 0; j < info.vocabulary; j++) json_number(&out, NULL, (double)logits[i * info.vocabulary + j]);
      json_close_array(&out);
    }
  }
  free(logits);
  if (status != WISP_OK) return report_status(status);
  json_close_array(&out);
  json_close_object(&out);
  json_end(&out);
  return REPORT_DONE;
}

/* The ids of --ids, or of the file's text. */
static int input_tokens(const logits_options *options, const wisp_engine *engine, tokens *ids) {
  if (options->file) {
    char *text;
    size_t size;
    if (!file_read(options->file, &text, &size)) return REPORT_FAILED;
    int code = tokens_from_text(engine, text, size, WISP_TOKENIZE_PLAIN, ids);
    free(text);
    if (code == REPORT_DONE && ids->count == 0) code = report_error("%s: holds no text", options->file);
    return code;
  }
  ids->ids = malloc(options->ids.count * sizeof *ids->ids);
  if (!ids->ids) return report_error("out of memory for %u token ids", options->ids.count);
  for (uint32_t i = 0; i < options->ids.count; i++) ids->ids[i] = (int32_t)options->ids.items[i];
  ids->count = options->ids.count;
  return REPORT_DONE;
}

static int run(const logits_options *options) {
  wisp_engine *engine = NULL;
  wisp_session *session = NULL;
  tokens ids = {0};
  int code = model_open(&options->model, WISP_LOAD_ALL, &engine);
  if (code == REPORT_DONE) code = input_tokens(options, engine, &ids);
  if (code == REPORT_DONE && options->model.context && ids.count > options->model.context) {
    code = report_error("the input has %zu tokens, the context holds %u; use --ctx N with a larger N", ids.count,
                        options->model.context);
  }
  if (code == REPORT_DONE) {
    wisp_session_params params = wisp_session_params_defaults();
    params.context = options->model.context ? options->model.context : (uint32_t)ids.count;
    params.kv_type = (wisp_kv_type)options->model.kv;
    wisp_status status = wisp_session_create(&session, engine, &params);
    code = status == WISP_OK ? print_logits(options, engine, session, &ids) : report_status(status);
  }
  free(ids.ids);
  wisp_session_destroy(&session);
  wisp_engine_destroy(&engine);
  return code;
}

int command_logits(int argc, char **argv) {
  logits_options o = {0};
  const args_option options[] = {
      MODEL_OPTION_FILE(o.model),
      MODEL_OPTIONS_SYNTHETIC(o.model),
      ARG_NUMBERS("--ids", NULL, &o.ids, 0, INT32_MAX, "token ids; no tokenizer is needed"),
      ARG_TEXT("-f", "--file", &o.file, "FILE", "the ids of this text, as wisp tokenize gives them; - = standard input"),
      ARG_FLAG("--step", NULL, &o.step, "token by token through the KV cache instead of one prompt pass"),
      MODEL_OPTION_KV(o.model),
      MODEL_OPTIONS_DEVICE(o.model),
      MODEL_OPTION_VERBOSE(o.model),
  };
  const args_command command = {
      .name = "wisp logits",
      .operands = "",
      .summary = "Prints {\"ids\": [...], \"logits\": [[...], ...]}: a row of logits for each position.",
      .options = options,
      .option_count = sizeof options / sizeof options[0]};
  int code = args_parse(&command, argc, argv);
  if (code == ARGS_OK) code = model_check(&o.model, &command);
  if (code == ARGS_OK && !o.ids.count == !o.file) {
    code = args_mistake(&command, "give either --ids 1,2,3 or -f FILE");
  }
  if (code == ARGS_OK) code = run(&o);
  args_numbers_free(&o.ids);
  return code;
}
