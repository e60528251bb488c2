/* SPDX-License-Identifier: Apache-2.0 */
#include "convert/synthetic_file.h"

#include <stdio.h>
#include <string.h>

#include "base/little_endian.h"
#include "model/gguf_fields.h"
#include "model/gguf_write.h"
#include "model/model.h"
#include "model/quant.h"

enum { NAME = 80, KEYS = 16, TOKEN = 16, FIRST_WORD = 3 + 256 /* behind <unk>, <s>, </s> and the bytes */ };
enum { NORMAL = 1, UNKNOWN = 2, CONTROL = 3, BYTE = 6 }; /* tokenizer.ggml.token_type */

typedef struct file {
  const wisp_convert_params *params;
  const wisp_host *host;
  wisp_model model;
  wisp_gguf_writer writer;
  char (*names)[NAME]; /* of the tensors, as planned */
  uint32_t named;
  char keys[KEYS][NAME]; /* that begin with the architecture */
  uint32_t key_count;
  uint8_t floats[4][4]; /* values of keys */
  uint32_t float_count;
  char (*texts)[TOKEN];    /* [vocabulary] */
  wisp_text *tokens;       /* [vocabulary] */
  uint8_t *scores, *types; /* [4 * vocabulary] */
} file;

/* ---- Keys ---- */

static const char *key_of(file *f, const char *suffix) {
  char *key = f->keys[f->key_count++];
  snprintf(key, NAME, "%s.%s", f->model.architecture, suffix);
  return key;
}

static void store_f32(uint8_t *bytes, float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  wisp_store_u32(bytes, bits);
}

static wisp_status set_f32(file *f, const char *suffix, float value) {
  uint8_t *bytes = f->floats[f->float_count++];
  store_f32(bytes, value);
  const wisp_gguf_entry entry = {
      .key = wisp_text_of(key_of(f, suffix)), .type = WISP_GGUF_F32, .element = WISP_GGUF_F32, .count = 1, .payload = bytes};
  return wisp_gguf_writer_set(&f->writer, &entry);
}

static wisp_status set_shape(file *f) {
  const wisp_model *m = &f->model;
  const struct {
    const char *suffix;
    uint32_t value;
  } numbers[] = {{"context_length", m->context_length},
                 {"embedding_length", m->width},
                 {"block_count", m->weight_blocks},
                 {"feed_forward_length", m->ffn_width},
                 {"attention.head_count", m->heads},
                 {"attention.head_count_kv", m->kv_heads},
                 {"attention.key_length", m->head_size},
                 {"attention.value_length", m->head_size},
                 {"rope.dimension_count", m->head_size},
                 {"vocab_size", m->vocabulary},
                 {"block_repeat_count", m->block_repeat > 1 ? m->block_repeat : 0}};
  WISP_TRY(wisp_gguf_writer_set_string(&f->writer, "general.architecture", m->architecture));
  WISP_TRY(wisp_gguf_writer_set_string(&f->writer, "general.name", m->name));
  WISP_TRY(wisp_gguf_writer_set_u32(&f->writer, "general.quantization_version", 2));
  if (m->int8_activations) WISP_TRY(wisp_gguf_writer_set_string(&f->writer, "wisp.activation_type", "int8_per_token"));
  for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
    if (numbers[i].value) WISP_TRY(wisp_gguf_writer_set_u32(&f->writer, key_of(f, numbers[i].suffix), numbers[i].value));
  WISP_TRY(set_f32(f, "attention.layer_norm_rms_epsilon", m->norm_epsilon));
  return set_f32(f, "rope.freq_base", m->rope_theta);
}

/* ---- Vocabulary: control tokens, all bytes, then words of letters ---- */

