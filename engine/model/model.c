/* SPDX-License-Identifier: Apache-2.0
 * Binding a GGUF file's tensors to their roles. */
#include "model/model.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { OWNED_NORMS, OWNED_FACTORS, OWNED_BLOCKS, OWNED_SYNTHETIC };

typedef struct binder {
  const wisp_host *host;
  const wisp_gguf *gguf;
  const wisp_model *model;
  float *norms; /* next free float of the block that all norms share */
} binder;

static wisp_status find_tensor(const binder *b, const char *name, uint32_t cols, uint32_t rows,
                               const wisp_gguf_tensor **found) {
  const wisp_gguf_tensor *tensor = wisp_gguf_find_tensor(b->gguf, name);
  if (!tensor)
    return wisp_fail(b->host, WISP_ERROR_FORMAT, "%s: tensor %s is missing (architecture %s needs it)", b->gguf->name, name,
                     b->model->architecture);
  if (tensor->shape[0] != cols || tensor->shape[1] != rows || tensor->shape[2] != 1 || tensor->shape[3] != 1)
    return wisp_fail(b->host, WISP_ERROR_FORMAT, "%s: tensor %s has shape [%" PRIu64 ", %" PRIu64 "], expected [%u, %u]",
                     b->gguf->name, name, tensor->shape[1], tensor->shape[0], rows, cols);
  *found = tensor;
  return WISP_OK;
}

static wisp_status bind_matrix(const binder *b, const char *name, uint32_t rows, uint32_t cols, wisp_matrix *matrix) {
  const wisp_gguf_tensor *tensor = NULL;
  WISP_TRY(find_tensor(b, name, cols, rows, &tensor));
  *matrix = (wisp_matrix){.type = tensor->type, .rows = rows, .cols = cols, .data = tensor->data};
  return WISP_OK;
}

static wisp_status bind_vector(binder *b, const char *name, uint32_t count, const float **vector) {
  const wisp_gguf_tensor *tensor = NULL;
  WISP_TRY(find_tensor(b, name, count, 1, &tensor));
  tensor->type->dequantize(tensor->data, b->norms, count);
  *vector = b->norms;
  b->norms += count;
  return WISP_OK;
}

static wisp_status bind_block(binder *b, uint32_t index, wisp_block *block) {
  const wisp_model *m = b->model;
  const uint32_t q_rows = m->heads * m->head_size, kv_rows = m->kv_heads * m->head_size;
  const struct {
    const char *role;
    wisp_matrix *matrix;
    uint32_t rows, cols;
  } matrices[] = {
      {"attn_q", &block->q, q_rows, m->width},
      {"attn_k", &block->k, kv_rows, m->width},
      {"attn_v", &block->v, kv_rows, m->width},
      {"attn_output", &block->attn_out, m->width, q_rows},
      {"ffn_gate", &block->gate, m->ffn_width, m->width},
      {"ffn_up", &block->up, m->ffn_width, m->width},
      {"ffn_down", &block->down, m->width, m->ffn_width},
  };
  const struct {
    const char *role;
    const float **vector;
  } vectors[] = {{"attn_norm", &block->attn_norm}, {"ffn_norm", &block->ffn_norm}};
  char name[64];
  for (size_t i = 0; i < sizeof matrices / sizeof *matrices; i++) {
    snprintf(name, sizeof name, "blk.%u.%s.weight", index, matrices[i].role);
    WISP_TRY(bind_matrix(b, name, matrices[i].rows, matrices[i].cols, matrices[i].matrix));
  }
  for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++) {
    snprintf(name, sizeof name, "blk.%u.%s.weight", index, vectors[i].role);
    WISP_TRY(bind_vector(b, name, m->width, vectors[i].vector));
  }
  return WISP_OK;
}

static wisp_status out_of_range(const wisp_gguf *gguf, const char *key, uint32_t value, uint32_t low, uint32_t high) {
  return wisp_fail(gguf->host, WISP_ERROR_FORMAT, "%s: %s is %u, expected %u to %u", gguf->name, key, value, low, high);
}

