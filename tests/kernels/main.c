/* SPDX-License-Identifier: Apache-2.0
 * wisp-kernels: compares every shader variant with the C reference on the device at hand, in the spirit of dav1d's checkasm. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bench.h"
#include "common/args.h"
#include "common/json.h"
#include "common/platform.h"
#include "common/report.h"
#include "draw.h"
#include "gpu/gpu.h"
#include "whole_token.h"

typedef struct options {
  uint32_t device;
  const char *filter, *json_file;
  uint64_t seed;
  bool verbose, list, bench;
} options;

typedef struct counts {
  uint32_t passed, failed, skipped;
} counts;

/* Everything at once: what goes wrong between two cases belongs there. */
static void on_log(void *user, wisp_log_level level, const char *text) {
  if (level <= WISP_LOG_WARN) fprintf(stderr, "wisp-kernels: %s\n", text);
}

static const char *const need_names[] = {"subgroup", "float16",      "storage16", "int8",    "storage8",
                                         "int_dot",  "memory_model", "coopmat",   "atomic64"};

static void print_needs(uint32_t needs) {
  for (uint32_t i = 0, some = 0; i < sizeof need_names / sizeof *need_names; i++)
    if (needs >> i & 1) printf("%s%s", some++ ? ", " : "", need_names[i]);
}

static void list_variants(const wvk_caps *caps) {
  for (uint32_t i = 0; i < wisp_shader_count; i++) {
    printf("%-28s %-16s %-4s", wisp_shaders[i].name, wisp_shaders[i].source,
           check_supported(&wisp_shaders[i], caps) ? "yes" : "no");
    print_needs(wisp_shaders[i].needs);
    printf("\n");
  }
}

/* A line of a check that is no variant. */
static void say(counts *n, bool ok, const char *format, uint32_t a, uint32_t b) {
  printf(ok ? "ok   " : "FAIL ");
  printf(format, a, b);
  printf("\n");
  if (ok)
    n->passed++;
  else
    n->failed++;
}

/* The plain variants' ops carry the names by which a filter may mean a variant that never ran. */
static bool filtered_out(const check_params *params, const wisp_shader *shader, const tally_row *sum) {
  return params->filter && !sum->cases && !strstr(shader->name, params->filter);
}

static void judge_variant(counts *n, const check_params *params, const check_result *result, const wisp_shader *shader) {
  const tally_row sum = tally_sum(&result->tally, shader);
  if (!strcmp(shader->name, "persistent") || strstr(shader->name, "_fused") || !strcmp(shader->name, "settle"))
    return;                                  /* whole_token.h */
  if (!strcmp(shader->name, "draw")) return; /* draw.h */
  if (filtered_out(params, shader, &sum)) return;
  if (!check_supported(shader, wvk_device_caps(params->device))) {
    printf("skip %-28s the device lacks one of: ", shader->name);
    print_needs(shader->needs);
    printf("\n");
    n->skipped++;
  } else if (!sum.cases && result->reachable[shader - wisp_shaders]) {
    printf("skip %-28s for devices of other limits\n", shader->name);
    n->skipped++;
  } else if (!sum.cases) {
    printf("FAIL %-28s never ran: no op chooses it on any device\n", shader->name);
    n->failed++;
  } else if (sum.failures) {
    printf("FAIL %-28s %u of %u cases, worst %.1e\n", shader->name, sum.failures, sum.cases, sum.worst);
    n->failed++;
  } else {
    printf("ok   %-28s %4u cases, worst %.1e, %.0f%% of what is allowed\n", shader->name, sum.cases, sum.worst,
           100 * sum.of_bound);
    n->passed++;
  }
}

/* Every op with matrices must have met every element type. */
static void judge_types(counts *n, const check_params *params, const check_result *result) {
  static const wisp_dtype types[] = {WISP_F32,  WISP_F16,  WISP_BF16, WISP_Q4_0, WISP_Q4_1, WISP_Q5_0,
                                     WISP_Q5_1, WISP_Q8_0, WISP_Q4_K, WISP_Q5_K, WISP_Q6_K};
  if (params->filter) return;
  uint32_t missing = 0;
  for (int kind = WISP_OP_EMBED; kind < WISP_OP_SAMPLE; kind++)
    for (size_t i = 0; i < sizeof types / sizeof *types && kind != WISP_OP_ATTENTION; i++) {
      const bool residual = kind == WISP_OP_ATTN_OUT || kind == WISP_OP_DOWN; /* the same kernels */
      const uint32_t seen = result->types_seen[kind] | (residual ? result->types_seen[WISP_OP_ATTN_OUT] : 0) |
                            (residual ? result->types_seen[WISP_OP_DOWN] : 0);
      if (seen >> types[i] & 1) continue;
      printf("     %s never met %s\n", wisp_op_name((wisp_op_kind)kind), wisp_dtype_find(types[i])->name);
      missing++;
    }
  say(n, !missing, "every op met every element type (%u missing of %u)", missing, 6 * sizeof types / sizeof *types);
}