static uint32_t make_token(uint32_t id, char text[TOKEN]) {
  static const char *const controls[] = {"<unk>", "<s>", "</s>"};
  if (id < 3) {
    snprintf(text, TOKEN, "%s", controls[id]);
    return id ? CONTROL : UNKNOWN;
  }
  if (id < FIRST_WORD) {
    snprintf(text, TOKEN, "<0x%02X>", id - 3);
    return BYTE;
  }
  size_t at = (size_t)snprintf(text, TOKEN, "\xE2\x96\x81"); /* U+2581, a space */
  for (uint32_t left = id - FIRST_WORD + 1; left; left = (left - 1) / 26) text[at++] = (char)('a' + (left - 1) % 26);
  text[at] = '\0';
  return NORMAL;
}

static wisp_status set_array(file *f, const char *key, wisp_gguf_type element, const uint8_t *payload) {
  const wisp_gguf_entry entry = {.key = wisp_text_of(key),
                                 .type = WISP_GGUF_ARRAY,
                                 .element = element,
                                 .count = f->model.vocabulary,
                                 .payload = payload,
                                 .strings = f->tokens};
  return wisp_gguf_writer_set(&f->writer, &entry);
}

static wisp_status set_vocabulary(file *f) {
  const uint32_t count = f->model.vocabulary;
  f->texts = wisp_host_alloc(f->host, count, sizeof *f->texts);
  f->tokens = wisp_host_alloc(f->host, count, sizeof *f->tokens);
  f->scores = wisp_host_alloc(f->host, count, 4);
  f->types = wisp_host_alloc(f->host, count, 4);
  if (!f->texts || !f->tokens || !f->scores || !f->types) return wisp_fail_memory(f->host, "a vocabulary", 32ull * count);
  for (uint32_t i = 0; i < count; i++) {
    wisp_store_u32(f->types + 4 * (size_t)i, make_token(i, f->texts[i]));
    store_f32(f->scores + 4 * (size_t)i, -(float)i);
    f->tokens[i] = wisp_text_of(f->texts[i]);
  }
  WISP_TRY(wisp_gguf_writer_set_string(&f->writer, "tokenizer.ggml.model", "llama"));
  WISP_TRY(set_array(f, "tokenizer.ggml.tokens", WISP_GGUF_STRING, NULL));
  WISP_TRY(set_array(f, "tokenizer.ggml.scores", WISP_GGUF_F32, f->scores));
  WISP_TRY(set_array(f, "tokenizer.ggml.token_type", WISP_GGUF_I32, f->types));
  WISP_TRY(wisp_gguf_writer_set_u32(&f->writer, "tokenizer.ggml.unknown_token_id", 0));
  WISP_TRY(wisp_gguf_writer_set_u32(&f->writer, "tokenizer.ggml.bos_token_id", 1));
  return wisp_gguf_writer_set_u32(&f->writer, "tokenizer.ggml.eos_token_id", 2);
}

/* ---- Tensors: visited twice, for the table and for the data ---- */

typedef wisp_status (*visit_fn)(file *f, const char *name, const wisp_matrix *matrix, const float *vector, uint32_t count);

static wisp_status plan_tensor(file *f, const char *name, const wisp_matrix *matrix, const float *vector, uint32_t count) {
  char *kept = f->names[f->named++];
  const uint64_t shape[] = {matrix ? matrix->cols : count, matrix ? matrix->rows : 1};
  snprintf(kept, NAME, "%s", name);
  return wisp_gguf_writer_add(&f->writer, wisp_text_of(kept), matrix ? matrix->type : wisp_dtype_find(WISP_F32), matrix ? 2 : 1,
                              shape);
}

static wisp_status write_tensor(file *f, const char *name, const wisp_matrix *matrix, const float *vector, uint32_t count) {
  if (matrix) return wisp_gguf_writer_data(&f->writer, matrix->data, (size_t)wisp_matrix_bytes(matrix));
  for (uint32_t i = 0; i < count; i++) {
    uint8_t bytes[4];
    store_f32(bytes, vector[i]);
    WISP_TRY(wisp_gguf_writer_data(&f->writer, bytes, sizeof bytes));
  }
  return WISP_OK;
}

