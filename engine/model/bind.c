/* SPDX-License-Identifier: Apache-2.0 */
#include "model/bind.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

typedef struct binder {
  const wisp_host *host;
  const wisp_gguf *gguf;
  const wisp_architecture *architecture;
  wisp_model *model;
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
  *matrix = (wisp_matrix){.type = tensor->type, .rows = rows, .cols = cols, .data = tensor->data, .tensor = tensor};
  return WISP_OK;
}

static wisp_status bind_vector(const binder *b, const char *name, uint32_t count, const float **vector) {
  const wisp_gguf_tensor *tensor = NULL;
  WISP_TRY(find_tensor(b, name, count, 1, &tensor));
  float *copy = wisp_arena_alloc(&b->model->arena, count, sizeof *copy);
  if (!copy) return wisp_fail_memory(b->host, name, (uint64_t)count * sizeof *copy);
  tensor->type->dequantize(tensor->data, copy, count);
  *vector = copy;
  return WISP_OK;
}

/* Pairs (i, i + size / 2) of each head become (2i, 2i + 1): rows of bytes, copied. */
static wisp_status pair_rows(const binder *b, const void *stored, uint32_t rows, size_t row_bytes, const void **paired) {
  const uint32_t size = b->model->head_size, half = size / 2;
  uint8_t *copy = wisp_arena_alloc(&b->model->arena, rows, row_bytes);
  if (!copy) return wisp_fail_memory(b->host, "rows in RoPE order", rows * (uint64_t)row_bytes);
  for (uint32_t row = 0; row < rows; row++) {
    const uint32_t head = row / size, i = row % size;
    memcpy(copy + row * row_bytes, (const uint8_t *)stored + (head * size + i / 2 + i % 2 * half) * row_bytes, row_bytes);
  }
  *paired = copy;
  return WISP_OK;
}

static wisp_status pair_matrix(const binder *b, wisp_matrix *matrix) {
  const void *paired = NULL;
  WISP_TRY(pair_rows(b, matrix->data, matrix->rows, wisp_matrix_row_bytes(matrix), &paired));
  matrix->data = paired;
  return WISP_OK;
}

static wisp_status pair_vector(const binder *b, const float **vector, uint32_t count) {
  const void *paired = NULL;
  if (!*vector) return WISP_OK;
  WISP_TRY(pair_rows(b, *vector, count, sizeof **vector, &paired));
  *vector = paired;
  return WISP_OK;
}

static wisp_status bind_block(const binder *b, uint32_t index, wisp_block *block) {
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
    uint32_t count;
    unsigned trait; /* 0 = all architectures */
  } vectors[] = {
      {"attn_norm.weight", &block->attn_norm, m->width, 0},
      {"ffn_norm.weight", &block->ffn_norm, m->width, 0},
      {"attn_q.bias", &block->q_bias, q_rows, WISP_TRAIT_QKV_BIAS},
      {"attn_k.bias", &block->k_bias, kv_rows, WISP_TRAIT_QKV_BIAS},
      {"attn_v.bias", &block->v_bias, kv_rows, WISP_TRAIT_QKV_BIAS},
      {"attn_q_norm.weight", &block->q_norm, m->head_size, WISP_TRAIT_QK_NORM},
      {"attn_k_norm.weight", &block->k_norm, m->head_size, WISP_TRAIT_QK_NORM},
      {"post_attention_norm.weight", &block->attn_post_norm, m->width, WISP_TRAIT_POST_NORMS},
      {"post_ffw_norm.weight", &block->ffn_post_norm, m->width, WISP_TRAIT_POST_NORMS},
  };
  char name[64];
  for (size_t i = 0; i < sizeof matrices / sizeof *matrices; i++) {
    const bool transformed = m->int8_activations && matrices[i].cols % WISP_HADAMARD_GROUP == 0;
    snprintf(name, sizeof name, "blk.%u.%s%s", index, matrices[i].role, transformed ? WISP_HADAMARD_SUFFIX : WISP_PLAIN_SUFFIX);
    WISP_TRY(bind_matrix(b, name, matrices[i].rows, matrices[i].cols, matrices[i].matrix));
  }
  for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++) {
    if (vectors[i].trait && !(vectors[i].trait & b->architecture->traits)) continue;
    snprintf(name, sizeof name, "blk.%u.%s", index, vectors[i].role);
    WISP_TRY(bind_vector(b, name, vectors[i].count, vectors[i].vector));
  }
  if (!(b->architecture->traits & WISP_TRAIT_HALF_PAIRS)) return WISP_OK;
  WISP_TRY(pair_matrix(b, &block->q));
  WISP_TRY(pair_matrix(b, &block->k));
  WISP_TRY(pair_vector(b, &block->q_bias, q_rows));
  WISP_TRY(pair_vector(b, &block->k_bias, kv_rows));
  WISP_TRY(pair_vector(b, &block->q_norm, m->head_size));
  return pair_vector(b, &block->k_norm, m->head_size);
}

