/* SPDX-License-Identifier: Apache-2.0
 * A vocabulary on its way from a Hugging Face folder to GGUF's keys. */
#ifndef WISP_MODEL_HF_VOCABULARY_H
#define WISP_MODEL_HF_VOCABULARY_H

#include "base/arena.h"
#include "base/json.h"
#include "model/gguf_fields.h"
#include "tokenizer/tokenizer.h"

typedef struct wisp_hf_token {
  wisp_text text;
  float score;
  uint8_t type; /* wisp_token_type; 0 = no such token yet */
} wisp_hf_token;

typedef struct wisp_hf_vocabulary {
  const char *file;      /* for messages; in the arena */
  const char *kind;      /* tokenizer.ggml.model; NULL = cannot be used, which was said */
  const char *pre;       /* tokenizer.ggml.pre of kind gpt2 */
  wisp_hf_token *tokens; /* [count], in the arena; the texts may lie in the files they come from */
  uint32_t count, capacity;
  const cJSON *merges; /* of kind gpt2: strings "a b", or pairs */
  bool space_prefix;   /* of the other kinds */
  bool add_bos, add_eos;
  int32_t bos, eos, unknown, padding; /* -1 = none */
} wisp_hf_vocabulary;

/* Sets token id, adding tokens of type 0 up to it. FORMAT if id is out of all reason. */
wisp_status wisp_hf_vocabulary_set(wisp_hf_vocabulary *vocabulary, wisp_arena *arena, uint64_t id, wisp_hf_token token);

int32_t wisp_hf_vocabulary_find(const wisp_hf_vocabulary *vocabulary, const char *text); /* walks; -1 if absent */

/* tokenizer.json of the tokenizers library. json and arena must outlive the vocabulary. Where words are cut in a way that Wisp
 * does not know: WARN, kind NULL and OK. */
wisp_status wisp_hf_vocabulary_json(wisp_hf_vocabulary *vocabulary, wisp_arena *arena, const wisp_json *json);

/* tokenizer.model of SentencePiece. bytes and arena must outlive the vocabulary. */
wisp_status wisp_hf_vocabulary_spm(wisp_hf_vocabulary *vocabulary, wisp_arena *arena, const wisp_bytes *bytes);

#endif
