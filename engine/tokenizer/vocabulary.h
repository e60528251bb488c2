/* SPDX-License-Identifier: Apache-2.0
 * What a tokenizer is made of: the vocabulary of the model file, indexed, and the functions of its kind. */
#ifndef WISP_TOKENIZER_VOCABULARY_H
#define WISP_TOKENIZER_VOCABULARY_H

#include "tokenizer/merge.h"
#include "tokenizer/pretokenize.h"
#include "tokenizer/tokenizer.h"
#include "tokenizer/writer.h"

/* One call of wisp_tokenizer_encode. */
typedef struct wisp_encoder {
  const wisp_tokenizer *tokenizer;
  int32_t *ids;
  size_t capacity, count; /* count goes on beyond capacity */
  wisp_merger merger;
  char *text; /* scratch */
  size_t text_capacity;
} wisp_encoder;

/* A kind of vocabulary: tokenizer.ggml.model, its defaults, its functions. */
typedef struct wisp_tokenizer_kind {
  const char *name;
  int32_t bos, eos, unknown; /* -1 = none */
  bool add_bos, space_prefix;
  wisp_status (*load)(wisp_tokenizer *tokenizer, const wisp_gguf *gguf);
  /* Text without special tokens; start: at the beginning or behind a special token. */
  wisp_status (*encode)(wisp_encoder *encoder, const char *text, size_t size, bool start);
  /* The bytes that an ordinary token stands for; trim: without the space that encode put before it. */
  void (*write)(const wisp_tokenizer *tokenizer, int32_t id, bool trim, wisp_writer *writer);
} wisp_tokenizer_kind;

typedef struct wisp_special {
  wisp_text text;
  int32_t id;
} wisp_special;

typedef struct wisp_pair {
  uint64_t key;  /* left id << 32 | right id */
  uint32_t rank; /* position in the file */
  int32_t id;    /* merged token; -1 = empty slot */
} wisp_pair;

enum { WISP_END_MAX = 32, WISP_BYTE_POINTS = 0x144 };

struct wisp_tokenizer {
  const wisp_host *host;
  const char *name; /* of the file, for messages */
  const wisp_tokenizer_kind *kind;

  uint32_t count;
  const wisp_text *texts; /* [count] as in the file */
  uint8_t *types;         /* [count] wisp_token_type */
  uint32_t *index;        /* [index_mask + 1] hash table over texts: id + 1, 0 = empty */
  uint32_t index_mask;

  wisp_special *specials;      /* control, user-defined and unknown tokens by first byte, the longest first */
  uint32_t special_start[257]; /* first byte -> its part of specials */
  int32_t bos, eos, unknown;   /* -1 = none */
  bool add_bos, add_eos;
  int32_t ends[WISP_END_MAX];
  uint32_t end_count;
  int32_t byte_ids[256]; /* token of a single byte, or -1 */

  /* gpt2 */
  const wisp_pretokenizer *pretokenizer;
  wisp_pair *pairs; /* [pair_mask + 1] hash table over merges */
  uint32_t pair_mask;
  uint16_t byte_points[256];             /* byte -> the code point that stands for it in texts */
  int16_t point_bytes[WISP_BYTE_POINTS]; /* and back, or -1 */

  /* llama, t5 */
  float *scores; /* [count] */
  bool space_prefix;
  float lowest_score; /* of ordinary tokens */
  uint32_t longest;   /* likewise, bytes */
};

/* Tokens, types, special tokens, flags: all that both kinds have. tokenizer->kind is set. */
wisp_status wisp_vocabulary_load(wisp_tokenizer *tokenizer, const wisp_gguf *gguf);

/* Token whose text is a followed by b, or -1. */
int32_t wisp_vocabulary_find(const wisp_tokenizer *tokenizer, wisp_text a, wisp_text b);

/* An array of count elements of metadata. FORMAT if absent, not an array of the right elements, or of another length. */
wisp_status wisp_vocabulary_array(const wisp_tokenizer *tokenizer, const wisp_gguf *gguf, const char *key,
                                  const wisp_gguf_entry **entry);

/* A token that plain text may become: not one that stands for the beginning of a text, a role, ... */
static inline bool wisp_token_is_text(const wisp_tokenizer *tokenizer, int32_t id) {
  uint8_t type = tokenizer->types[id];
  return type == WISP_TOKEN_NORMAL || type == WISP_TOKEN_USER || type == WISP_TOKEN_UNUSED;
}

/* A token that is looked for in the text before anything else. */
static inline bool wisp_token_is_special(const wisp_tokenizer *tokenizer, int32_t id) {
  uint8_t type = tokenizer->types[id];
  return type == WISP_TOKEN_CONTROL || type == WISP_TOKEN_USER || type == WISP_TOKEN_UNKNOWN;
}

void wisp_encoder_push(wisp_encoder *encoder, int32_t id);
wisp_status wisp_encoder_text(wisp_encoder *encoder, size_t size); /* room for size bytes in encoder->text */

/* Byte-level BPE (bpe.c), SentencePiece-style (spm.c), SentencePiece's unigram models (unigram.c). */
wisp_status wisp_bpe_load(wisp_tokenizer *tokenizer, const wisp_gguf *gguf);
wisp_status wisp_bpe_encode(wisp_encoder *encoder, const char *text, size_t size, bool start);
void wisp_bpe_write(const wisp_tokenizer *tokenizer, int32_t id, bool trim, wisp_writer *writer);
wisp_status wisp_spm_load(wisp_tokenizer *tokenizer, const wisp_gguf *gguf);
wisp_status wisp_spm_encode(wisp_encoder *encoder, const char *text, size_t size, bool start);
void wisp_spm_write(const wisp_tokenizer *tokenizer, int32_t id, bool trim, wisp_writer *writer);
wisp_status wisp_unigram_load(wisp_tokenizer *tokenizer, const wisp_gguf *gguf);
wisp_status wisp_unigram_encode(wisp_encoder *encoder, const char *text, size_t size, bool start);

/* Shared by spm.c and unigram.c. Text with spaces marked goes into encoder->text, *marked bytes; the size of the character at
 * the start of a text; a symbol's token, or the bytes that it stands for. */
wisp_status wisp_spm_mark_spaces(wisp_encoder *encoder, const char *text, size_t size, bool start, size_t *marked);
uint32_t wisp_spm_character_size(const char *text, size_t size);
void wisp_spm_push_symbol(wisp_encoder *encoder, const wisp_symbol *symbol);

#endif
