/* SPDX-License-Identifier: Apache-2.0
 * A model file with its matrices in another type: decided tensor by tensor, written some rows at a time. */
#include <inttypes.h>
#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "convert/equalize.h"
#include "convert/synthetic_file.h"
#include "cpu/cpu.h"
#include "cpu/reference.h"
#include "cpu/threads.h"
#include "model/gguf_write.h"
#include "model/model.h"
#include "model/model_file.h"
#include "model/quant.h"

enum { CHUNK_WEIGHTS = 1 << 20 }; /* converted between two writes, at least one row */

typedef struct scheme {
  const char *name;
  wisp_dtype matrices, embedding;
  uint32_t file_type;     /* general.file_type: for people and other programs */
  const char *activation; /* wisp.activation_type */
} scheme;

/* The embedding, which as the shared head is the matrix that the logits come from, and of which a lookup reads one row only,
 * keeps more bits: what that is worth is measured in docs/quality.md. */
static const scheme schemes[] = {
    {"f32", WISP_F32, WISP_F32, 0, NULL},     {"f16", WISP_F16, WISP_F16, 1, NULL},
    {"bf16", WISP_BF16, WISP_BF16, 32, NULL}, {"q4_0", WISP_Q4_0, WISP_Q8_0, 2, NULL},
    {"q4_1", WISP_Q4_1, WISP_Q8_0, 3, NULL},  {"q5_0", WISP_Q5_0, WISP_Q8_0, 8, NULL},
    {"q5_1", WISP_Q5_1, WISP_Q8_0, 9, NULL},  {"q8_0", WISP_Q8_0, WISP_Q8_0, 7, NULL},
    {"q4_k", WISP_Q4_K, WISP_Q6_K, 14, NULL}, {"q5_k", WISP_Q5_K, WISP_Q6_K, 16, NULL},
    {"q6_k", WISP_Q6_K, WISP_Q6_K, 18, NULL}, {"w8a8", WISP_Q8_0, WISP_Q8_0, 7, "int8_per_token"},
};
enum { SCHEMES = sizeof schemes / sizeof *schemes };

static const char *const names[SCHEMES + 1] = {"f32",  "f16",  "bf16", "q4_0", "q4_1", "q5_0", "q5_1",
                                               "q8_0", "q4_k", "q5_k", "q6_k", "w8a8", NULL};

const char *const *wisp_convert_types(void) {
  return names;
}

/* Where rows are no whole number of blocks, as llama-quantize decides. */
static wisp_dtype narrower(wisp_dtype type) {
  switch (type) {
  case WISP_Q4_K:
    return WISP_Q5_0;
  case WISP_Q5_K:
    return WISP_Q5_1;
  case WISP_Q6_K:
    return WISP_Q8_0;
  default:
    return WISP_F16;
  }
}

typedef struct conversion {
  const wisp_convert_params *params;
  const wisp_host *host;
  const scheme *scheme;
  wisp_dtype embedding;
  wisp_model_file file;
  const wisp_gguf *source; /* of file */
  wisp_importance importance;
  wisp_equalizer equalizer;
  wisp_threads *threads;
  wisp_gguf_writer writer;
  char (*names)[64]; /* [tensor_count]: where one changes; the writer keeps pointers to them */
  float *rows;       /* [threads][longest row] */
  uint8_t *out;      /* [out_bytes]: a converted chunk */
  size_t row_floats;
  uint64_t weights, done; /* of all tensors; converted */
  wisp_convert_result *result;
} conversion;

static wisp_status find_scheme(const wisp_host *host, const char *name, const scheme **found) {
  for (int i = 0; name && i < SCHEMES; i++)
    if (!strcmp(schemes[i].name, name)) {
      *found = &schemes[i];
      return WISP_OK;
    }
  return wisp_fail(host, WISP_ERROR_ARGUMENT,
                   "unknown type \"%s\"; there are f32, f16, bf16, q4_0, q4_1, q5_0, q5_1, q8_0, q4_k, q5_k, q6_k, w8a8",
                   name ? name : "");
}

/* ---- Decisions -------------------------------------------------------------------------------------------------------- */

static bool named(wisp_text name, const char *wanted) {
  return name.size == strlen(wanted) && !memcmp(name.bytes, wanted, name.size);
}

static bool ends_with(wisp_text name, const char *suffix) {
  const size_t length = strlen(suffix);
  return name.size > length && !memcmp(name.bytes + name.size - length, suffix, length);
}