/* With one wrong weight, cached value or candidate every variant must fail. */
static void self_check(counts *n, const check_params *params, const tally *broken) {
  uint32_t blind = 0, variants = 0;
  for (uint32_t i = 0; i < wisp_shader_count; i++) {
    const tally_row sum = tally_sum(broken, &wisp_shaders[i]);
    variants += sum.cases > 0;
    if (!sum.cases || sum.failures) continue;
    printf("     %s passes with a wrong weight\n", wisp_shaders[i].name);
    blind++;
  }
  say(n, !blind && (variants || params->filter), "self-check: one wrong weight is seen (%u of %u variants do not)", blind,
      variants);
}

static void print_rows(const tally *t) {
  for (uint32_t i = 0; i < t->count; i++) {
    const tally_row *row = &t->rows[i];
    printf("     %-28s %-10s %-16s %4u cases, %u failures, worst %.1e, %.0f%% of what is allowed\n", row->shader->name,
           wisp_op_name(row->op), row->types, row->cases, row->failures, row->worst, 100 * row->of_bound);
  }
}

static void write_rows(json *out, const tally *t) {
  json_open_array(out, "rows");
  for (uint32_t i = 0; i < t->count; i++) {
    const tally_row *row = &t->rows[i];
    json_open_object(out, NULL);
    json_text(out, "variant", row->shader->name);
    json_text(out, "op", wisp_op_name(row->op));
    json_text(out, "dtype", row->types);
    json_integer(out, "cases", row->cases);
    json_number(out, "worst_error", row->worst);
    json_number(out, "of_bound", row->of_bound);
    json_integer(out, "failures", row->failures);
    json_close_object(out);
  }
  json_close_array(out);
}

static wisp_status check(const check_params *params, json *out, counts *n) {
  check_result result;
  const wisp_status status = check_shapes(params, &result);
  if (status == WISP_OK) {
    if (params->verbose) print_rows(&result.tally);
    for (uint32_t i = 0; i < wisp_shader_count; i++) judge_variant(n, params, &result, &wisp_shaders[i]);
    judge_types(n, params, &result);
    self_check(n, params, &result.broken);
    say(n, !result.numb && (result.probed || params->filter),
        "self-check: wrong values and stray writes are seen (%u of %u are not)", result.numb, result.probed);
    say(n, !result.weights_changed, "weights stay as they were (%u of %u shapes changed them)", result.weights_changed,
        shape_count);
    const uint32_t messages = wvk_device_counters(params->device).validation_messages;
    say(n, !messages, "no validation messages (%u)", messages, 0);
    if (out) write_rows(out, &result.tally);
  }
  check_close(params, &result);
  return status;
}

/* A bound of rounding: sums in another order, over all blocks. */
static wisp_status check_whole_tokens(const check_params *params, counts *n) {
  whole_token_row rows[WHOLE_TOKEN_CASES];
  WISP_TRY(whole_token_check(params->host, wvk_device_index(params->device), params->filter, rows));
  for (uint32_t i = 0; i < WHOLE_TOKEN_CASES; i++) {
    const whole_token_row *row = &rows[i];
    if (!row->what) continue;
    if (!row->taken) {
      printf("skip %s %s: %s\n", row->path, row->what, row->decode);
      n->skipped++;
      continue;
    }
    const bool as_expected = strstr(row->decode, row->expected) != NULL;
    const bool right = as_expected && row->worst <= 1e-6 && !row->others;
    printf("%s %s %s: %u tokens, worst NMSE %.1e, %u greedy tokens differ; %s\n", right ? "ok  " : "FAIL", row->path, row->what,
           row->tokens, row->worst, row->others, row->decode);
    if (right)
      n->passed++;
    else
      n->failed++;
  }
  return WISP_OK;
}

static wisp_status check_draws(const check_params *params, counts *n) {
  draw_row row;
  if (params->filter && !strstr("draw", params->filter)) return WISP_OK;
  WISP_TRY(draw_check(params, &row));
  say(n, row.draws && !row.differ, "draw: %u tokens drawn, %u not as on the host", row.draws, row.differ);
  say(n, row.blind < row.cases / 4 * 3, "self-check: another seed is seen (in %u of %u cases it is not)", row.blind, row.cases);
  return WISP_OK;
}

