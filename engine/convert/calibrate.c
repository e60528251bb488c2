/* SPDX-License-Identifier: Apache-2.0
 * Gathers the importance of each matrix's columns while the CPU evaluates a text. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "convert/importance.h"
#include "model/gguf_write.h"
#include "session/engine.h"

enum { PIECE = 64 }; /* tokens whose logits are in memory at once: the head is evaluated for all, to see its input */

typedef struct record {
  double *sums; /* [cols]; NULL until the matrix is seen */
  uint64_t count;
} record;

typedef struct calibration {
  wisp_engine *engine;
  const wisp_host *host;
  const wisp_calibrate_params *params;
  record *records;    /* [gguf.tensor_count] */
  char (*names)[128]; /* [2 * tensor_count]: of the tensors to write */
  float *values;      /* [longest row] */
  float *logits;      /* [PIECE][vocabulary] */
  wisp_timeline *timeline;
  wisp_gguf_writer writer;
  bool out_of_memory;
} calibration;

static void observe(void *user, const wisp_matrix *matrix, const float *x, uint32_t count) {
  calibration *c = user;
  /* A shared head is the embedding's tensor, a shared block's matrix the same one in both passes. */
  record *r = &c->records[matrix->tensor - c->engine->file.gguf->tensors];
  if (!r->sums) r->sums = wisp_host_alloc(c->host, matrix->cols, sizeof *r->sums);
  if (!r->sums) {
    c->out_of_memory = true;
    return;
  }
  for (uint32_t t = 0; t < count; t++, x += matrix->cols)
    for (uint32_t i = 0; i < matrix->cols; i++) r->sums[i] += (double)(x[i] * x[i]);
  r->count += count;
}

static wisp_status evaluate(calibration *c) {
  const wisp_executor_api *api = c->engine->executor->api;
  const wisp_calibrate_params *p = c->params;
  for (size_t from = 0; from < p->count;) {
    const size_t left = p->window - from % p->window, piece = left < PIECE ? left : PIECE;
    const size_t count = p->count - from < piece ? p->count - from : piece;
    if (left == p->window) api->truncate(c->timeline, 0);
    WISP_TRY(api->append(c->timeline, p->ids + from, count, WISP_LOGITS_ALL, c->logits));
    if (c->out_of_memory)
      return wisp_fail_memory(c->host, "importance of a matrix", c->engine->model.ffn_width * sizeof(double));
    from += count;
    if (p->progress && !p->progress(p->progress_user, (float)from / (float)p->count)) return WISP_ERROR_CANCELLED;
  }
  return WISP_OK;
}

/* Adds the two tensors of each matrix that was seen; the writer keeps pointers to their names. */
static wisp_status add_tensors(calibration *c) {
  const wisp_gguf *gguf = c->engine->file.gguf;
  const wisp_dtype_info *f32 = wisp_dtype_find(WISP_F32);
  for (uint64_t i = 0; i < gguf->tensor_count; i++) {
    if (!c->records[i].count) continue;
    static const char *const suffixes[2] = {WISP_IMPORTANCE_SUM, WISP_IMPORTANCE_COUNT};
    for (int j = 0; j < 2; j++) {
      char *name = c->names[2 * i + (uint64_t)j];
      const int length = snprintf(name, sizeof *c->names, "%.*s%s", WISP_TEXT_ARGS(gguf->tensors[i].name), suffixes[j]);
      const uint64_t shape[2] = {j ? 1 : gguf->tensors[i].shape[0], 1};
      WISP_TRY(wisp_gguf_writer_add(&c->writer, (wisp_text){name, (uint64_t)length}, f32, 2, shape));
    }
  }
  return WISP_OK;
}

static wisp_status write_values(calibration *c, uint64_t count) {
  const wisp_dtype_info *f32 = wisp_dtype_find(WISP_F32);
  f32->quantize(c->values, c->values, (size_t)count); /* little-endian, in place */
  return wisp_gguf_writer_data(&c->writer, c->values, (size_t)count * sizeof(float));
}

