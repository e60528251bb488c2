/* SPDX-License-Identifier: Apache-2.0
 * wisp info: what a model is, what a token costs, its plan, its pipelines. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "commands.h"
#include "common/json.h"
#include "common/model.h"
#include "common/report.h"

static const char *const phases[] = {"decode", "prefill", NULL}; /* in the order of wisp_phase */
enum { NO_PHASE = 2 };

typedef struct info_options {
  model_options model;
  unsigned phase;
  bool json, compile;
} info_options;

typedef struct details {
  wisp_model_info model;
  wisp_op_info *ops; /* [op_count] */
  uint32_t op_count;
  wisp_pipeline_info *pipelines; /* [pipeline_count] */
  uint32_t pipeline_count;
} details;

/* "name=value; ..." as an object; values that are numbers are written as such. */
static void json_statistics(json *out, const char *statistics) {
  json_open_object(out, "statistics");
  char text[sizeof((wisp_pipeline_info *)0)->statistics];
  snprintf(text, sizeof text, "%s", statistics);
  for (char *entry = text, *next; *entry; entry = next) {
    char *end = strchr(entry, ';');
    next = end ? end + 1 + strspn(end + 1, " ") : entry + strlen(entry);
    if (end) *end = '\0';
    char *equals = strchr(entry, '=');
    if (!equals) continue;
    *equals = '\0';
    char *number_end;
    double number = strtod(equals + 1, &number_end);
    if (number_end != equals + 1 && *number_end == '\0') {
      json_number(out, entry, number);
    } else {
      json_text(out, entry, equals + 1);
    }
  }
  json_close_object(out);
}

static void print_json(const details *d, const info_options *options) {
  const wisp_model_info *m = &d->model;
  json out;
  json_begin(&out, stdout);
  json_open_object(&out, NULL);
  json_text(&out, "name", m->name);
  json_text(&out, "architecture", m->architecture);
  json_text(&out, "type", m->type);
  json_integer(&out, "parameters", (int64_t)m->parameters);
  json_integer(&out, "executed_blocks", m->executed_blocks);
  json_integer(&out, "weight_blocks", m->weight_blocks);
  json_integer(&out, "kv_slots", m->kv_slots);
  json_integer(&out, "width", m->width);
  json_integer(&out, "heads", m->heads);
  json_integer(&out, "kv_heads", m->kv_heads);
  json_integer(&out, "head_size", m->head_size);
  json_integer(&out, "ffn_width", m->ffn_width);
  json_integer(&out, "vocabulary", m->vocabulary);
  json_integer(&out, "context_length", m->context_length);
  json_integer(&out, "weight_bytes", (int64_t)m->weight_bytes);
  json_text(&out, "kv_type", model_kv_types[options->model.kv]);
  json_integer(&out, "kv_bytes_per_token", (int64_t)m->kv_bytes_per_token);
  json_integer(&out, "bytes_per_token", (int64_t)m->bytes_per_token);
  json_integer(&out, "flops_per_token", (int64_t)m->flops_per_token);
  json_integer(&out, "dispatches_per_token", m->dispatches_per_token);
  json_integer(&out, "barriers_per_token", m->barriers_per_token);
  json_number(&out, "submits_per_token", (double)m->submits_per_token);
  json_integer(&out, "pipelines", m->pipelines);
  if (options->phase != NO_PHASE) {
    json_open_array(&out, "plan");
    for (uint32_t i = 0; i < d->op_count; i++) {
      const wisp_op_info *op = &d->ops[i];
      json_open_object(&out, NULL);
      json_text(&out, "name", op->name);
      json_integer(&out, "executed_block", op->executed_block);
      json_integer(&out, "weight_block", op->weight_block);
      json_integer(&out, "kv_slot", op->kv_slot);
      json_integer(&out, "rows", op->rows);
      json_integer(&out, "cols", op->cols);
      json_text(&out, "type", op->type);
      json_integer(&out, "bytes", (int64_t)op->bytes);
      json_integer(&out, "flops", (int64_t)op->flops);
      json_close_object(&out);
    }
    json_close_array(&out);
  }
  if (options->compile) {
    json_open_array(&out, "pipeline_stats");
    for (uint32_t i = 0; i < d->pipeline_count; i++) {
      json_open_object(&out, NULL);
      json_text(&out, "name", d->pipelines[i].name);
      json_text(&out, "constants", d->pipelines[i].constants);
      json_statistics(&out, d->pipelines[i].statistics);
      json_close_object(&out);
    }
    json_close_array(&out);
  }
  json_close_object(&out);
  json_end(&out);
}

/* A block number, or "-" outside blocks. */
static const char *block_text(int32_t block, char text[12]) {
  if (block < 0) return "-";
  snprintf(text, 12, "%d", block);
  return text;
}

