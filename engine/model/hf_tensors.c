/* SPDX-License-Identifier: Apache-2.0 */
#include "model/hf_tensors.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/little_endian.h"
#include "model/paretoq.h"

typedef enum rows { PLAIN, Q_ROWS, K_ROWS } rows; /* whose rows change places where pairs are stored in halves */

/* Names behind "model.layers.N." and "blk.N."; traits: all that a family must have, 0 = any. */
static const struct role {
  const char *stored, *name;
  unsigned traits;
  rows rows;
} roles[] = {
    {"self_attn.q_proj.weight", "attn_q.weight", 0, Q_ROWS},
    {"self_attn.k_proj.weight", "attn_k.weight", 0, K_ROWS},
    {"self_attn.v_proj.weight", "attn_v.weight", 0, PLAIN},
    {"self_attn.o_proj.weight", "attn_output.weight", 0, PLAIN},
    {"self_attn.q_proj.bias", "attn_q.bias", WISP_HF_QKV_BIAS, Q_ROWS},
    {"self_attn.k_proj.bias", "attn_k.bias", WISP_HF_QKV_BIAS, K_ROWS},
    {"self_attn.v_proj.bias", "attn_v.bias", WISP_HF_QKV_BIAS, PLAIN},
    {"self_attn.q_norm.weight", "attn_q_norm.weight", WISP_HF_QK_NORM, PLAIN},
    {"self_attn.k_norm.weight", "attn_k_norm.weight", WISP_HF_QK_NORM, PLAIN},
    {"mlp.gate_proj.weight", "ffn_gate.weight", WISP_HF_MLP, PLAIN},
    {"mlp.up_proj.weight", "ffn_up.weight", WISP_HF_MLP, PLAIN},
    {"mlp.down_proj.weight", "ffn_down.weight", WISP_HF_MLP, PLAIN},
    {"feed_forward.gate_proj.weight", "ffn_gate.weight", WISP_HF_FEED_FORWARD, PLAIN},
    {"feed_forward.up_proj.weight", "ffn_up.weight", WISP_HF_FEED_FORWARD, PLAIN},
    {"feed_forward.down_proj.weight", "ffn_down.weight", WISP_HF_FEED_FORWARD, PLAIN},
    {"input_layernorm.weight", "attn_norm.weight", 0, PLAIN},
    {"post_attention_layernorm.weight", "ffn_norm.weight", WISP_HF_TWO_NORMS, PLAIN},
    {"post_attention_layernorm.weight", "post_attention_norm.weight", WISP_HF_FOUR_NORMS, PLAIN},
    {"pre_feedforward_layernorm.weight", "ffn_norm.weight", WISP_HF_FOUR_NORMS, PLAIN},
    {"post_feedforward_layernorm.weight", "post_ffw_norm.weight", WISP_HF_FOUR_NORMS, PLAIN},
};

static const char embedding_name[] = "model.embed_tokens.weight", head_name[] = "lm_head.weight",
                  norm_name[] = "model.norm.weight";
static const char block_prefix[] = "model.layers.", clip_suffix[] = ".weight_clip_val", weight_suffix[] = ".weight";

typedef struct binder {
  const wisp_host *host;
  const wisp_checkpoint *checkpoint;
  const wisp_hf_config *config;
  wisp_arena *arena;
  wisp_gguf_tensor *tensors;
  uint64_t count;
} binder;

static wisp_status no_memory(const binder *b, const wisp_stored *stored, uint64_t bytes) {
  char what[160];
  snprintf(what, sizeof what, "tensor '%.*s'", WISP_TEXT_ARGS(stored->name));
  return wisp_fail_memory(b->host, what, bytes);
}

static bool ends_with(const wisp_stored *stored, const char *end) {
  const size_t size = strlen(end);
  return stored->name.size >= size && !memcmp(stored->name.bytes + stored->name.size - size, end, size);
}

/* ---- Copies ------------------------------------------------------------------------------------------------------------ */