static bool is_transformed(const wisp_gguf_tensor *tensor) {
  return tensor->dimensions == 2 && tensor->shape[0] % WISP_HADAMARD_GROUP == 0 &&
         ends_with(tensor->name, WISP_HADAMARD_SUFFIX);
}

static bool is_matrix(const wisp_gguf_tensor *tensor) {
  return is_transformed(tensor) || (tensor->dimensions == 2 && ends_with(tensor->name, WISP_PLAIN_SUFFIX));
}

static bool is_embedding(const wisp_gguf_tensor *tensor) {
  return named(tensor->name, "token_embd.weight") || named(tensor->name, "output.weight");
}

/* A row of w8a8 has one scale. Embedding and head are outside the blocks: they stay as in q8_0. */
static bool one_scale(const conversion *c, const wisp_gguf_tensor *tensor) {
  return c->scheme->activation && is_matrix(tensor) && !is_embedding(tensor);
}

/* Whether rows are transformed in the output: as wisp_model_bind expects them. */
static bool becomes_transformed(const conversion *c, const wisp_gguf_tensor *tensor) {
  return one_scale(c, tensor) && tensor->shape[0] % WISP_HADAMARD_GROUP == 0;
}

/* Of a tensor in the output. */
static wisp_text written_name(const conversion *c, const wisp_gguf_tensor *tensor) {
  const bool from = is_transformed(tensor), to = becomes_transformed(c, tensor);
  char *name = c->names[tensor - c->source->tensors];
  if (from == to) return tensor->name;
  const size_t stem = (size_t)tensor->name.size - strlen(from ? WISP_HADAMARD_SUFFIX : WISP_PLAIN_SUFFIX);
  snprintf(name, sizeof *c->names, "%.*s%s", (int)stem, tensor->name.bytes, to ? WISP_HADAMARD_SUFFIX : WISP_PLAIN_SUFFIX);
  return wisp_text_of(name);
}

/* Vectors are read as floats by every program; what is neither vector nor matrix stays as it is. */
static const wisp_dtype_info *target_of(const conversion *c, const wisp_gguf_tensor *tensor, bool *fallback) {
  *fallback = false;
  if (!is_matrix(tensor)) return tensor->dimensions == 1 ? wisp_dtype_find(WISP_F32) : tensor->type;
  const wisp_dtype_info *type = wisp_dtype_find(is_embedding(tensor) ? c->embedding : c->scheme->matrices);
  while (tensor->shape[0] % type->block_weights) {
    type = wisp_dtype_find(narrower(type->dtype));
    *fallback = true;
  }
  return type;
}

static uint64_t weights_of(const wisp_gguf_tensor *tensor) {
  return tensor->shape[0] * tensor->shape[1] * tensor->shape[2] * tensor->shape[3];
}

/* Fills the writer's table, and learns what buffers are needed. */
static wisp_status decide(conversion *c) {
  bool lossy_twice = false;
  c->names = wisp_host_alloc(c->host, (size_t)c->source->tensor_count, sizeof *c->names);
  if (!c->names) return wisp_fail_memory(c->host, "names of tensors", c->source->tensor_count * sizeof *c->names);
  for (uint64_t i = 0; i < c->source->tensor_count; i++) {
    const wisp_gguf_tensor *tensor = &c->source->tensors[i];
    bool fallback;
    const wisp_dtype_info *type = target_of(c, tensor, &fallback);
    WISP_TRY(wisp_gguf_writer_add(&c->writer, written_name(c, tensor), type, tensor->dimensions, tensor->shape));
    if (fallback) {
      c->result->fallbacks++;
      wisp_log(c->host, WISP_LOG_INFO, "%.*s: rows of %" PRIu64 " cannot be %s: stored as %s", WISP_TEXT_ARGS(tensor->name),
               tensor->shape[0], wisp_dtype_find(is_embedding(tensor) ? c->embedding : c->scheme->matrices)->name, type->name);
    }
    lossy_twice |= tensor->type != type && tensor->type->block_weights > 1 && type->block_weights > 1 &&
                   type->dtype != WISP_Q8_0;
    if (tensor->shape[0] > c->row_floats) c->row_floats = (size_t)tensor->shape[0];
    c->weights += weights_of(tensor);
    c->result->source_bytes += tensor->bytes;
  }
  c->result->tensors = (uint32_t)c->source->tensor_count;
  c->result->parameters = c->weights;
  c->result->bytes = c->writer.data_bytes;
  if (lossy_twice)
    wisp_log(c->host, WISP_LOG_WARN,
             "%s: its weights are quantised already, and lose a second time; an f16 or bf16 source is better", c->source->name);
  return WISP_OK;
}