static wisp_status bind_windows(const binder *b) {
  wisp_model *m = b->model;
  uint32_t window = 0, full_period = b->architecture->full_period;
  char key[96];
  snprintf(key, sizeof key, "%s.attention.sliding_window", m->architecture);
  WISP_TRY(wisp_gguf_u32(b->gguf, key, true, &window));
  snprintf(key, sizeof key, "%s.attention.sliding_window_pattern", m->architecture);
  const wisp_gguf_entry *pattern = wisp_gguf_find(b->gguf, key);
  const bool by_block = pattern && pattern->type == WISP_GGUF_ARRAY && pattern->element == WISP_GGUF_BOOL;
  if (pattern && pattern->type != WISP_GGUF_ARRAY) WISP_TRY(wisp_gguf_u32(b->gguf, key, true, &full_period));
  if ((by_block && pattern->count != m->weight_blocks) || (!by_block && !full_period))
    return wisp_fail(b->host, WISP_ERROR_FORMAT, "%s: %s must be an array of %u booleans", b->gguf->name, key,
                     m->weight_blocks);
  for (uint32_t i = 0; i < m->weight_blocks; i++) {
    const bool windowed = by_block ? pattern->payload[i] != 0 : (i + 1) % full_period != 0;
    m->blocks[i].window = windowed ? window : 0;
  }
  return WISP_OK;
}

static wisp_status bind_rope_factors(const binder *b) {
  wisp_model *m = b->model;
  if (!wisp_gguf_find_tensor(b->gguf, "rope_freqs.weight")) return WISP_OK;
  WISP_TRY(bind_vector(b, "rope_freqs.weight", m->head_size / 2, &m->rope_factors));
  for (uint32_t i = 0; i < m->head_size / 2; i++)
    if (!(m->rope_factors[i] > 0))
      return wisp_fail(b->host, WISP_ERROR_FORMAT, "%s: rope_freqs.weight[%u] is %g, expected above 0", b->gguf->name, i,
                       (double)m->rope_factors[i]);
  return WISP_OK;
}

wisp_status wisp_model_bind(wisp_model *m, const wisp_gguf *gguf, const wisp_architecture *architecture) {
  const binder b = {gguf->host, gguf, architecture, m};
  m->blocks = wisp_arena_alloc(&m->arena, m->weight_blocks, sizeof *m->blocks);
  if (!m->blocks) return wisp_fail_memory(b.host, "model description", (uint64_t)m->weight_blocks * sizeof *m->blocks);

  const wisp_gguf_tensor *embedding = wisp_gguf_find_tensor(gguf, "token_embd.weight");
  if (!embedding) return wisp_fail(b.host, WISP_ERROR_FORMAT, "%s: tensor token_embd.weight is missing", gguf->name);
  if (embedding->shape[1] < 1 || embedding->shape[1] > 1u << 24)
    return wisp_fail(b.host, WISP_ERROR_FORMAT, "%s: tensor token_embd.weight has %" PRIu64 " rows, expected 1 to 16777216",
                     gguf->name, embedding->shape[1]);
  m->vocabulary = (uint32_t)embedding->shape[1];
  WISP_TRY(bind_matrix(&b, "token_embd.weight", m->vocabulary, m->width, &m->embedding));
  m->head_shared = !wisp_gguf_find_tensor(gguf, "output.weight");
  m->head = m->embedding;
  if (!m->head_shared) WISP_TRY(bind_matrix(&b, "output.weight", m->vocabulary, m->width, &m->head));
  for (uint32_t i = 0; i < m->weight_blocks; i++) WISP_TRY(bind_block(&b, i, &m->blocks[i]));
  if (architecture->traits & WISP_TRAIT_WINDOWS) WISP_TRY(bind_windows(&b));
  WISP_TRY(bind_vector(&b, "output_norm.weight", m->width, &m->final_norm));
  return bind_rope_factors(&b);
}