static wisp_status visit_block(file *f, uint32_t index, visit_fn visit) {
  const wisp_model *m = &f->model;
  const wisp_block *b = &m->blocks[index];
  const struct {
    const char *role;
    const wisp_matrix *matrix;
    const float *vector;
  } tensors[] = {{"attn_norm", NULL, b->attn_norm},
                 {"attn_q", &b->q, NULL},
                 {"attn_k", &b->k, NULL},
                 {"attn_v", &b->v, NULL},
                 {"attn_output", &b->attn_out, NULL},
                 {"ffn_norm", NULL, b->ffn_norm},
                 {"ffn_gate", &b->gate, NULL},
                 {"ffn_up", &b->up, NULL},
                 {"ffn_down", &b->down, NULL}};
  char name[NAME];
  for (size_t i = 0; i < sizeof tensors / sizeof *tensors; i++) {
    const wisp_matrix *matrix = tensors[i].matrix;
    const bool transformed = matrix && m->int8_activations && matrix->cols % WISP_HADAMARD_GROUP == 0;
    snprintf(name, sizeof name, "blk.%u.%s%s", index, tensors[i].role, transformed ? WISP_HADAMARD_SUFFIX : WISP_PLAIN_SUFFIX);
    WISP_TRY(visit(f, name, matrix, tensors[i].vector, m->width));
  }
  return WISP_OK;
}

static wisp_status visit_all(file *f, visit_fn visit) {
  const wisp_model *m = &f->model;
  WISP_TRY(visit(f, "token_embd.weight", &m->embedding, NULL, 0));
  for (uint32_t i = 0; i < m->weight_blocks; i++) {
    WISP_TRY(visit_block(f, i, visit));
    if (f->params->progress && !f->params->progress(f->params->progress_user, (float)(i + 1) / (float)m->weight_blocks))
      return WISP_ERROR_CANCELLED;
  }
  return visit(f, "output_norm.weight", NULL, m->final_norm, m->width);
}

/* ---- The whole ---- */

static wisp_status write_file(file *f) {
  const wisp_model_source *source = &f->params->source;
  WISP_TRY(wisp_gguf_writer_open(&f->writer, f->host, f->params->write, f->params->write_user));
  WISP_TRY(wisp_model_synthesize(&f->model, f->host, source->synthetic, f->params->type, source->synthetic_seed));
  f->names = wisp_host_alloc(f->host, 9 * (size_t)f->model.weight_blocks + 2, sizeof *f->names);
  if (!f->names) return wisp_fail_memory(f->host, "names of tensors", 9ull * f->model.weight_blocks * NAME);
  WISP_TRY(set_shape(f));
  WISP_TRY(set_vocabulary(f));
  WISP_TRY(visit_all(f, plan_tensor));
  WISP_TRY(wisp_gguf_writer_begin(&f->writer));
  WISP_TRY(visit_all(f, write_tensor));
  return wisp_gguf_writer_end(&f->writer);
}

wisp_status wisp_synthetic_write(const wisp_convert_params *params, wisp_convert_result *result) {
  file f = {.params = params, .host = &params->host};
  const wisp_status status = write_file(&f);
  if (status == WISP_OK)
    *result = (wisp_convert_result){.parameters = wisp_model_parameters(&f.model),
                                    .source_bytes = f.writer.data_bytes,
                                    .bytes = f.writer.data_bytes,
                                    .tensors = f.named};
  wisp_gguf_writer_close(&f.writer);
  wisp_model_close(&f.model);
  wisp_host_free(f.host, f.names);
  wisp_host_free(f.host, f.texts);
  wisp_host_free(f.host, f.tokens);
  wisp_host_free(f.host, f.scores);
  wisp_host_free(f.host, f.types);
  return status;
}