/* Keys and their sane ranges: what lies outside is a damaged file, not a model. */
static wisp_status read_shape(wisp_model *m, const wisp_gguf *gguf) {
  const struct {
    const char *key;
    uint32_t *value;
    uint32_t low, high;
  } numbers[] = {
      {"embedding_length", &m->width, 1, 1u << 16},        {"block_count", &m->weight_blocks, 1, 4096},
      {"feed_forward_length", &m->ffn_width, 1, 1u << 20}, {"attention.head_count", &m->heads, 1, 1024},
      {"context_length", &m->context_length, 1, 1u << 24},
  };
  char key[96];
  for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
    snprintf(key, sizeof key, "%s.%s", m->architecture, numbers[i].key);
    WISP_TRY(wisp_gguf_u32(gguf, key, true, numbers[i].value));
    if (*numbers[i].value < numbers[i].low || *numbers[i].value > numbers[i].high)
      return out_of_range(gguf, key, *numbers[i].value, numbers[i].low, numbers[i].high);
  }

  m->kv_heads = m->heads;
  snprintf(key, sizeof key, "%s.attention.head_count_kv", m->architecture);
  WISP_TRY(wisp_gguf_u32(gguf, key, false, &m->kv_heads));
  if (!m->kv_heads || m->kv_heads > m->heads || m->heads % m->kv_heads)
    return wisp_fail(gguf->host, WISP_ERROR_FORMAT, "%s: %s is %u, expected a divisor of head_count %u", gguf->name, key,
                     m->kv_heads, m->heads);

  m->head_size = m->width / m->heads;
  snprintf(key, sizeof key, "%s.attention.key_length", m->architecture);
  WISP_TRY(wisp_gguf_u32(gguf, key, false, &m->head_size));
  if (m->head_size < 2 || m->head_size > 1024 || m->head_size % 2)
    return wisp_fail(gguf->host, WISP_ERROR_UNSUPPORTED, "%s: head size %u, expected an even number from 2 to 1024", gguf->name,
                     m->head_size);
  uint32_t value_size = m->head_size, rotated = m->head_size;
  snprintf(key, sizeof key, "%s.attention.value_length", m->architecture);
  WISP_TRY(wisp_gguf_u32(gguf, key, false, &value_size));
  snprintf(key, sizeof key, "%s.rope.dimension_count", m->architecture);
  WISP_TRY(wisp_gguf_u32(gguf, key, false, &rotated));
  if (value_size != m->head_size || rotated != m->head_size)
    return wisp_fail(gguf->host, WISP_ERROR_UNSUPPORTED,
                     "%s: key size %u, value size %u, rotated %u: Wisp runs them equal only", gguf->name, m->head_size,
                     value_size, rotated);

  snprintf(key, sizeof key, "%s.attention.layer_norm_rms_epsilon", m->architecture);
  WISP_TRY(wisp_gguf_f32(gguf, key, true, &m->norm_epsilon));
  if (!(m->norm_epsilon >= 0 && m->norm_epsilon < 1))
    return wisp_fail(gguf->host, WISP_ERROR_FORMAT, "%s: %s is %g, expected 0 to 1", gguf->name, key, (double)m->norm_epsilon);
  m->rope_theta = 10000.0f;
  snprintf(key, sizeof key, "%s.rope.freq_base", m->architecture);
  WISP_TRY(wisp_gguf_f32(gguf, key, false, &m->rope_theta));
  if (!(m->rope_theta >= 1 && m->rope_theta < 1e12f))
    return wisp_fail(gguf->host, WISP_ERROR_FORMAT, "%s: %s is %g, expected 1 to 1e12", gguf->name, key, (double)m->rope_theta);

  wisp_text scaling = {"none", 4};
  snprintf(key, sizeof key, "%s.rope.scaling.type", m->architecture);
  WISP_TRY(wisp_gguf_string(gguf, key, false, &scaling));
  if (!(scaling.size == 4 && !memcmp(scaling.bytes, "none", 4)))
    return wisp_fail(gguf->host, WISP_ERROR_UNSUPPORTED, "%s: %s is \"%.*s\": only \"none\" (and rope_freqs.weight) is run",
                     gguf->name, key, (int)(scaling.size > 32 ? 32 : scaling.size), scaling.bytes);
  return WISP_OK;
}

