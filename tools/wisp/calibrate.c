/* SPDX-License-Identifier: Apache-2.0
 * wisp calibrate: which columns of a model's matrices matter, for wisp convert --importance. */
#include <stdio.h>
#include <stdlib.h>

#include "commands.h"
#include "common/model.h"
#include "common/output.h"
#include "common/platform.h"
#include "common/report.h"
#include "tokens.h"

typedef struct calibrate_options {
  model_options model;
  const char *file, *output;
  uint32_t window, limit; /* tokens; windows, 0 = all */
} calibrate_options;

static int gather(const calibrate_options *options, wisp_engine *engine, const tokens *ids) {
  static char stage[] = "calibrating";
  wisp_calibrate_params params = wisp_calibrate_params_defaults();
  params.ids = ids->ids;
  params.count = ids->count;
  params.window = ids->count < options->window ? (uint32_t)ids->count : options->window;
  if (options->limit && params.count > (size_t)options->limit * params.window)
    params.count = (size_t)options->limit * params.window;
  output out;
  int code = output_open(&out, options->output);
  if (code != REPORT_DONE) return code;
  params.write = output_write;
  params.write_user = &out;
  params.progress = output_continue;
  params.progress_user = stage;
  code = output_close(&out, wisp_calibrate(engine, &params));
  if (code == REPORT_DONE) printf("%s: importance from %zu tokens\n", options->output, params.count);
  return code;
}

static int run(const calibrate_options *options) {
  wisp_engine *engine = NULL;
  tokens ids = {0};
  int code = model_open(&options->model, WISP_LOAD_ALL, &engine);
  if (code == REPORT_DONE) code = tokens_from_file(engine, options->file, 1, &ids);
  if (code == REPORT_DONE) code = gather(options, engine, &ids);
  free(ids.ids);
  wisp_engine_destroy(&engine);
  return code;
}

int command_calibrate(int argc, char **argv) {
  calibrate_options o = {.window = 512, .model.device = "cpu"};
  const args_option options[] = {
      MODEL_OPTION_FILE(o.model),
      ARG_TEXT("-f", "--file", &o.file, "FILE", "a text like those the model will see, - = standard input"),
      ARG_TEXT("-o", "--output", &o.output, "FILE", "the importance file to write"),
      ARG_U32("--window", "-w", &o.window, 1, 1 << 20, "tokens a window; default 512"),
      ARG_U32("--chunks", NULL, &o.limit, 1, UINT32_MAX, "stop after N windows"),
      MODEL_OPTIONS_THREADS(o.model),
      MODEL_OPTION_VERBOSE(o.model),
  };
  const args_command command = {.name = "wisp calibrate",
                                .operands = "",
                                .summary = "Runs a text on the CPU and writes which columns of the model's matrices matter.",
                                .options = options,
                                .option_count = sizeof options / sizeof options[0]};
  int code = args_parse(&command, argc, argv);
  if (code == ARGS_OK) code = model_check(&o.model, &command);
  if (code != ARGS_OK) return code;
  if (!o.file) return args_mistake(&command, "no text given; use -f FILE");
  if (!o.output) return args_mistake(&command, "no output given; use -o FILE");
  if (platform_same_file(o.model.path, o.output) || platform_same_file(o.file, o.output))
    return args_mistake(&command, "'%s' is both an input and the output", o.output);
  return run(&o);
}