/* Row of the stored tensor that becomes row i: first and second halves of a head are interleaved. */
static uint64_t source_row(uint64_t i, uint32_t head_size, bool halves) {
  if (!halves) return i;
  const uint64_t head = i / head_size * head_size, at = i % head_size;
  return head + at / 2 + at % 2 * (head_size / 2);
}

/* Vectors as f32, with Gemma's one added. */
static wisp_status copy_vector(const binder *b, const wisp_stored *stored, bool halves, wisp_gguf_tensor *tensor) {
  const uint64_t count = stored->shape[0];
  const bool plus_one = b->config->traits & WISP_HF_NORM_PLUS_ONE && ends_with(stored, "norm.weight");
  if (stored->type->dtype == WISP_F32 && !halves && !plus_one) return WISP_OK;
  uint8_t *copy = wisp_arena_alloc(b->arena, (size_t)count, sizeof(float));
  if (!copy) return no_memory(b, stored, count * sizeof(float));
  for (uint64_t i = 0; i < count; i++) {
    float weight;
    const uint64_t row = source_row(i, b->config->head_size, halves);
    stored->type->dequantize(stored->data + row * stored->type->block_bytes, &weight, 1);
    wisp_store_u32(copy + 4 * i, wisp_bits_of_float(plus_one ? weight + 1 : weight));
  }
  tensor->type = wisp_dtype_find(WISP_F32);
  tensor->data = copy;
  tensor->bytes = count * sizeof(float);
  return WISP_OK;
}

static wisp_status copy_matrix(const binder *b, const wisp_stored *stored, bool halves, wisp_gguf_tensor *tensor) {
  if (!halves) return WISP_OK;
  const uint64_t count = stored->shape[0], row_bytes = stored->bytes / count;
  uint8_t *copy = wisp_arena_alloc(b->arena, (size_t)count, (size_t)row_bytes);
  if (!copy) return no_memory(b, stored, stored->bytes);
  for (uint64_t i = 0; i < count; i++) {
    const uint64_t row = source_row(i, b->config->head_size, halves);
    memcpy(copy + i * row_bytes, stored->data + row * row_bytes, (size_t)row_bytes);
  }
  tensor->data = copy;
  return WISP_OK;
}

/* The scales of a ParetoQ matrix, "X.weight_clip_val" beside "X.weight"; NULL if there are none. */
static const wisp_stored *find_clip(const binder *b, const wisp_stored *stored) {
  char name[256];
  if (!ends_with(stored, weight_suffix) || stored->name.size > sizeof name - sizeof clip_suffix) return NULL;
  snprintf(name, sizeof name, "%.*s%s", (int)(stored->name.size - strlen(weight_suffix)), stored->name.bytes, clip_suffix);
  return wisp_checkpoint_find(b->checkpoint, name);
}

static wisp_status quantize_matrix(const binder *b, const wisp_stored *stored, const wisp_stored *clip, bool halves,
                                   wisp_gguf_tensor *tensor) {
  const uint64_t count = stored->shape[0], cols = stored->shape[1];
  const int bits = b->config->quantized_bits;
  if (clip->shape[0] != count || clip->bytes / clip->type->block_bytes != count)
    return wisp_fail(b->host, WISP_ERROR_FORMAT, "%s: tensor '%.*s' must have shape [%" PRIu64 ", 1], one scale a row",
                     clip->file, WISP_TEXT_ARGS(clip->name), count);
  const wisp_dtype_info *type = wisp_dtype_find(wisp_paretoq_dtype(bits));
  if (cols % type->block_weights)
    return wisp_fail(b->host, WISP_ERROR_UNSUPPORTED, "%s: tensor '%.*s' has rows of %" PRIu64 ", expected a multiple of %u",
                     stored->file, WISP_TEXT_ARGS(stored->name), cols, type->block_weights);
  const uint64_t row_bytes = cols / type->block_weights * type->block_bytes;
  uint8_t *blocks = wisp_arena_alloc(b->arena, (size_t)count, (size_t)row_bytes);
  float *row = wisp_host_alloc(b->host, (size_t)cols, sizeof *row);
  if (!blocks || !row) {
    wisp_host_free(b->host, row);
    return no_memory(b, stored, count * row_bytes);
  }
  for (uint64_t i = 0; i < count; i++) {
    const uint64_t from = source_row(i, b->config->head_size, halves);
    float alpha;
    clip->type->dequantize(clip->data + from * clip->type->block_bytes, &alpha, 1);
    stored->type->dequantize(stored->data + from * cols * stored->type->block_bytes, row, (size_t)cols);
    wisp_paretoq_row(bits, alpha, row, blocks + i * row_bytes, (size_t)cols);
  }
  wisp_host_free(b->host, row);
  tensor->type = type;
  tensor->data = blocks;
  tensor->bytes = count * row_bytes;
  return WISP_OK;
}