static void print_text(const details *d, const info_options *options) {
  const wisp_model_info *m = &d->model;
  printf("name            %s\n", m->name);
  printf("architecture    %s\n", m->architecture);
  printf("type            %s\n", m->type);
  printf("parameters      %.1f M\n", (double)m->parameters / 1e6);
  printf("blocks          %u executed, %u with weights, %u KV slots\n", m->executed_blocks, m->weight_blocks, m->kv_slots);
  printf("shape           width %u, %u heads of %u, %u KV heads, FFN %u, vocabulary %u, context %u\n", m->width, m->heads,
         m->head_size, m->kv_heads, m->ffn_width, m->vocabulary, m->context_length);
  printf("weights         %.1f MB\n", (double)m->weight_bytes / 1e6);
  printf("KV cache        %.1f KB a token in %s\n", (double)m->kv_bytes_per_token / 1e3, model_kv_types[options->model.kv]);
  printf("decode reads    %.1f MB a token, %.2f GFLOP\n", (double)m->bytes_per_token / 1e6, (double)m->flops_per_token / 1e9);
  printf("on Vulkan       %u dispatches, %u barriers, %.3g submits a token; %u pipelines\n", m->dispatches_per_token,
         m->barriers_per_token, (double)m->submits_per_token, m->pipelines);
  if (options->phase != NO_PHASE) {
    printf("\n%-16s %5s %6s %4s %8s %8s %-6s %12s %12s\n", phases[options->phase], "block", "weight", "slot", "rows", "cols",
           "type", "bytes", "flops");
    for (uint32_t i = 0; i < d->op_count; i++) {
      const wisp_op_info *op = &d->ops[i];
      char block[12], weight[12], slot[12];
      printf("%-16s %5s %6s %4s %8u %8u %-6s %12llu %12llu\n", op->name, block_text(op->executed_block, block),
             block_text(op->weight_block, weight), block_text(op->kv_slot, slot), op->rows, op->cols, op->type,
             (unsigned long long)op->bytes, (unsigned long long)op->flops);
    }
  }
  if (options->compile) {
    printf("\n%u pipelines built\n", d->pipeline_count);
    for (uint32_t i = 0; i < d->pipeline_count; i++) {
      printf("%-24s %s\n", d->pipelines[i].name, d->pipelines[i].constants);
      if (d->pipelines[i].statistics[0]) printf("%-24s %s\n", "", d->pipelines[i].statistics);
    }
  }
}

static int print_info(const wisp_engine *engine, const info_options *options) {
  details d = {0};
  wisp_engine_model_info(engine, &d.model);
  int code = REPORT_DONE;
  if (options->phase != NO_PHASE) {
    d.op_count = wisp_engine_plan(engine, (wisp_phase)options->phase, NULL, 0);
    d.ops = calloc(d.op_count + 1, sizeof *d.ops);
    if (d.ops) wisp_engine_plan(engine, (wisp_phase)options->phase, d.ops, d.op_count);
    if (!d.ops) code = report_error("out of memory for the plan");
  }
  if (options->compile) {
    d.pipeline_count = wisp_engine_pipelines(engine, NULL, 0);
    d.pipelines = calloc(d.pipeline_count + 1, sizeof *d.pipelines);
    if (d.pipelines) wisp_engine_pipelines(engine, d.pipelines, d.pipeline_count);
    if (!d.pipelines) code = report_error("out of memory for the pipelines");
  }
  if (code == REPORT_DONE) (options->json ? print_json : print_text)(&d, options);
  free(d.ops);
  free(d.pipelines);
  return code;
}

int command_info(int argc, char **argv) {
  info_options o = {.phase = NO_PHASE};
  const char *operand = NULL;
  const args_option options[] = {
      MODEL_OPTION_FILE(o.model),
      MODEL_OPTIONS_SYNTHETIC(o.model),
      ARG_CHOICE("--plan", NULL, &o.phase, "PHASE", phases, "list the ops of decode or prefill"),
      ARG_FLAG("--compile", NULL, &o.compile, "build every pipeline on the device and tell what its driver says of them"),
      MODEL_OPTION_KV(o.model),
      MODEL_OPTIONS_DEVICE(o.model),
      ARG_FLAG("--json", NULL, &o.json, "print one object"),
      MODEL_OPTION_VERBOSE(o.model),
  };
  const args_command command = {.name = "wisp info",
                                .operands = "[MODEL]",
                                .summary = "Describes a model, what one token costs, and how it is run.",
                                .options = options,
                                .option_count = sizeof options / sizeof options[0],
                                .operands_to = &operand,
                                .operand_count = 1};
  int code = args_parse(&command, argc, argv);
  if (code != ARGS_OK) return code;
  if (operand && o.model.path) return args_mistake(&command, "two models given: '%s' and '%s'", o.model.path, operand);
  if (operand) o.model.path = operand;
  code = model_check(&o.model, &command);
  if (code != ARGS_OK) return code;
  if (o.compile && !o.model.device) o.model.device = "vulkan";

  wisp_engine *engine = NULL;
  code = model_open(&o.model, o.compile ? WISP_LOAD_PIPELINES : WISP_LOAD_DESCRIPTION, &engine);
  if (code == REPORT_DONE) code = print_info(engine, &o);
  wisp_engine_destroy(&engine);
  return code;
}
