/* SPDX-License-Identifier: Apache-2.0 */
#include "unit/small_model.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool omitted(const small_model *model, const char *name) {
  return model->omit && !strcmp(model->omit, name);
}

static void number(gguf_builder *b, const small_model *model, const char *key, uint32_t value) {
  if (!omitted(model, key)) gguf_add_u32(b, key, value);
}

/* Weights of deviation 1 / sqrt(cols); rows 0 = a vector near 1. */
static void weights(gguf_builder *b, const small_model *model, const char *name, wisp_dtype type, uint64_t cols,
                    uint64_t rows) {
  if (omitted(model, name)) return;
  const size_t count = cols * (rows ? rows : 1);
  float *values = malloc(count * sizeof *values);
  if (!values) abort();
  uint32_t state = 2166136261u; /* by name, so that a tensor left out changes no other */
  for (const char *c = name; *c; c++) state = (state ^ (uint8_t)*c) * 16777619u;
  for (size_t i = 0; i < count; i++) {
    state = state * 1664525u + 1013904223u;
    const float uniform = (float)(state >> 8) / (float)(1 << 23) - 1;
    values[i] = rows ? uniform * sqrtf(3.0f / (float)cols) : 1 + 0.25f * uniform;
  }
  gguf_add_weights(b, name, type, rows ? 2 : 1, (uint64_t[]){cols, rows}, values);
  free(values);
}

static void block(gguf_builder *b, const small_model *model, int index) {
  enum { KV = SMALL_WIDTH / SMALL_HEADS * SMALL_KV_HEADS };
  static const struct {
    const char *role;
    uint32_t cols, rows; /* rows 0: a norm */
  } tensors[] = {
      {"attn_norm", SMALL_WIDTH, 0},        {"attn_q", SMALL_WIDTH, SMALL_WIDTH},      {"attn_k", SMALL_WIDTH, KV},
      {"attn_v", SMALL_WIDTH, KV},          {"attn_output", SMALL_WIDTH, SMALL_WIDTH}, {"ffn_norm", SMALL_WIDTH, 0},
      {"ffn_gate", SMALL_WIDTH, SMALL_FFN}, {"ffn_up", SMALL_WIDTH, SMALL_FFN},        {"ffn_down", SMALL_FFN, SMALL_WIDTH},
  };
  char name[64];
  for (size_t i = 0; i < sizeof tensors / sizeof *tensors; i++) {
    snprintf(name, sizeof name, "blk.%d.%s.weight", index, tensors[i].role);
    weights(b, model, name, tensors[i].rows ? model->type : WISP_F32, tensors[i].cols, tensors[i].rows);
  }
}

/* A SentencePiece vocabulary of t0, t1, ... */
static void tokenizer(gguf_builder *b, const small_model *model) {
  enum { ROOM = 256 };
  static char texts[ROOM][16];
  const char *tokens[ROOM];
  float scores[ROOM] = {0};
  int32_t types[ROOM];
  if (model->tokens > ROOM) abort();
  for (uint32_t i = 0; i < model->tokens; i++) {
    snprintf(texts[i], sizeof texts[i], "t%u", i);
    tokens[i] = texts[i];
    types[i] = 1;
  }
  gguf_add_string(b, "tokenizer.ggml.model", "llama");
  gguf_add_strings(b, "tokenizer.ggml.tokens", tokens, model->tokens);
  gguf_add_array(b, "tokenizer.ggml.token_type", WISP_GGUF_I32, types, model->tokens);
  gguf_add_array(b, "tokenizer.ggml.scores", WISP_GGUF_F32, scores, model->tokens);
  if (model->end >= 0) gguf_add_u32(b, "tokenizer.ggml.eos_token_id", (uint32_t)model->end);
}

void small_model_build(gguf_builder *b, const small_model *model) {
  gguf_begin(b);
  if (!omitted(model, "general.architecture")) gguf_add_string(b, "general.architecture", "llama");
  number(b, model, "llama.embedding_length", SMALL_WIDTH);
  number(b, model, "llama.block_count", SMALL_BLOCKS);
  number(b, model, "llama.feed_forward_length", SMALL_FFN);
  number(b, model, "llama.attention.head_count", SMALL_HEADS);
  number(b, model, "llama.attention.head_count_kv", SMALL_KV_HEADS);
  number(b, model, "llama.context_length", 256);
  if (!omitted(model, "llama.attention.layer_norm_rms_epsilon"))
    gguf_add_f32(b, "llama.attention.layer_norm_rms_epsilon", 1e-5f);
  if (model->tokens) tokenizer(b, model);
  weights(b, model, "token_embd.weight", model->type, SMALL_WIDTH, SMALL_VOCABULARY);
  for (int i = 0; i < SMALL_BLOCKS; i++) block(b, model, i);
  weights(b, model, "output_norm.weight", WISP_F32, SMALL_WIDTH, 0);
  if (model->own_head) weights(b, model, "output.weight", model->type, SMALL_WIDTH, SMALL_VOCABULARY);
  if (model->factors) weights(b, model, "rope_freqs.weight", WISP_F32, SMALL_WIDTH / SMALL_HEADS / 2, 0);
}

gguf_builder_tensor *small_model_tensor(gguf_builder *b, const char *name) {
  for (uint32_t i = 0; i < b->tensors_added; i++)
    if (!strcmp(b->tensors[i].name, name)) return &b->tensors[i];
  abort();
}

uint8_t *small_model_file(const small_model *model, size_t *size) {
  gguf_builder b;
  small_model_build(&b, model);
  uint8_t *bytes = gguf_finish(&b, size);
  gguf_end(&b);
  return bytes;
}
