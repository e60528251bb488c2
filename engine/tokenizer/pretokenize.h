/* SPDX-License-Identifier: Apache-2.0
 * Cuts text into the words that byte-level BPE merges within: what model files call the pre-tokenizer. */
#ifndef WISP_TOKENIZER_PRETOKENIZE_H
#define WISP_TOKENIZER_PRETOKENIZE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Two families of regular expressions, told apart by a few properties; docs/tokenizers.md spells them out. */
typedef struct wisp_pretokenizer {
  const char *name;       /* tokenizer.ggml.pre */
  const char *aliases[8]; /* other names for the same words; NULL-terminated */
  bool cl100k;        /* contractions in any case; letters take any one character before them but a newline; punctuation takes
                         the newlines after it; white space is cut after its last newline. Otherwise as GPT-2. */
  uint8_t digits;     /* longest number; 0 = no limit, and a number takes the space before it */
  bool digits_apart;  /* numbers are cut out first: white space before one is cut as at the end of the text */
  bool ignore_merges; /* a whole word in the vocabulary wins over its merges */
  bool add_bos;       /* unless the metadata says otherwise */
} wisp_pretokenizer;

/* By name or alias, size bytes; NULL if unknown. Static storage. */
const wisp_pretokenizer *wisp_pretokenizer_find(const char *name, size_t size);

/* Names (without aliases) with commas between. */
const char *wisp_pretokenizer_names(void);

/* Bytes of the first word of text, 1 to size; size > 0. Bytes that are not UTF-8 count as punctuation. */
size_t wisp_pretokenize(const wisp_pretokenizer *rules, const char *text, size_t size);

#endif