static wisp_status set_keys(conversion *c) {
  for (uint64_t i = 0; i < c->source->entry_count; i++) WISP_TRY(wisp_gguf_writer_set(&c->writer, &c->source->entries[i]));
  WISP_TRY(wisp_gguf_writer_set_u32(&c->writer, "general.file_type", c->scheme->file_type));
  WISP_TRY(wisp_gguf_writer_set_u32(&c->writer, "general.quantization_version", 2));
  wisp_gguf_writer_remove(&c->writer, "wisp.activation_type");
  if (!c->scheme->activation) return WISP_OK;
  return wisp_gguf_writer_set_string(&c->writer, "wisp.activation_type", c->scheme->activation);
}

/* ---- Rows --------------------------------------------------------------------------------------------------------------- */

/* Rows [first, first + count) of one tensor. */
typedef struct chunk {
  const conversion *c;
  const wisp_gguf_tensor *tensor;
  const wisp_dtype_info *type;
  const float *importance; /* [shape[0]] or NULL */
  wisp_factors factors;
  uint64_t first, count;
  atomic_bool not_finite;
} chunk;

static uint64_t row_bytes(const wisp_dtype_info *type, uint64_t weights) {
  return weights / type->block_weights * type->block_bytes;
}

static bool all_finite(const float *x, size_t count) {
  float zero = 0; /* infinity * 0 and NaN * 0 are NaN */
  for (size_t i = 0; i < count; i++) zero += x[i] * 0;
  return zero == 0;
}

static void quantize_row(const chunk *k, const float *row, uint8_t *out) {
  const wisp_dtype_info *type = k->type;
  const size_t count = (size_t)k->tensor->shape[0];
  if (one_scale(k->c, k->tensor) && type->dtype == WISP_Q8_0) {
    wisp_quantize_q8_0_row(row, out, count);
  } else if (type->fit && !(k->c->params->plain && type->quantize)) {
    type->fit(row, k->importance, out, count);
  } else {
    type->quantize(row, out, count);
  }
}

static void convert_rows(void *argument, uint32_t part, uint32_t parts, uint32_t worker) {
  chunk *k = argument;
  const uint64_t cols = k->tensor->shape[0], from = row_bytes(k->tensor->type, cols), to = row_bytes(k->type, cols);
  float *row = k->c->rows + worker * k->c->row_floats;
  for (uint32_t i = wisp_share((uint32_t)k->count, part, parts); i < wisp_share((uint32_t)k->count, part + 1, parts); i++) {
    k->tensor->type->dequantize(k->tensor->data + (k->first + i) * from, row, (size_t)cols);
    if (!all_finite(row, (size_t)cols)) atomic_store(&k->not_finite, true);
    const float factor = k->factors.rows ? k->factors.rows[k->first + i] : 1;
    for (uint64_t j = 0; j < cols && (k->factors.rows || k->factors.columns); j++)
      row[j] *= k->factors.columns ? k->factors.columns[j] * factor : factor;
    if (is_transformed(k->tensor) != becomes_transformed(k->c, k->tensor)) wisp_reference_hadamard(row, (uint32_t)cols);
    quantize_row(k, row, k->c->out + i * to);
  }
}

static wisp_status advance(conversion *c, uint64_t weights) {
  c->done += weights;
  if (!c->params->progress) return WISP_OK;
  return c->params->progress(c->params->progress_user, (float)((double)c->done / (double)c->weights)) ? WISP_OK
                                                                                                      : WISP_ERROR_CANCELLED;
}

static wisp_status convert_tensor(conversion *c, const wisp_gguf_tensor *tensor) {
  bool fallback;
  chunk k = {.c = c, .tensor = tensor, .type = target_of(c, tensor, &fallback)};
  const uint64_t cols = tensor->shape[0], rows = weights_of(tensor) / cols, to = row_bytes(k.type, cols);
  const uint64_t step = cols < CHUNK_WEIGHTS ? CHUNK_WEIGHTS / cols : 1;
  if (c->equalizer.factors) k.factors = c->equalizer.factors[tensor - c->source->tensors];
  if (is_matrix(tensor)) WISP_TRY(wisp_importance_of(&c->importance, tensor, &k.importance));
  for (k.first = 0; k.first < rows; k.first += k.count) {
    k.count = rows - k.first < step ? rows - k.first : step;
    const uint8_t *converted = c->out;
    if (k.type == tensor->type && !one_scale(c, tensor) && !is_transformed(tensor) && !k.factors.columns && !k.factors.rows) {
      converted = tensor->data + k.first * to; /* as it is */
    } else {
      const uint32_t parts = 4 * wisp_threads_count(c->threads);
      wisp_threads_run(c->threads, convert_rows, &k, k.count < parts ? (uint32_t)k.count : parts);
      if (atomic_load(&k.not_finite))
        return wisp_fail(c->host, WISP_ERROR_FORMAT, "%s: tensor '%.*s' holds values that are not finite", c->source->name,
                         WISP_TEXT_ARGS(tensor->name));
    }
    WISP_TRY(wisp_gguf_writer_data(&c->writer, converted, (size_t)(k.count * to)));
    const uint64_t from = row_bytes(tensor->type, cols);
    wisp_model_file_release(&c->file, tensor->data + k.first * from, k.count * from);
    WISP_TRY(advance(c, k.count * cols));
  }
  return WISP_OK;
}

