/* SPDX-License-Identifier: Apache-2.0
 * SentencePiece-style ("llama"): the text, spaces written as U+2581, is merged from characters by the scores of the tokens that
 * come out; what has no token is written as byte tokens. */
#include "tokenizer/vocabulary.h"

#include <utf8proc.h>

static const char space_mark[] = "\xE2\x96\x81"; /* U+2581 */
enum { SPACE_MARK_SIZE = 3 };

static int hex_digit(char c) {
  return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* The byte of "<0xE2>", or -1. */
static int byte_of(wisp_text text) {
  if (text.size != 6 || memcmp(text.bytes, "<0x", 3) != 0 || text.bytes[5] != '>') return -1;
  int high = hex_digit(text.bytes[3]), low = hex_digit(text.bytes[4]);
  return high < 0 || low < 0 ? -1 : high * 16 + low;
}

static wisp_status load_bytes(wisp_tokenizer *tokenizer, bool typed) {
  memset(tokenizer->byte_ids, -1, sizeof tokenizer->byte_ids);
  for (uint32_t id = 0; id < tokenizer->count; id++) {
    if (typed && tokenizer->types[id] != WISP_TOKEN_BYTE) continue;
    int byte = byte_of(tokenizer->texts[id]);
    if (byte < 0 && typed) {
      wisp_text text = tokenizer->texts[id];
      return wisp_fail(tokenizer->host, WISP_ERROR_FORMAT, "%s: byte token %u is \"%.*s\", expected a text as <0x0A>",
                       tokenizer->name, id, (int)(text.size < 64 ? text.size : 64), text.bytes);
    }
    if (byte < 0) continue;
    tokenizer->byte_ids[byte] = (int32_t)id;
    tokenizer->types[id] = WISP_TOKEN_BYTE;
  }
  return WISP_OK;
}

wisp_status wisp_spm_load(wisp_tokenizer *tokenizer, const wisp_gguf *gguf) {
  static const char key[] = "tokenizer.ggml.scores";
  const wisp_gguf_entry *scores;
  WISP_TRY(wisp_vocabulary_array(tokenizer, gguf, key, &scores));
  if (scores->element != WISP_GGUF_F32 && scores->element != WISP_GGUF_F64) {
    return wisp_fail(gguf->host, WISP_ERROR_FORMAT, "%s: %s must be floats", gguf->name, key);
  }
  tokenizer->scores = wisp_host_alloc(tokenizer->host, tokenizer->count, sizeof *tokenizer->scores);
  if (!tokenizer->scores) return wisp_fail_memory(tokenizer->host, "scores", (uint64_t)tokenizer->count * sizeof(float));
  for (uint32_t id = 0; id < tokenizer->count; id++) tokenizer->scores[id] = (float)wisp_gguf_array_float(scores, id);

  tokenizer->space_prefix = tokenizer->kind->space_prefix;
  WISP_TRY(wisp_gguf_bool(gguf, "tokenizer.ggml.add_space_prefix", false, &tokenizer->space_prefix));
  return load_bytes(tokenizer, wisp_gguf_find(gguf, "tokenizer.ggml.token_type") != NULL);
}

/* ---- Text to tokens ---- */

/* High scores first, as unsigned integers that order the other way round. */
static uint32_t priority_of(float score) {
  union {
    float value;
    uint32_t bits;
  } u = {score + 0.0f}; /* -0 becomes 0 */
  return u.bits & 0x80000000u ? u.bits : ~(u.bits | 0x80000000u);
}

static int32_t find(const wisp_encoder *encoder, uint32_t start, uint32_t length) {
  int32_t id = wisp_vocabulary_find(encoder->tokenizer, (wisp_text){encoder->text + start, length}, (wisp_text){0});
  return id >= 0 && wisp_token_is_text(encoder->tokenizer, id) ? id : -1;
}

static bool merge_pair(const void *context, const wisp_symbol *left, const wisp_symbol *right, uint32_t *priority,
                       int32_t *id) {
  const wisp_encoder *encoder = context;
  *id = find(encoder, left->start, left->length + right->length);
  if (*id < 0) return false;
  *priority = priority_of(encoder->tokenizer->scores[*id]);
  return true;
}

/* Size of the character at the start of the text; a byte that is not UTF-8 stands alone and becomes a byte token. */
uint32_t wisp_spm_character_size(const char *text, size_t size) {
  int32_t point;
  utf8proc_ssize_t length = utf8proc_iterate((const uint8_t *)text, (utf8proc_ssize_t)(size < 4 ? size : 4), &point);
  return length > 0 ? (uint32_t)length : 1;
}

void wisp_spm_push_symbol(wisp_encoder *encoder, const wisp_symbol *symbol) {
  if (symbol->id >= 0) {
    wisp_encoder_push(encoder, symbol->id);
    return;
  }
  for (uint32_t i = 0; i < symbol->length; i++) {
    int32_t id = encoder->tokenizer->byte_ids[(uint8_t)encoder->text[symbol->start + i]];
    if (id < 0) id = encoder->tokenizer->unknown;
    if (id >= 0) wisp_encoder_push(encoder, id);
  }
}

wisp_status wisp_spm_mark_spaces(wisp_encoder *encoder, const char *text, size_t size, bool start, size_t *marked) {
  WISP_TRY(wisp_encoder_text(encoder, SPACE_MARK_SIZE * (size + 1)));
  wisp_writer writer = {encoder->text, encoder->text_capacity, 0};
  if (start && encoder->tokenizer->space_prefix) wisp_put(&writer, space_mark, SPACE_MARK_SIZE);
  for (size_t i = 0; i < size; i++)
    wisp_put(&writer, text[i] == ' ' ? space_mark : text + i, text[i] == ' ' ? SPACE_MARK_SIZE : 1);
  *marked = writer.size;
  return WISP_OK;
}

wisp_status wisp_spm_encode(wisp_encoder *encoder, const char *text, size_t size, bool start) {
  size_t marked, count = 0;
  WISP_TRY(wisp_spm_mark_spaces(encoder, text, size, start, &marked));
  WISP_TRY(wisp_merger_reserve(&encoder->merger, encoder->tokenizer->host, marked));
  for (uint32_t at = 0, length; at < marked; at += length, count++) {
    length = wisp_spm_character_size(encoder->text + at, marked - at);
    encoder->merger.symbols[count] = (wisp_symbol){.start = at, .length = length, .id = find(encoder, at, length)};
  }
  wisp_merger_run(&encoder->merger, count, merge_pair, encoder);
  for (uint32_t i = 0; i != WISP_SYMBOL_NONE; i = encoder->merger.symbols[i].next)
    wisp_spm_push_symbol(encoder, &encoder->merger.symbols[i]);
  return WISP_OK;
}

static uint64_t mark_at(wisp_text text, uint64_t i) {
  bool mark = text.size - i >= SPACE_MARK_SIZE && memcmp(text.bytes + i, space_mark, SPACE_MARK_SIZE) == 0;
  return mark ? SPACE_MARK_SIZE : 0;
}

void wisp_spm_write(const wisp_tokenizer *tokenizer, int32_t id, bool trim, wisp_writer *writer) {
  wisp_text text = tokenizer->texts[id];
  if (tokenizer->types[id] == WISP_TOKEN_BYTE) {
    char byte = (char)byte_of(text);
    wisp_put(writer, &byte, 1);
    return;
  }
  for (uint64_t i = trim ? mark_at(text, 0) : 0, mark; i < text.size; i += mark ? mark : 1) {
    mark = mark_at(text, i);
    wisp_put(writer, mark ? " " : text.bytes + i, 1);
  }
}
