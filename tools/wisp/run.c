/* SPDX-License-Identifier: Apache-2.0
 * wisp run: one prompt, one answer. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "commands.h"
#include "common/file.h"
#include "common/json.h"
#include "common/model.h"
#include "common/output.h"
#include "common/platform.h"
#include "common/report.h"
#include "common/startup.h"
#include "reply.h"
#include "sampling.h"
#include "tokens.h"

typedef struct run_options {
  model_options model;
  wisp_session_params session;
  const char *prompt, *file, *system;
  const char *load_state, *save_state; /* files, or NULL */
  uint32_t max_tokens;
  bool raw, json, ignore_end;
} run_options;

static void print_json(wisp_engine *engine, const tokens *prompt, const reply *made, wisp_status status) {
  wisp_engine_stats stats;
  wisp_engine_get_stats(engine, &stats);
  json out;
  json_begin(&out, stdout);
  json_open_object(&out, NULL);
  json_bytes(&out, "text", made->text ? made->text : "", made->size);
  json_open_array(&out, "prompt_ids");
  for (size_t i = 0; i < prompt->count; i++) json_integer(&out, NULL, prompt->ids[i]);
  json_close_array(&out);
  json_integer(&out, "prompt_reused", made->reused);
  json_open_array(&out, "ids");
  for (uint32_t i = 0; i < made->count; i++) json_integer(&out, NULL, made->ids[i]);
  json_close_array(&out);
  json_open_object(&out, "timings");
  json_number(&out, "load_ms", stats.load_ms);
  json_number(&out, "init_ms", stats.init_ms);
  json_number(&out, "driver_ms", stats.driver_ms);
  json_number(&out, "prompt_ms", made->prompt_ms);
  json_number(&out, "decode_ms", made->decode_ms);
  json_number(&out, "prompt_tok_per_s", reply_rate(made->evaluated, made->prompt_ms));
  json_number(&out, "tok_per_s", reply_rate(made->count, made->decode_ms));
  json_number(&out, "first_token_ms", made->first_ms);
  json_close_object(&out);
  startup_write_json(&out, "start_up", engine);
  json_integer(&out, "pipelines_built", stats.pipelines_built);
  json_integer(&out, "peak_device_bytes", (int64_t)stats.peak_device_bytes);
  json_integer(&out, "peak_rss_bytes", (int64_t)platform_peak_rss());
  json_text(&out, "device", stats.device.name);
  json_text(&out, "backend", stats.device.backend);
  if (*stats.choice) json_text(&out, "choice", stats.choice);
  json_text(&out, "finish", reply_finish(made, status));
  json_close_object(&out);
  json_end(&out);
}

/* The prompt's ids: through the chat template where there is one, else as plain text. */
static int prompt_tokens(const run_options *options, const wisp_engine *engine, const char *text, size_t size, tokens *ids) {
  if (options->raw || !wisp_chat_template(engine)) {
    if (options->system)
      return report_error("%s: has no chat template known to Wisp, so --system cannot be used", options->model.path);
    return tokens_from_text(engine, text, size, WISP_TOKENIZE_BOS_EOS, ids);
  }
  if (memchr(text, '\0', size)) return report_error("the prompt holds a NUL byte; use --raw to pass it on");
  wisp_message messages[] = {{"system", options->system}, {"user", text}};
  return options->system ? tokens_from_chat(engine, messages, 2, ids) : tokens_from_chat(engine, messages + 1, 1, ids);
}

static int answer(const run_options *options, wisp_engine *engine, wisp_session *session, const tokens *prompt) {
  uint32_t context = wisp_session_context(session);
  if (prompt->count > context) {
    return report_error("the prompt has %zu tokens, the context holds %u; use --ctx N with a larger N", prompt->count, context);
  }
  if (prompt->count == 0) return report_error("the prompt has no tokens");
  reply made = {.out = options->json ? NULL : stdout};
  wisp_status status = reply_make(&made, engine, session, prompt->ids, prompt->count, options->max_tokens, options->ignore_end);
  bool full = status == WISP_ERROR_CONTEXT_FULL;
  if (status == WISP_OK || full) {
    if (options->json) {
      print_json(engine, prompt, &made, status);
    } else if (platform_is_terminal(stdout)) {
      putchar('\n');
    }
    fflush(stdout);
  }
  int code = REPORT_DONE;
  if (full) {
    code = report_error("the context of %u tokens was full after %u new ones; use --ctx N with a larger N", context,
                        made.count);
  } else if (status != WISP_OK) {
    code = report_status(status);
  } else {
    reply_print_stats(&made);
    if (options->model.verbose) startup_print(stderr, engine);
  }
  reply_free(&made);
  return code;
}