/* ---- The whole ------------------------------------------------------------------------------------------------------------
 */

static wisp_status allocate(conversion *c) {
  const uint64_t threads = wisp_threads_count(c->threads);
  const uint64_t out = 4 * (uint64_t)(c->row_floats > CHUNK_WEIGHTS ? c->row_floats : CHUNK_WEIGHTS); /* f32, the widest */
  c->rows = wisp_host_alloc(c->host, (size_t)threads, c->row_floats * sizeof(float));
  c->out = wisp_host_alloc(c->host, (size_t)out, 1);
  if (!c->rows || !c->out) return wisp_fail_memory(c->host, "some rows of weights", threads * c->row_floats * 4 + out);
  return WISP_OK;
}

static wisp_status convert(conversion *c) {
  const wisp_convert_params *p = c->params;
  const scheme *embedding;
  WISP_TRY(find_scheme(c->host, p->type, &c->scheme));
  WISP_TRY(find_scheme(c->host, p->embedding_type ? p->embedding_type : p->type, &embedding));
  c->embedding = p->embedding_type ? embedding->matrices : c->scheme->embedding;
  WISP_TRY(wisp_model_file_open(&c->file, c->host, &p->source, false));
  c->source = c->file.gguf;
  if (c->source->tensor_count == 0)
    return wisp_fail(c->host, WISP_ERROR_FORMAT, "%s: has no tensors; there is nothing to convert", c->source->name);
  if (!wisp_gguf_find(c->source, "tokenizer.ggml.model"))
    wisp_log(c->host, WISP_LOG_WARN, "%s: has no tokenizer, so the converted model takes only token ids", c->source->name);
  WISP_TRY(wisp_importance_open(&c->importance, c->host, &p->importance, c->source));
  if (c->scheme->activation) WISP_TRY(wisp_equalizer_open(&c->equalizer, c->host, &c->file, &c->importance));

  const uint32_t cores = wisp_cpu_cores(), most = cores < WISP_THREADS_MAX ? cores : WISP_THREADS_MAX;
  WISP_TRY(wisp_threads_create(&c->threads, c->host, p->threads ? p->threads : most));
  WISP_TRY(wisp_gguf_writer_open(&c->writer, c->host, p->write, p->write_user));
  WISP_TRY(set_keys(c));
  WISP_TRY(decide(c));
  WISP_TRY(allocate(c));
  WISP_TRY(wisp_gguf_writer_begin(&c->writer));
  for (uint64_t i = 0; i < c->source->tensor_count; i++) WISP_TRY(convert_tensor(c, &c->source->tensors[i]));
  return wisp_gguf_writer_end(&c->writer);
}

wisp_convert_params wisp_convert_params_defaults(void) {
  return (wisp_convert_params){.source = {.fd = -1}, .importance = {.fd = -1}, .type = "q4_0"};
}

wisp_status wisp_convert(const wisp_convert_params *params, wisp_convert_result *result) {
  conversion c = {.params = params, .host = &params->host, .result = result};
  *result = (wisp_convert_result){0};
  WISP_TRY(wisp_source_check(&params->host, &params->source));
  if (params->source.synthetic) return wisp_synthetic_write(params, result);
  const wisp_status status = convert(&c);
  wisp_host_free(c.host, c.names);
  wisp_host_free(c.host, c.rows);
  wisp_host_free(c.host, c.out);
  wisp_gguf_writer_close(&c.writer);
  wisp_threads_destroy(&c.threads);
  wisp_equalizer_close(&c.equalizer);
  wisp_importance_close(&c.importance);
  wisp_model_file_close(&c.file, c.host);
  return status;
}