static wisp_status write_file(calibration *c) {
  const wisp_gguf *gguf = c->engine->file.gguf;
  WISP_TRY(wisp_gguf_writer_open(&c->writer, c->host, c->params->write, c->params->write_user));
  WISP_TRY(wisp_gguf_writer_set_string(&c->writer, "general.type", "imatrix"));
  WISP_TRY(wisp_gguf_writer_set_string(&c->writer, "general.name", c->engine->model.name));
  WISP_TRY(wisp_gguf_writer_set_u32(&c->writer, "imatrix.chunk_size", c->params->window));
  WISP_TRY(wisp_gguf_writer_set_u32(&c->writer, "imatrix.chunk_count",
                                    (uint32_t)((c->params->count + c->params->window - 1) / c->params->window)));
  WISP_TRY(add_tensors(c));
  WISP_TRY(wisp_gguf_writer_begin(&c->writer));
  for (uint64_t i = 0; i < gguf->tensor_count; i++) {
    const record *r = &c->records[i];
    if (!r->count) continue;
    const uint64_t cols = gguf->tensors[i].shape[0];
    for (uint64_t j = 0; j < cols; j++) c->values[j] = (float)r->sums[j];
    WISP_TRY(write_values(c, cols));
    c->values[0] = (float)r->count;
    WISP_TRY(write_values(c, 1));
  }
  return wisp_gguf_writer_end(&c->writer);
}

static wisp_status check(const wisp_engine *engine, const wisp_calibrate_params *p) {
  const wisp_host *host = &engine->host;
  if (engine->load != WISP_LOAD_ALL)
    return wisp_fail(host, WISP_ERROR_ARGUMENT, "calibration needs an engine with WISP_LOAD_ALL");
  if (engine->executor->api != &wisp_cpu_executor)
    return wisp_fail(host, WISP_ERROR_UNSUPPORTED, "calibration runs on the CPU only, this engine is on %s",
                     engine->executor->api->backend);
  if (!engine->file.gguf || !engine->file.gguf->tensor_count)
    return wisp_fail(host, WISP_ERROR_UNSUPPORTED, "calibration needs a model from a file");
  if (!p->count || !p->window || p->window > engine->max_context)
    return wisp_fail(host, WISP_ERROR_ARGUMENT,
                     "calibration: %zu tokens in windows of %u; at least 1 of each, windows of at most %u", p->count, p->window,
                     engine->max_context);
  for (size_t i = 0; i < p->count; i++)
    if (p->ids[i] < 0 || (uint32_t)p->ids[i] >= engine->model.vocabulary)
      return wisp_fail(host, WISP_ERROR_ARGUMENT, "token %zu is %" PRId32 ", the vocabulary has %u", i, p->ids[i],
                       engine->model.vocabulary);
  return WISP_OK;
}

static wisp_status calibrate(calibration *c) {
  const wisp_gguf *gguf = c->engine->file.gguf;
  uint64_t longest = 1;
  for (uint64_t i = 0; i < gguf->tensor_count; i++)
    if (gguf->tensors[i].shape[0] > longest) longest = gguf->tensors[i].shape[0];
  c->records = wisp_host_alloc(c->host, (size_t)gguf->tensor_count, sizeof *c->records);
  c->names = wisp_host_alloc(c->host, 2 * (size_t)gguf->tensor_count, sizeof *c->names);
  c->values = wisp_host_alloc(c->host, (size_t)longest, sizeof *c->values);
  c->logits = wisp_host_alloc(c->host, PIECE, c->engine->model.vocabulary * sizeof *c->logits);
  if (!c->records || !c->names || !c->values || !c->logits)
    return wisp_fail_memory(c->host, "calibration", longest * sizeof *c->values);
  WISP_TRY(c->engine->executor->api->timeline_create(&c->timeline, c->engine->executor, c->params->window, WISP_KV_F16));
  c->timeline->observe = observe;
  c->timeline->observe_user = c;
  WISP_TRY(evaluate(c));
  return write_file(c);
}

wisp_calibrate_params wisp_calibrate_params_defaults(void) {
  return (wisp_calibrate_params){.window = 512};
}

wisp_status wisp_calibrate(wisp_engine *engine, const wisp_calibrate_params *params) {
  WISP_TRY(check(engine, params));
  calibration c = {.engine = engine, .host = &engine->host, .params = params};
  const wisp_status status = calibrate(&c);
  for (uint64_t i = 0; c.records && i < engine->file.gguf->tensor_count; i++) wisp_host_free(c.host, c.records[i].sums);
  wisp_host_free(c.host, c.records);
  wisp_host_free(c.host, c.names);
  wisp_host_free(c.host, c.values);
  wisp_host_free(c.host, c.logits);
  engine->executor->api->timeline_destroy(c.timeline);
  wisp_gguf_writer_close(&c.writer);
  return status;
}
