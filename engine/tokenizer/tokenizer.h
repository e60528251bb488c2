/* SPDX-License-Identifier: Apache-2.0
 * Text to token ids and back, from a model file's vocabulary: byte-level BPE ("gpt2") and SentencePiece-style ("llama").
 * Immutable after creation: thread-safe. */
#ifndef WISP_TOKENIZER_TOKENIZER_H
#define WISP_TOKENIZER_TOKENIZER_H

#include "model/gguf.h"

typedef struct wisp_tokenizer wisp_tokenizer;

typedef enum wisp_token_type { /* GGUF tokenizer.ggml.token_type */
                               WISP_TOKEN_NORMAL = 1,
                               WISP_TOKEN_UNKNOWN = 2,
                               WISP_TOKEN_CONTROL = 3,
                               WISP_TOKEN_USER = 4,
                               WISP_TOKEN_UNUSED = 5,
                               WISP_TOKEN_BYTE = 6
} wisp_token_type;

/* gguf (and its bytes) must outlive the tokenizer. A file without tokenizer.ggml.model: *tokenizer = NULL and OK. */
wisp_status wisp_tokenizer_create(wisp_tokenizer **tokenizer, const wisp_host *host, const wisp_gguf *gguf);
void wisp_tokenizer_destroy(wisp_tokenizer **tokenizer);

uint32_t wisp_tokenizer_vocabulary(const wisp_tokenizer *tokenizer);

/* As wisp_tokenize, wisp_token_bytes, wisp_detokenize, wisp_token_is_end in wisp.h. */
wisp_status wisp_tokenizer_encode(const wisp_tokenizer *tokenizer, const char *text, size_t size, unsigned flags, int32_t *ids,
                                  size_t capacity, size_t *count);
size_t wisp_tokenizer_bytes(const wisp_tokenizer *tokenizer, int32_t id, bool special, char *bytes, size_t capacity);
wisp_status wisp_tokenizer_decode(const wisp_tokenizer *tokenizer, const int32_t *ids, size_t count, bool special, char *text,
                                  size_t capacity, size_t *size);
bool wisp_tokenizer_is_end(const wisp_tokenizer *tokenizer, int32_t id);

#endif