static int load_state(wisp_session *session, const char *path) {
  const wisp_model_source source = {.path = path, .fd = -1};
  const wisp_status status = wisp_session_load(session, &source);
  return status == WISP_OK ? REPORT_DONE : report_status(status);
}

static int save_state(wisp_session *session, const char *path) {
  output out;
  const int code = output_open(&out, path);
  return code == REPORT_DONE ? output_close(&out, wisp_session_save(session, output_write, &out)) : code;
}

static int run(const run_options *options, const char *text, size_t size) {
  wisp_engine *engine = NULL;
  wisp_session *session = NULL;
  tokens prompt = {0};
  int code = model_open(&options->model, WISP_LOAD_ALL, &engine);
  if (code == REPORT_DONE) code = prompt_tokens(options, engine, text, size, &prompt);
  if (code == REPORT_DONE) {
    wisp_status status = wisp_session_create(&session, engine, &options->session);
    if (status != WISP_OK) code = report_status(status);
  }
  if (code == REPORT_DONE && options->load_state) code = load_state(session, options->load_state);
  if (code == REPORT_DONE) code = answer(options, engine, session, &prompt);
  if (code == REPORT_DONE && options->save_state) code = save_state(session, options->save_state);
  free(prompt.ids);
  wisp_session_destroy(&session);
  wisp_engine_destroy(&engine);
  return code;
}

int command_run(int argc, char **argv) {
  run_options o = {.session = wisp_session_params_defaults(), .max_tokens = 128};
  const args_option options[] = {
      MODEL_OPTION_FILE(o.model),
      ARG_TEXT("-p", "--prompt", &o.prompt, "TEXT", "the prompt"),
      ARG_TEXT("-f", "--file", &o.file, "FILE", "read the prompt from a file, - = standard input"),
      ARG_U32("-n", "--tokens", &o.max_tokens, 1, UINT32_MAX, "make at most N tokens; default 128"),
      MODEL_OPTIONS_DEVICE(o.model),
      SAMPLING_OPTIONS(o.session),
      MODEL_OPTION_KV(o.model),
      ARG_FLAG("--raw", NULL, &o.raw, "continue the text; no chat template"),
      ARG_TEXT("--system", NULL, &o.system, "TEXT", "system message of the chat template"),
      ARG_TEXT("--load-state", NULL, &o.load_state, "FILE",
               "begin with a saved state: what the prompt shares with it is not read"),
      ARG_TEXT("--save-state", NULL, &o.save_state, "FILE", "save prompt and answer as the session holds them"),
      ARG_FLAG("--ignore-eos", NULL, &o.ignore_end, "go on past the end of text"),
      ARG_FLAG("--json", NULL, &o.json, "print one object with text, ids and timings at the end"),
      MODEL_OPTION_VERBOSE(o.model),
  };
  const args_command command = {
      .name = "wisp run",
      .operands = "",
      .summary = "Answers a prompt (or continues it, with --raw): text on stdout, everything else on stderr.",
      .options = options,
      .option_count = sizeof options / sizeof options[0]};
  int code = args_parse(&command, argc, argv);
  if (code == ARGS_OK) code = model_check(&o.model, &command);
  if (code != ARGS_OK) return code;
  if (!o.prompt == !o.file) return args_mistake(&command, "give the prompt with either -p TEXT or -f FILE");
  if (o.raw && o.system) return args_mistake(&command, "--system needs the chat template that --raw leaves out");
  if (!model_is_safe(&o.model, o.save_state)) return args_mistake(&command, "the model would be overwritten: %s", o.save_state);
  o.session.context = o.model.context;
  o.session.kv_type = (wisp_kv_type)o.model.kv;

  char *data = NULL;
  size_t size = o.prompt ? strlen(o.prompt) : 0;
  if (o.file && !file_read(o.file, &data, &size)) return REPORT_FAILED;
  code = size ? run(&o, o.prompt ? o.prompt : data, size)
              : args_mistake(&command, "the prompt%s%s is empty", o.file ? " in " : "", o.file ? o.file : "");
  free(data);
  return code;
}