static wisp_status read_identity(wisp_model *m, const wisp_gguf *gguf) {
  wisp_text text;
  WISP_TRY(wisp_gguf_string(gguf, "general.architecture", true, &text));
  if (!(text.size == 5 && !memcmp(text.bytes, "llama", 5)))
    return wisp_fail(gguf->host, WISP_ERROR_UNSUPPORTED, "%s: architecture \"%.*s\" is not supported; supported: llama",
                     gguf->name, (int)(text.size > 32 ? 32 : text.size), text.bytes);
  snprintf(m->architecture, sizeof m->architecture, "%.*s", (int)text.size, text.bytes);
  const char *slash = strrchr(gguf->name, '/');
  text = (wisp_text){slash ? slash + 1 : gguf->name, strlen(slash ? slash + 1 : gguf->name)};
  WISP_TRY(wisp_gguf_string(gguf, "general.name", false, &text));
  snprintf(m->name, sizeof m->name, "%.*s", (int)(text.size > 127 ? 127 : text.size), text.bytes);
  text = (wisp_text){0};
  WISP_TRY(wisp_gguf_string(gguf, "wisp.activation_type", false, &text));
  m->int8_activations = text.size == 14 && !memcmp(text.bytes, "int8_per_token", 14);
  if (text.size && !m->int8_activations)
    return wisp_fail(gguf->host, WISP_ERROR_UNSUPPORTED,
                     "%s: wisp.activation_type is \"%.*s\"; only \"int8_per_token\" is known", gguf->name,
                     WISP_TEXT_ARGS(text));
  uint32_t experts = 0;
  WISP_TRY(wisp_gguf_u32(gguf, "llama.expert_count", false, &experts));
  if (experts)
    return wisp_fail(gguf->host, WISP_ERROR_UNSUPPORTED, "%s: mixture of %u experts is not supported", gguf->name, experts);
  return WISP_OK;
}

static wisp_status bind_all(wisp_model *m, const wisp_gguf *gguf) {
  const wisp_host *host = gguf->host;
  m->block_repeat = 1;
  WISP_TRY(read_identity(m, gguf));
  WISP_TRY(read_shape(m, gguf));

  m->blocks = m->owned[OWNED_BLOCKS] = wisp_host_alloc(host, m->weight_blocks, sizeof *m->blocks);
  float *norms = m->owned[OWNED_NORMS] = wisp_host_alloc(host, (size_t)(2 * m->weight_blocks + 1) * m->width, sizeof(float));
  if (!m->blocks || !norms) return wisp_fail_memory(host, "model description", (uint64_t)m->weight_blocks * sizeof *m->blocks);
  binder b = {host, gguf, m, norms};

  const wisp_gguf_tensor *embedding = wisp_gguf_find_tensor(gguf, "token_embd.weight");
  if (!embedding) return wisp_fail(host, WISP_ERROR_FORMAT, "%s: tensor token_embd.weight is missing", gguf->name);
  if (embedding->shape[1] < 1 || embedding->shape[1] > 1u << 24)
    return wisp_fail(host, WISP_ERROR_FORMAT, "%s: tensor token_embd.weight has %" PRIu64 " rows, expected 1 to 16777216",
                     gguf->name, embedding->shape[1]);
  m->vocabulary = (uint32_t)embedding->shape[1];
  WISP_TRY(bind_matrix(&b, "token_embd.weight", m->vocabulary, m->width, &m->embedding));
  m->head_shared = !wisp_gguf_find_tensor(gguf, "output.weight");
  m->head = m->embedding;
  if (!m->head_shared) WISP_TRY(bind_matrix(&b, "output.weight", m->vocabulary, m->width, &m->head));
  for (uint32_t i = 0; i < m->weight_blocks; i++) WISP_TRY(bind_block(&b, i, &m->blocks[i]));
  WISP_TRY(bind_vector(&b, "output_norm.weight", m->width, &m->final_norm));

  if (wisp_gguf_find_tensor(gguf, "rope_freqs.weight")) {
    b.norms = m->owned[OWNED_FACTORS] = wisp_host_alloc(host, m->head_size / 2, sizeof(float));
    if (!b.norms) return wisp_fail_memory(host, "RoPE factors", m->head_size * 2);
    WISP_TRY(bind_vector(&b, "rope_freqs.weight", m->head_size / 2, &m->rope_factors));
    for (uint32_t i = 0; i < m->head_size / 2; i++)
      if (!(m->rope_factors[i] > 0))
        return wisp_fail(host, WISP_ERROR_FORMAT, "%s: rope_freqs.weight[%u] is %g, expected above 0", gguf->name, i,
                         (double)m->rope_factors[i]);
  }
  return WISP_OK;
}

