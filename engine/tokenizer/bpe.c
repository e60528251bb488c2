/* SPDX-License-Identifier: Apache-2.0
 * Byte-level BPE ("gpt2"): words are merged from bytes in the order of the merges list. In token texts every byte stands as a
 * printable code point, in GPT-2's way. */
#include "tokenizer/vocabulary.h"

#include <utf8proc.h>

static const uint8_t replacement[] = {0xEF, 0xBF, 0xBD}; /* U+FFFD */

static void map_bytes(wisp_tokenizer *tokenizer) {
  uint16_t beyond = 256;
  memset(tokenizer->point_bytes, -1, sizeof tokenizer->point_bytes);
  for (int byte = 0; byte < 256; byte++) {
    bool printable = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte != 0xAD);
    uint16_t point = printable ? (uint16_t)byte : beyond++;
    tokenizer->byte_points[byte] = point;
    tokenizer->point_bytes[point] = (int16_t)byte;
  }
}

/* A byte as it stands in token texts; returns its size, 1 or 2. */
static size_t byte_text(const wisp_tokenizer *tokenizer, uint8_t byte, char *text) {
  return (size_t)utf8proc_encode_char(tokenizer->byte_points[byte], (uint8_t *)text);
}

static int32_t find_text(const wisp_tokenizer *tokenizer, const char *text, size_t size) {
  int32_t id = wisp_vocabulary_find(tokenizer, (wisp_text){text, size}, (wisp_text){0});
  return id >= 0 && wisp_token_is_text(tokenizer, id) ? id : -1;
}

/* ---- Merges ---- */

static wisp_pair *pair_slot(const wisp_tokenizer *tokenizer, uint64_t key) {
  uint64_t hash = (key ^ key >> 29) * 0xBF58476D1CE4E5B9u;
  uint32_t slot = (uint32_t)(hash >> 32) & tokenizer->pair_mask;
  while (tokenizer->pairs[slot].id >= 0 && tokenizer->pairs[slot].key != key) slot = (slot + 1) & tokenizer->pair_mask;
  return &tokenizer->pairs[slot];
}

static wisp_status load_merge(wisp_tokenizer *tokenizer, uint32_t rank, wisp_text merge) {
  const char *space = merge.size > 1 ? memchr(merge.bytes + 1, ' ', (size_t)merge.size - 1) : NULL;
  if (space) {
    wisp_text a = {merge.bytes, (uint64_t)(space - merge.bytes)}, b = {space + 1, merge.size - a.size - 1}, none = {0};
    int32_t left = wisp_vocabulary_find(tokenizer, a, none), right = wisp_vocabulary_find(tokenizer, b, none);
    int32_t id = wisp_vocabulary_find(tokenizer, a, b);
    if (left >= 0 && right >= 0 && id >= 0) {
      uint64_t key = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
      wisp_pair *slot = pair_slot(tokenizer, key);
      if (slot->id < 0) *slot = (wisp_pair){key, rank, id};
      return WISP_OK;
    }
  }
  return wisp_fail(tokenizer->host, WISP_ERROR_FORMAT,
                   "%s: tokenizer.ggml.merges[%u] \"%.*s\" is not two tokens that make a third one of the vocabulary",
                   tokenizer->name, rank, (int)(merge.size < 64 ? merge.size : 64), merge.bytes);
}

static wisp_status load_merges(wisp_tokenizer *tokenizer, const wisp_gguf *gguf) {
  static const char key[] = "tokenizer.ggml.merges";
  const wisp_gguf_entry *merges = wisp_gguf_find(gguf, key);
  if (!merges || merges->type != WISP_GGUF_ARRAY || merges->element != WISP_GGUF_STRING || merges->count > INT32_MAX / 2) {
    return wisp_fail(gguf->host, WISP_ERROR_FORMAT, "%s: %s must be an array of strings", gguf->name, key);
  }
  uint32_t slots = 16;
  while (slots < merges->count + merges->count / 3 + 1) slots *= 2;
  tokenizer->pairs = wisp_host_alloc(tokenizer->host, slots, sizeof *tokenizer->pairs);
  if (!tokenizer->pairs) return wisp_fail_memory(tokenizer->host, "merges", (uint64_t)slots * sizeof *tokenizer->pairs);
  tokenizer->pair_mask = slots - 1;
  for (uint32_t slot = 0; slot < slots; slot++) tokenizer->pairs[slot].id = -1;
  for (uint32_t rank = 0; rank < merges->count; rank++) WISP_TRY(load_merge(tokenizer, rank, merges->strings[rank]));
  return WISP_OK;
}

static wisp_status load_pretokenizer(wisp_tokenizer *tokenizer, const wisp_gguf *gguf) {
  wisp_text pre = {"default", 7};
  WISP_TRY(wisp_gguf_string(gguf, "tokenizer.ggml.pre", false, &pre));
  if (pre.size == 7 && memcmp(pre.bytes, "default", 7) == 0) {
    wisp_log(gguf->host, WISP_LOG_WARN, "%s: does not say how words are cut (tokenizer.ggml.pre), using gpt-2's way",
             gguf->name);
    pre = (wisp_text){"gpt-2", 5};
  }
  tokenizer->pretokenizer = wisp_pretokenizer_find(pre.bytes, (size_t)pre.size);
  if (tokenizer->pretokenizer) return WISP_OK;
  return wisp_fail(gguf->host, WISP_ERROR_UNSUPPORTED, "%s: unknown pre-tokenizer \"%.*s\" (tokenizer.ggml.pre); known: %s",
                   gguf->name, (int)(pre.size < 64 ? pre.size : 64), pre.bytes, wisp_pretokenizer_names());
}