static void bench_line(void *user, const bench_row *row) {
  json *out = user;
  printf("%-28s %-9s %-5s %3u columns, kv %4u: %10.1f us %8.2f GB/s%s\n", row->shader->name, wisp_op_name(row->op), row->type,
         row->columns, row->kv_length, row->microseconds, row->gb_per_s, row->timestamps ? "" : " (wall)");
  if (!out) return;
  json_open_object(out, NULL);
  json_text(out, "variant", row->shader->name);
  json_text(out, "op", wisp_op_name(row->op));
  json_text(out, "dtype", row->type);
  json_integer(out, "columns", row->columns);
  json_integer(out, "kv_length", row->kv_length);
  json_number(out, "microseconds", row->microseconds);
  json_number(out, "gb_per_s", row->gb_per_s);
  json_bool(out, "timestamps", row->timestamps);
  json_close_object(out);
}

static int run(const options *o, wvk_device *device, const wisp_host *host, FILE *file) {
  const wvk_caps *caps = wvk_device_caps(device);
  const check_params params = {host, device, o->filter, o->seed, o->verbose};
  json out;
  counts n = {0};
  printf("vulkan:%u %s (%s), tier %s, subgroups of %u, --seed %" PRIu64 "\n", wvk_device_index(device), caps->name,
         caps->driver, wvk_caps_tier(caps), caps->subgroup_size, o->seed);
  if (o->list) {
    list_variants(caps);
    return REPORT_DONE;
  }
  if (file) {
    json_begin(&out, file);
    json_open_object(&out, NULL);
    json_text(&out, "device", caps->name);
    json_text(&out, "driver", caps->driver);
    json_integer(&out, "subgroup_size", caps->subgroup_size);
    json_integer(&out, "seed", (int64_t)o->seed);
  }
  const double start = platform_now_ms();
  wisp_status status = check(&params, file ? &out : NULL, &n);
  if (status == WISP_OK) status = check_draws(&params, &n);
  if (status == WISP_OK) status = check_whole_tokens(&params, &n);
  if (status == WISP_OK) printf("%u passed, %u failed, %u skipped\n", n.passed, n.failed, n.skipped);
  if (o->verbose) printf("in %.1f s\n", (platform_now_ms() - start) / 1e3);
  if (o->bench && status == WISP_OK) {
    if (file) json_open_array(&out, "bench");
    status = bench_kernels(&params, bench_line, file ? &out : NULL);
    if (file) json_close_array(&out);
  }
  if (file) {
    json_close_object(&out);
    json_end(&out);
  }
  return status != WISP_OK || n.failed ? REPORT_FAILED : REPORT_DONE;
}

static int run_with_file(const options *o, wvk_device *device, const wisp_host *host) {
  FILE *file = NULL;
  if (o->json_file && !(file = fopen(o->json_file, "w"))) return report_error("%s: cannot be written", o->json_file);
  int code = run(o, device, host, file);
  if (file && fclose(file) && code == REPORT_DONE) code = report_error("%s: cannot be written", o->json_file);
  return code;
}

int main(int argc, char **argv) {
  options o = {.device = UINT32_MAX, .seed = (uint64_t)time(NULL)};
  const args_option table[] = {
      ARG_U32("--device", NULL, &o.device, 0, 255, "index as in wisp devices; otherwise the best"),
      ARG_TEXT("--filter", NULL, &o.filter, "TEXT", "only variants and ops whose name contains it"),
      ARG_U64("--seed", NULL, &o.seed, "of the inputs; repeats a run"),
      ARG_FLAG("--verbose", "-v", &o.verbose, "a line for each variant, op and element type"),
      ARG_FLAG("--list", NULL, &o.list, "the variants and whether the device runs them"),
      ARG_TEXT("--json", NULL, &o.json_file, "FILE", "results as JSON"),
      ARG_FLAG("--bench", NULL, &o.bench, "also time the kernels on the shapes of MobileLLM-125M"),
  };
  const args_command command = {.name = "wisp-kernels",
                                .operands = "",
                                .summary = "Compares every GPU kernel with the C reference.",
                                .options = table,
                                .option_count = sizeof table / sizeof *table};
  report_init("wisp-kernels");
  const int parsed = args_parse(&command, argc, argv);
  if (parsed != ARGS_OK) return parsed;
  setvbuf(stdout, NULL, _IOLBF, 0);
  const wisp_host host = {.log = on_log};
  wvk_device *device;
  const wvk_device_params params = {.host = wisp_gpu_host(&host), .index = o.device == UINT32_MAX ? -1 : (int32_t)o.device};
  if (wvk_device_create(&device, &params) != WVK_OK) return REPORT_FAILED;
  const int code = run_with_file(&o, device, &host);
  wvk_device_destroy(&device);
  return code;
}
