/* SPDX-License-Identifier: Apache-2.0 */
#include "profile.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "common/report.h"

enum { KINDS_MAX = 16 };

typedef struct kind { /* ops of one name */
  const char *name;
  uint32_t count;
  double ns, bytes;
} kind;

typedef struct profile {
  wisp_op_info *ops; /* [count] */
  double *ns;        /* [count], medians */
  uint32_t count;
  double total_ns;
} profile;

static double floor_us(double bytes, double gb_per_s) {
  return bytes / gb_per_s / 1e3;
}

static void print_number(FILE *file, int width, int decimals, double value) {
  if (isfinite(value))
    fprintf(file, " %*.*f", width, decimals, value);
  else
    fprintf(file, " %*s", width, "-");
}

static void print_line(FILE *file, const char *name, uint32_t count, double ns, double bytes, double total_ns,
                       double gb_per_s) {
  fprintf(file, "%-10s %5u", name, count);
  print_number(file, 9, 2, ns / count / 1e3);
  print_number(file, 10, 1, ns / 1e3);
  fprintf(file, " %6.1f %%", 100 * ns / total_ns);
  print_number(file, 9, 1, bytes / ns);
  print_number(file, 10, 2, floor_us(bytes, gb_per_s));
  putc('\n', file);
}

static void print_table(const profile *p, const profile_options *options, FILE *file) {
  kind kinds[KINDS_MAX];
  uint32_t kind_count = 0;
  double bytes = 0;
  for (uint32_t i = 0; i < p->count; i++) {
    uint32_t k = 0;
    while (k < kind_count && strcmp(kinds[k].name, p->ops[i].name)) k++;
    if (k == KINDS_MAX) continue; /* a plan has eight names */
    if (k == kind_count) kinds[kind_count++] = (kind){.name = p->ops[i].name};
    kinds[k].count++;
    kinds[k].ns += p->ns[i];
    kinds[k].bytes += (double)p->ops[i].bytes;
    bytes += (double)p->ops[i].bytes;
  }
  fprintf(file, "\none token at depth %u, a dispatch for each op, timestamps between them (median of %d)\n", options->depth,
          PROFILE_TOKENS);
  fprintf(file, "%-10s %5s %9s %10s %8s %9s %10s\n", "op", "count", "us each", "us", "share", "GB/s", "floor us");
  for (uint32_t k = 0; k < kind_count; k++)
    print_line(file, kinds[k].name, kinds[k].count, kinds[k].ns, kinds[k].bytes, p->total_ns, options->gb_per_s);
  print_line(file, "all", p->count, p->total_ns, bytes, p->total_ns, options->gb_per_s);
}

/* The trace event format: complete events, times in us. */
static bool write_trace(const profile *p, const char *path) {
  FILE *file = fopen(path, "wb");
  if (!file) {
    report_error("cannot write %s: %s", path, strerror(errno));
    return false;
  }
  json out;
  json_begin(&out, file);
  json_open_object(&out, NULL);
  json_open_array(&out, "traceEvents");
  double at = 0;
  for (uint32_t i = 0; i < p->count; i++) {
    const wisp_op_info *op = &p->ops[i];
    json_open_object(&out, NULL);
    json_text(&out, "name", op->name);
    json_text(&out, "ph", "X");
    json_number(&out, "ts", at / 1e3);
    json_number(&out, "dur", p->ns[i] / 1e3);
    json_integer(&out, "pid", 1);
    json_integer(&out, "tid", 1);
    json_open_object(&out, "args");
    json_integer(&out, "executed_block", op->executed_block);
    json_text(&out, "type", op->type);
    json_integer(&out, "bytes", (int64_t)op->bytes);
    json_number(&out, "gb_per_s", (double)op->bytes / p->ns[i]);
    json_close_object(&out);
    json_close_object(&out);
    at += p->ns[i];
  }
  json_close_array(&out);
  json_close_object(&out);
  json_end(&out);
  const bool failed = ferror(file) != 0;
  if (fclose(file) != 0 || failed) {
    report_error("cannot write %s", path);
    return false;
  }
  return true;
}

/* A session that holds depth tokens and one more to continue from. */
static wisp_status open_session(wisp_engine *engine, const profile_options *options, wisp_session **session) {
  wisp_model_info info;
  wisp_engine_model_info(engine, &info);
  wisp_session_params params = wisp_session_params_defaults();
  params.context = options->context;
  params.kv_type = options->kv_type;
  wisp_status status = wisp_session_create(session, engine, &params);
  for (uint32_t i = 0; i <= options->depth && status == WISP_OK; i++) {
    const int32_t id = (int32_t)((i * 7919ull + 5) % info.vocabulary);
    status = wisp_session_append(*session, &id, 1, WISP_LOGITS_NONE, NULL);
  }
  return status;
}

int profile_print(wisp_engine *engine, const profile_options *options, FILE *file) {
  profile p = {.count = wisp_engine_plan(engine, WISP_PHASE_DECODE, NULL, 0)};
  p.ops = calloc(p.count, sizeof *p.ops);
  p.ns = calloc(p.count, sizeof *p.ns);
  wisp_session *session = NULL;
  wisp_status status = p.ops && p.ns ? open_session(engine, options, &session) : WISP_ERROR_MEMORY;
  if (status == WISP_OK) {
    wisp_engine_plan(engine, WISP_PHASE_DECODE, p.ops, p.count);
    status = wisp_session_profile(session, PROFILE_TOKENS, p.ns);
  }
  int code = REPORT_DONE;
  if (status == WISP_ERROR_UNSUPPORTED) {
    report_status_warning(status);
  } else if (status != WISP_OK) {
    code = report_status(status);
  } else {
    for (uint32_t i = 0; i < p.count; i++) p.total_ns += p.ns[i];
    print_table(&p, options, file);
    if (options->trace && !write_trace(&p, options->trace)) code = REPORT_FAILED;
  }
  wisp_session_destroy(&session);
  free(p.ops);
  free(p.ns);
  return code;
}
