/* SPDX-License-Identifier: Apache-2.0
 * wisp convert: a model file with its weights in another type. */
#include <stdio.h>

#include "commands.h"
#include "common/args.h"
#include "common/json.h"
#include "common/model.h"
#include "common/output.h"
#include "common/platform.h"
#include "common/report.h"

typedef struct convert_options {
  const char *source, *synthetic, *output, *importance;
  unsigned type, embedding; /* of wisp_convert_types, or past its end */
  uint32_t threads;
  bool plain, json, verbose;
} convert_options;

static void print_result(const convert_options *options, const wisp_convert_result *result, double seconds) {
  const char *type = wisp_convert_types()[options->type];
  const double bits = 8.0 * (double)result->bytes / (double)result->parameters;
  if (!options->json) {
    printf("%s: %s, %u tensors, %.1f million weights, %.1f MB -> %.1f MB (%.2f bits a weight), %u fallbacks, %.1f s\n",
           options->output, type, result->tensors, (double)result->parameters / 1e6, (double)result->source_bytes / 1e6,
           (double)result->bytes / 1e6, bits, result->fallbacks, seconds);
    return;
  }
  json out;
  json_begin(&out, stdout);
  json_open_object(&out, NULL);
  json_text(&out, "output", options->output);
  json_text(&out, "type", type);
  json_integer(&out, "tensors", result->tensors);
  json_integer(&out, "fallbacks", result->fallbacks);
  json_integer(&out, "parameters", (int64_t)result->parameters);
  json_integer(&out, "source_bytes", (int64_t)result->source_bytes);
  json_integer(&out, "bytes", (int64_t)result->bytes);
  json_number(&out, "bits_per_weight", bits);
  json_number(&out, "seconds", seconds);
  json_integer(&out, "peak_rss_bytes", (int64_t)platform_peak_rss());
  json_close_object(&out);
  json_end(&out);
}

static int run(const convert_options *options) {
  static char stage[] = "converting";
  output out;
  int code = output_open(&out, options->output);
  if (code != REPORT_DONE) return code;
  wisp_convert_params params = wisp_convert_params_defaults();
  params.host = report_host();
  params.source.path = options->source;
  params.source.synthetic = options->synthetic;
  params.importance.path = options->importance;
  params.type = wisp_convert_types()[options->type];
  params.embedding_type = wisp_convert_types()[options->embedding];
  params.plain = options->plain;
  params.threads = options->threads;
  params.write = output_write;
  params.write_user = &out;
  params.progress = output_continue;
  params.progress_user = stage;
  wisp_convert_result result;
  const double start = platform_now_ms();
  code = output_close(&out, wisp_convert(&params, &result));
  if (code == REPORT_DONE) print_result(options, &result, (platform_now_ms() - start) / 1e3);
  return code;
}

int command_convert(int argc, char **argv) {
  const char *const *types = wisp_convert_types();
  unsigned none = 0;
  while (types[none]) none++;
  convert_options o = {.type = none, .embedding = none};
  const args_option options[] = {
      ARG_TEXT("-o", "--output", &o.output, "FILE", "the GGUF file to write; it is replaced only when the new one is complete"),
      ARG_CHOICE("--type", NULL, &o.type, "TYPE", types,
                 "q4_0, q4_1, q5_0, q5_1, q8_0, q4_k, q5_k, q6_k, f16, bf16, f32, w8a8"),
      ARG_CHOICE("--embedding", NULL, &o.embedding, "TYPE", types, "of token_embd and output; default: docs/quality.md"),
      ARG_TEXT("--synthetic", NULL, &o.synthetic, "NAME",
               "random weights of a named shape instead of a model: to try things with"),
      ARG_FLAG("--plain", NULL, &o.plain, "round as other programs do instead of searching the best scales"),
      ARG_TEXT("--importance", NULL, &o.importance, "FILE", "weigh errors by what wisp calibrate wrote for this model"),
      ARG_U32("--threads", "-t", &o.threads, 1, MODEL_THREADS_MAX, "CPU threads; default one for each fast core"),
      ARG_FLAG("--json", NULL, &o.json, "print the result as one object"),
      ARG_FLAG("-v", "--verbose", &o.verbose, "name the tensors that take another type"),
  };
  const args_command command = {.name = "wisp convert",
                                .operands = "MODEL",
                                .summary = "Writes a model with its weights in another type.",
                                .options = options,
                                .option_count = sizeof options / sizeof options[0],
                                .operands_to = &o.source,
                                .operand_count = 1};
  int code = args_parse(&command, argc, argv);
  if (code != ARGS_OK) return code;
  report_set_verbose(o.verbose);
  if (!o.source && !o.synthetic) return args_mistake(&command, "no model given");
  if (o.source && o.synthetic) return args_mistake(&command, "a model and --synthetic exclude each other");
  if (o.synthetic && (o.importance || o.embedding != none))
    return args_mistake(&command, "--synthetic has nothing to weigh, and one type for all");
  if (o.synthetic && !model_synthetic_valid(o.synthetic))
    return args_mistake(&command, "--synthetic: there is no shape '%s'; wisp-bench --synthetic lists them", o.synthetic);
  if (!o.output) return args_mistake(&command, "no output given; use -o FILE");
  if (o.type == none) return args_mistake(&command, "no type given; use --type TYPE");
  if (o.source && platform_same_file(o.source, o.output))
    return args_mistake(&command, "'%s' is both the input and the output", o.output);
  if (o.importance && platform_same_file(o.importance, o.output))
    return args_mistake(&command, "'%s' is both the importance file and the output", o.output);
  return run(&o);
}