/* ---- Tensors ----------------------------------------------------------------------------------------------------------- */

/* name: in the arena, or static. */
static wisp_status add(binder *b, const wisp_stored *stored, const char *name, rows kind, bool block) {
  const wisp_hf_config *c = b->config;
  if (!name) return no_memory(b, stored, stored->name.size);
  if (stored->dimensions < 1 || stored->dimensions > 2)
    return wisp_fail(b->host, WISP_ERROR_FORMAT, "%s: tensor '%.*s' has %u dimensions, expected 1 or 2", stored->file,
                     WISP_TEXT_ARGS(stored->name), stored->dimensions);
  const bool halves = c->traits & WISP_HF_HALVES && kind != PLAIN;
  const uint64_t heads = kind == Q_ROWS ? c->heads : c->kv_heads;
  if (halves && stored->shape[0] != heads * c->head_size)
    return wisp_fail(b->host, WISP_ERROR_FORMAT, "%s: tensor '%.*s' has %" PRIu64 " rows, expected %" PRIu64 " heads of %u",
                     stored->file, WISP_TEXT_ARGS(stored->name), stored->shape[0], heads, c->head_size);
  wisp_gguf_tensor *tensor = &b->tensors[b->count++];
  *tensor = (wisp_gguf_tensor){.name = wisp_text_of(name),
                               .dimensions = stored->dimensions,
                               .shape = {stored->shape[stored->dimensions - 1], stored->shape[0], 1, 1},
                               .type = stored->type,
                               .data = stored->data,
                               .bytes = stored->bytes};
  if (stored->dimensions == 1) {
    tensor->shape[1] = 1;
    return copy_vector(b, stored, halves, tensor);
  }
  const wisp_stored *clip = c->quantized_bits >= 0 && block ? find_clip(b, stored) : NULL;
  if (clip) return quantize_matrix(b, stored, clip, halves, tensor);
  if (c->quantized_bits >= 0 && block)
    return wisp_fail(b->host, WISP_ERROR_FORMAT,
                     "%s: tensor '%.*s' has no scales '...%s', which \"w_bits\" of config.json asks for", stored->file,
                     WISP_TEXT_ARGS(stored->name), clip_suffix);
  return copy_matrix(b, stored, halves, tensor);
}

/* "model.layers.N.": N and what follows; false for other names. */
static bool parse_block(wisp_text name, uint64_t *index, wisp_text *rest) {
  const size_t prefix = sizeof block_prefix - 1;
  uint64_t at = prefix;
  if (name.size <= prefix || memcmp(name.bytes, block_prefix, prefix)) return false;
  for (*index = 0; at < name.size && at < prefix + 7 && name.bytes[at] >= '0' && name.bytes[at] <= '9'; at++)
    *index = 10 * *index + (uint64_t)(name.bytes[at] - '0');
  if (at == prefix || at == name.size || name.bytes[at] != '.') return false;
  *rest = (wisp_text){name.bytes + at + 1, name.size - at - 1};
  return true;
}

static bool same(wisp_text text, const char *other) {
  return text.size == strlen(other) && !memcmp(text.bytes, other, (size_t)text.size);
}

static const struct role *find_role(wisp_text stored, unsigned traits) {
  for (size_t i = 0; i < sizeof roles / sizeof *roles; i++) {
    if (same(stored, roles[i].stored) && (roles[i].traits & traits) == roles[i].traits) return &roles[i];
  }
  return NULL;
}