wisp_status wisp_model_from_gguf(wisp_model *model, const wisp_host *host, const wisp_gguf *gguf) {
  *model = (wisp_model){.host = host};
  wisp_status status = bind_all(model, gguf);
  if (status != WISP_OK) wisp_model_close(model);
  return status;
}

void wisp_model_close(wisp_model *model) {
  for (size_t i = 0; i < sizeof model->owned / sizeof *model->owned; i++) wisp_host_free(model->host, model->owned[i]);
  *model = (wisp_model){0};
}

/* Calls visit for each matrix that is stored (a shared head is not). */
static void each_matrix(const wisp_model *m, void (*visit)(void *user, const wisp_matrix *matrix), void *user) {
  visit(user, &m->embedding);
  if (!m->head_shared) visit(user, &m->head);
  for (uint32_t i = 0; i < m->weight_blocks; i++) {
    const wisp_block *b = &m->blocks[i];
    const wisp_matrix *matrices[] = {&b->q, &b->k, &b->v, &b->attn_out, &b->gate, &b->up, &b->down};
    for (size_t j = 0; j < sizeof matrices / sizeof *matrices; j++) visit(user, matrices[j]);
  }
}

static void add_weights(void *user, const wisp_matrix *matrix) {
  *(uint64_t *)user += (uint64_t)matrix->rows * matrix->cols;
}
static void add_bytes(void *user, const wisp_matrix *matrix) {
  *(uint64_t *)user += wisp_matrix_bytes(matrix);
}

static uint64_t norm_weights(const wisp_model *m) {
  return (uint64_t)(2 * m->weight_blocks + 1) * m->width;
}

uint64_t wisp_model_parameters(const wisp_model *model) {
  uint64_t sum = norm_weights(model);
  each_matrix(model, add_weights, &sum);
  return sum;
}

uint64_t wisp_model_weight_bytes(const wisp_model *model) {
  uint64_t sum = norm_weights(model) * sizeof(float);
  each_matrix(model, add_bytes, &sum);
  return sum;
}

typedef struct census {
  const wisp_dtype_info *type[32];
  uint64_t weights[32];
} census;

static void count_type(void *user, const wisp_matrix *matrix) {
  census *c = user;
  for (size_t i = 0; i < 32; i++)
    if (!c->type[i] || c->type[i] == matrix->type) {
      c->type[i] = matrix->type;
      c->weights[i] += (uint64_t)matrix->rows * matrix->cols;
      return;
    }
}

const char *wisp_model_type_name(const wisp_model *model) {
  if (model->int8_activations) return "w8a8";
  census c = {0};
  each_matrix(model, count_type, &c);
  size_t best = 0;
  for (size_t i = 1; i < 32 && c.type[i]; i++)
    if (c.weights[i] > c.weights[best]) best = i;
  return c.type[best]->name;
}