wisp_status wisp_bpe_load(wisp_tokenizer *tokenizer, const wisp_gguf *gguf) {
  WISP_TRY(load_pretokenizer(tokenizer, gguf));
  map_bytes(tokenizer);
  for (int byte = 0; byte < 256; byte++) {
    char text[4];
    tokenizer->byte_ids[byte] = find_text(tokenizer, text, byte_text(tokenizer, (uint8_t)byte, text));
  }
  return load_merges(tokenizer, gguf);
}

/* ---- Text to tokens ---- */

static bool merge_pair(const void *context, const wisp_symbol *left, const wisp_symbol *right, uint32_t *priority,
                       int32_t *id) {
  const wisp_tokenizer *tokenizer = context;
  if (left->id < 0 || right->id < 0) return false;
  const wisp_pair *pair = pair_slot(tokenizer, (uint64_t)(uint32_t)left->id << 32 | (uint32_t)right->id);
  if (pair->id < 0) return false;
  *priority = pair->rank;
  *id = pair->id;
  return true;
}

/* The whole word as one token, or -1. No token stands for a word that is not UTF-8: those are mended by symbols_of_word. */
static wisp_status find_word(wisp_encoder *encoder, const char *word, size_t size, int32_t *id) {
  WISP_TRY(wisp_encoder_text(encoder, 2 * size));
  size_t length = 0;
  for (size_t i = 0; i < size; i++) length += byte_text(encoder->tokenizer, (uint8_t)word[i], encoder->text + length);
  *id = find_text(encoder->tokenizer, encoder->text, length);
  return WISP_OK;
}

static bool is_utf8(const uint8_t *text, size_t size) {
  int32_t point;
  for (size_t i = 0; i < size;) {
    const utf8proc_ssize_t length = utf8proc_iterate(text + i, (utf8proc_ssize_t)(size - i < 4 ? size - i : 4), &point);
    if (length <= 0) return false;
    i += (size_t)length;
  }
  return true;
}

static void add_symbols(wisp_encoder *encoder, size_t *count, const uint8_t *bytes, size_t size) {
  for (size_t i = 0; i < size; i++, ++*count) {
    encoder->merger.symbols[*count] = (wisp_symbol){
        .start = (uint32_t)*count, .length = 1, .id = encoder->tokenizer->byte_ids[bytes[i]]};
  }
}

/* Each byte that is not UTF-8 becomes U+FFFD, as in other engines. */
static size_t symbols_of_word(wisp_encoder *encoder, const uint8_t *word, size_t size) {
  size_t count = 0;
  for (size_t i = 0; i < size;) {
    int32_t point;
    size_t left = size - i;
    utf8proc_ssize_t length = utf8proc_iterate(word + i, (utf8proc_ssize_t)(left < 4 ? left : 4), &point);
    bool lost = length <= 0;
    size_t step = length > 0 ? (size_t)length : 1;
    add_symbols(encoder, &count, lost ? replacement : word + i, lost ? sizeof replacement : step);
    i += step;
  }
  return count;
}

static wisp_status encode_word(wisp_encoder *encoder, const char *word, size_t size) {
  if (encoder->tokenizer->pretokenizer->ignore_merges && is_utf8((const uint8_t *)word, size)) {
    int32_t id;
    WISP_TRY(find_word(encoder, word, size, &id));
    if (id >= 0) {
      wisp_encoder_push(encoder, id);
      return WISP_OK;
    }
  }
  WISP_TRY(wisp_merger_reserve(&encoder->merger, encoder->tokenizer->host, size * sizeof replacement));
  size_t count = symbols_of_word(encoder, (const uint8_t *)word, size);
  wisp_merger_run(&encoder->merger, count, merge_pair, encoder->tokenizer);
  for (uint32_t i = 0; i != WISP_SYMBOL_NONE; i = encoder->merger.symbols[i].next) {
    int32_t id = encoder->merger.symbols[i].id;
    if (id >= 0) wisp_encoder_push(encoder, id); /* the vocabulary may lack bytes: those are left out */
  }
  return WISP_OK;
}

wisp_status wisp_bpe_encode(wisp_encoder *encoder, const char *text, size_t size, bool start) {
  for (size_t length; size > 0; text += length, size -= length) {
    length = wisp_pretokenize(encoder->tokenizer->pretokenizer, text, size);
    WISP_TRY(encode_word(encoder, text, length));
  }
  return WISP_OK;
}

void wisp_bpe_write(const wisp_tokenizer *tokenizer, int32_t id, bool trim, wisp_writer *writer) {
  wisp_text text = tokenizer->texts[id];
  for (uint64_t i = 0; i < text.size;) {
    int32_t point;
    uint64_t left = text.size - i;
    utf8proc_ssize_t length = utf8proc_iterate((const uint8_t *)text.bytes + i, (utf8proc_ssize_t)(left < 4 ? left : 4),
                                               &point);
    size_t step = length > 0 ? (size_t)length : 1;
    int16_t byte = length > 0 && point < WISP_BYTE_POINTS ? tokenizer->point_bytes[point] : (int16_t)-1;
    char mapped = (char)byte;
    wisp_put(writer, byte >= 0 ? &mapped : text.bytes + i, byte >= 0 ? 1 : step);
    i += step;
  }
}