/* What a checkpoint may hold besides weights: scales, read with their matrix, and tables of RoPE, which are computed anew. */
static bool is_beside(const binder *b, const wisp_stored *stored) {
  return ends_with(stored, "rotary_emb.inv_freq") || (b->config->quantized_bits >= 0 && ends_with(stored, clip_suffix));
}

static bool same_bytes(const wisp_stored *a, const wisp_stored *b) {
  return a->type == b->type && a->bytes == b->bytes && !memcmp(a->data, b->data, (size_t)a->bytes);
}

/* A head that is the embedding is not stored twice. */
static wisp_status add_head(binder *b, const wisp_stored *head) {
  const wisp_stored *embedding = wisp_checkpoint_find(b->checkpoint, embedding_name);
  if (embedding && same_bytes(head, embedding)) return WISP_OK;
  if (!b->config->head_shared) return add(b, head, "output.weight", PLAIN, false);
  wisp_log(b->host, WISP_LOG_WARN,
           "%s: %s differs from %s, but config.json says that they are one: it is ignored, as the reference does", head->file,
           head_name, embedding_name);
  return WISP_OK;
}

static wisp_status add_any(binder *b, const wisp_stored *stored) {
  uint64_t index;
  wisp_text rest;
  if (same(stored->name, embedding_name)) return add(b, stored, "token_embd.weight", PLAIN, false);
  if (same(stored->name, norm_name)) return add(b, stored, "output_norm.weight", PLAIN, false);
  if (same(stored->name, head_name)) return add_head(b, stored);
  if (is_beside(b, stored)) return WISP_OK;
  if (parse_block(stored->name, &index, &rest) && index < b->config->blocks) {
    const struct role *role = find_role(rest, b->config->traits);
    if (role) return add(b, stored, wisp_arena_print(b->arena, "blk.%" PRIu64 ".%s", index, role->name), role->rows, true);
  }
  return wisp_fail(b->host, WISP_ERROR_UNSUPPORTED, "%s: tensor '%.*s' is unknown to architecture %s of %u blocks",
                   stored->file, WISP_TEXT_ARGS(stored->name), b->config->architecture, b->config->blocks);
}

static wisp_status bind_all(binder *b) {
  for (size_t i = 0; i < b->checkpoint->count; i++) WISP_TRY(add_any(b, &b->checkpoint->tensors[i]));
  if (!b->config->rope_factors) return WISP_OK;
  const uint32_t pairs = b->config->head_size / 2;
  uint8_t *factors = wisp_arena_alloc(b->arena, pairs, sizeof(float));
  if (!factors) return wisp_fail_memory(b->host, "RoPE factors", pairs * sizeof(float));
  for (uint32_t i = 0; i < pairs; i++) wisp_store_u32(factors + 4 * i, wisp_bits_of_float(b->config->rope_factors[i]));
  b->tensors[b->count++] = (wisp_gguf_tensor){.name = wisp_text_of("rope_freqs.weight"),
                                              .dimensions = 1,
                                              .shape = {pairs, 1, 1, 1},
                                              .type = wisp_dtype_find(WISP_F32),
                                              .data = factors,
                                              .bytes = pairs * sizeof(float)};
  return WISP_OK;
}

wisp_status wisp_hf_tensors(const wisp_checkpoint *checkpoint, const wisp_hf_config *config, wisp_arena *arena,
                            wisp_gguf_tensor **tensors, uint64_t *count) {
  binder b = {.host = checkpoint->host, .checkpoint = checkpoint, .config = config, .arena = arena};
  b.tensors = wisp_host_alloc(b.host, checkpoint->count + 1, sizeof *b.tensors);
  if (!b.tensors) return wisp_fail_memory(b.host, "the table of tensors", checkpoint->count * sizeof *b.tensors);
  wisp_status status = bind_all(&b);
  if (status != WISP_OK) {
    wisp_host_free(b.host, b.tensors);
    return status;
  }
  *tensors = b.tensors;
  *count = b.count;
  return WISP_OK;
}
