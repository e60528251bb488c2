/* SPDX-License-Identifier: Apache-2.0
 * A whole model small enough to build in memory: random weights as a GGUF file of architecture llama. */
#ifndef WISP_TESTS_SMALL_MODEL_H
#define WISP_TESTS_SMALL_MODEL_H

#include "unit/gguf_builder.h"

enum { SMALL_WIDTH = 64, SMALL_FFN = 96, SMALL_HEADS = 4, SMALL_KV_HEADS = 2, SMALL_BLOCKS = 2, SMALL_VOCABULARY = 80 };

typedef struct small_model {
  wisp_dtype type;  /* of the matrices */
  const char *omit; /* the key or tensor of this name is left out; NULL = none */
  uint32_t tokens;  /* of the tokenizer; 0 = the file has none */
  int32_t end;      /* its end token; -1 = none */
  bool own_head;    /* output.weight apart from token_embd.weight */
  bool factors;     /* rope_freqs.weight */
} small_model;

static const small_model small_model_plain = {.type = WISP_Q4_0, .end = -1};

/* Begins builder and fills it; what it holds may be changed, and more be added, before gguf_finish. */
void small_model_build(gguf_builder *builder, const small_model *model);

/* The tensor of that name, to be changed. */
gguf_builder_tensor *small_model_tensor(gguf_builder *builder, const char *name);

/* The whole file; the caller frees it. */
uint8_t *small_model_file(const small_model *model, size_t *size);

#endif
