/* SPDX-License-Identifier: Apache-2.0
 * wisp-truth: the default model against the reference vectors of this folder, and any Vulkan device against the CPU. Sees the
 * engine through wisp.h only. Everything is compared unless options take less. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/args.h"
#include "common/file.h"
#include "common/report.h"
#include "truth/checks.h"

typedef struct truth_options {
  const char *model, *vectors, *device, *json;
  uint32_t prompts, tokens, decoded_prompts, decoded_tokens, windows, depth;
  args_numbers threads;
} truth_options;

static wisp_engine *open_engine(const truth_options *o, const char *device, uint32_t threads) {
  wisp_engine_params params = wisp_engine_params_defaults();
  params.host = report_host();
  params.source.path = o->model;
  params.device = device;
  params.threads = threads;
  params.max_context = TRUTH_CONTEXT;
  wisp_engine *engine;
  const wisp_status status = wisp_engine_create(&engine, &params);
  if (status != WISP_OK) exit(report_status(status));
  wisp_engine_settle(engine); /* all of it by the kernels that stay */
  return engine;
}

static uint32_t least(uint32_t a, uint32_t b) {
  return a < b ? a : b;
}

/* The stored ids of the long text are those of the text. */
static void check_long_text(const truth *t, const truth_options *o) {
  char path[1024], *text;
  size_t size, count;
  snprintf(path, sizeof path, "%s/text.txt", o->vectors);
  if (!file_read(path, &text, &size)) exit(REPORT_FAILED);
  int32_t *ids = malloc((size + 1) * sizeof *ids);
  if (!ids) abort();
  truth_must(wisp_tokenize(t->engine, text, size, WISP_TOKENIZE_PLAIN, ids, size + 1, &count), path);
  const bool same = count == t->vectors->text_count && !memcmp(ids, t->vectors->text_ids, count * sizeof *ids);
  findings_check(t->findings, "text.txt", "ids_unlike", same ? 0 : 1, 0);
  free(ids), free(text);
}

static int run(const truth_options *o) {
  truth_vectors vectors;
  findings found = {0};
  truth_vectors_open(&vectors, o->vectors);
  const bool cpu = !strcmp(o->device, "cpu");
  const uint32_t threads = o->threads.count ? o->threads.items[0] : 0;
  truth t = {.vectors = &vectors,
             .findings = &found,
             .engine = open_engine(o, o->device, threads),
             .reference = cpu ? NULL : open_engine(o, "cpu", threads),
             .prompts = least(o->prompts, vectors.prompt_count),
             .tokens = o->tokens,
             .decoded_prompts = least(o->decoded_prompts, least(o->prompts, vectors.prompt_count)),
             .decoded_tokens = o->decoded_tokens,
             .windows = least(o->windows, vectors.llamacpp.windows)};
  wisp_model_info info;
  wisp_engine_stats stats;
  wisp_engine_model_info(t.engine, &info);
  wisp_engine_get_stats(t.engine, &stats);
  t.vocabulary = info.vocabulary;
  printf("%s on %s %s%s%s\n", info.name, stats.device.name, stats.device.driver,
         cpu ? "" : "; decode: ", cpu ? "" : stats.decode);

  check_text(&t);
  check_long_text(&t, o);
  findings_show(&found);
  check_prompts(&t);
  if (!cpu) check_depths(&t, o->depth);
  if (t.windows) check_perplexity(&t);
  for (uint32_t i = 1; cpu && i < o->threads.count; i++) {
    wisp_engine *other = open_engine(o, "cpu", o->threads.items[i]);
    check_threads(&t, other, o->threads.items[i]);
    wisp_engine_destroy(&other);
  }
  findings_show_worst(&found);

  const char *const title[] = {"model",  info.name,           "backend", stats.device.backend,    "device", stats.device.name,
                               "driver", stats.device.driver, "decode",  cpu ? "" : stats.decode, NULL};
  const bool written = !o->json || findings_write_json(&found, o->json, title);
  const int code = found.failed || !written ? REPORT_FAILED : REPORT_DONE;
  if (!written) report_error("%s: cannot be written", o->json);
  printf("%u passed, %u failed, 0 skipped\n", found.passed, found.failed);
  wisp_engine_destroy(&t.engine);
  wisp_engine_destroy(&t.reference);
  findings_free(&found);
  truth_vectors_close(&vectors);
  return code;
}

int main(int argc, char **argv) {
  report_init("wisp-truth");
  enum { ALL = 1000000 };
  truth_options o = {.vectors = WISP_TRUTH_FOLDER,
                     .device = "cpu",
                     .prompts = ALL,
                     .tokens = ALL,
                     .decoded_prompts = ALL,
                     .decoded_tokens = ALL,
                     .windows = ALL,
                     .depth = ALL};
  const args_option options[] = {
      ARG_TEXT("-m", "--model", &o.model, "FILE", "the default model: tools/fetch_model.sh"),
      ARG_TEXT("--vectors", NULL, &o.vectors, "FOLDER", "where the vectors are"),
      ARG_TEXT("--device", NULL, &o.device, "D", "cpu (default), vulkan or vulkan:INDEX"),
      ARG_U32("--prompts", NULL, &o.prompts, 1, ALL, "at most so many prompts, of all kinds"),
      ARG_U32("--tokens", NULL, &o.tokens, 1, ALL, "at most so many tokens behind each prompt"),
      ARG_U32("--decode-prompts", NULL, &o.decoded_prompts, 0, ALL, "decode at most so many prompts token by token"),
      ARG_U32("--decode-tokens", NULL, &o.decoded_tokens, 1, ALL, "at most so many tokens of each"),
      ARG_U32("--windows", NULL, &o.windows, 0, ALL, "at most so many windows of the perplexity"),
      ARG_U32("--depth", NULL, &o.depth, 0, ALL, "decode behind at most so many tokens"),
      ARG_NUMBERS("--threads", "-t", &o.threads, 1, 1024, "CPU threads; further numbers must give the same ids"),
      ARG_TEXT("--json", NULL, &o.json, "FILE", "write every number"),
  };
  const args_command command = {.name = "wisp-truth",
                                .operands = "",
                                .summary = "Compares the default model with reference vectors, and Vulkan with the CPU.",
                                .options = options,
                                .option_count = sizeof options / sizeof options[0]};
  int code = args_parse(&command, argc, argv);
  if (code == ARGS_OK && !o.model) code = args_mistake(&command, "no model given; use -m FILE");
  if (code == ARGS_OK) code = run(&o);
  args_numbers_free(&o.threads);
  report_finish(code == REPORT_DONE);
  return code;
}
