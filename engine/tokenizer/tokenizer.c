/* SPDX-License-Identifier: Apache-2.0 */
#include "tokenizer/tokenizer.h"

#include "tokenizer/vocabulary.h"

static const wisp_tokenizer_kind kinds[] = {
    {"gpt2", 11, 11, -1, false, false, wisp_bpe_load, wisp_bpe_encode, wisp_bpe_write},
    {"llama", 1, 2, 0, true, true, wisp_spm_load, wisp_spm_encode, wisp_spm_write},
    {"t5", -1, 1, 2, false, true, wisp_unigram_load, wisp_unigram_encode, wisp_spm_write},
};

/* Symbols are counted in 32 bits, and a byte may take three of them. */
static const size_t text_max = INT32_MAX / 4;

static bool same(wisp_text text, const char *name) {
  return text.size == strlen(name) && memcmp(text.bytes, name, (size_t)text.size) == 0;
}

wisp_status wisp_tokenizer_create(wisp_tokenizer **tokenizer, const wisp_host *host, const wisp_gguf *gguf) {
  *tokenizer = NULL;
  wisp_text model = {"none", 4};
  WISP_TRY(wisp_gguf_string(gguf, "tokenizer.ggml.model", false, &model));
  if (same(model, "none") || same(model, "no_vocab")) return WISP_OK;

  const wisp_tokenizer_kind *kind = NULL;
  for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
    if (same(model, kinds[i].name)) kind = &kinds[i];
  }
  if (!kind) {
    return wisp_fail(host, WISP_ERROR_UNSUPPORTED,
                     "%s: unknown kind of tokenizer \"%.*s\" (tokenizer.ggml.model); known: gpt2, llama, t5", gguf->name,
                     (int)(model.size < 64 ? model.size : 64), model.bytes);
  }
  wisp_tokenizer *made = wisp_host_alloc(host, 1, sizeof *made);
  if (!made) return wisp_fail_memory(host, "the tokenizer", sizeof *made);
  made->host = host;
  made->name = gguf->name;
  made->kind = kind;
  wisp_status status = wisp_vocabulary_load(made, gguf);
  if (status != WISP_OK) wisp_tokenizer_destroy(&made);
  *tokenizer = made;
  return status;
}

void wisp_tokenizer_destroy(wisp_tokenizer **tokenizer) {
  if (!tokenizer || !*tokenizer) return;
  wisp_tokenizer *old = *tokenizer;
  wisp_host_free(old->host, old->types);
  wisp_host_free(old->host, old->index);
  wisp_host_free(old->host, old->specials);
  wisp_host_free(old->host, old->pairs);
  wisp_host_free(old->host, old->scores);
  wisp_host_free(old->host, old);
  *tokenizer = NULL;
}

uint32_t wisp_tokenizer_vocabulary(const wisp_tokenizer *tokenizer) {
  return tokenizer->count;
}

bool wisp_tokenizer_is_end(const wisp_tokenizer *tokenizer, int32_t id) {
  for (uint32_t i = 0; i < tokenizer->end_count; i++) {
    if (tokenizer->ends[i] == id) return true;
  }
  return false;
}

/* ---- Text to tokens ---- */

void wisp_encoder_push(wisp_encoder *encoder, int32_t id) {
  if (encoder->count < encoder->capacity) encoder->ids[encoder->count] = id;
  encoder->count++;
}

wisp_status wisp_encoder_text(wisp_encoder *encoder, size_t size) {
  if (size <= encoder->text_capacity) return WISP_OK;
  char *text = wisp_host_resize(encoder->tokenizer->host, encoder->text, size, 1);
  if (!text) return wisp_fail_memory(encoder->tokenizer->host, "a text to tokenize", size);
  encoder->text = text;
  encoder->text_capacity = size;
  return WISP_OK;
}

/* The longest special token at the start of text, or NULL. User-defined ones count in any text, the others where written is
 * true. */
static const wisp_special *special_at(const wisp_tokenizer *tokenizer, const char *text, size_t size, bool written) {
  uint8_t first = (uint8_t)text[0];
  for (uint32_t i = tokenizer->special_start[first]; i < tokenizer->special_start[first + 1]; i++) {
    const wisp_special *special = &tokenizer->specials[i];
    if (!written && tokenizer->types[special->id] != WISP_TOKEN_USER) continue;
    if (special->text.size <= size && memcmp(special->text.bytes, text, (size_t)special->text.size) == 0) return special;
  }
  return NULL;
}

static wisp_status encode(wisp_encoder *encoder, const char *text, size_t size, unsigned flags) {
  const wisp_tokenizer *tokenizer = encoder->tokenizer;
  bool edges = flags & WISP_TOKENIZE_BOS_EOS, start = true;
  if (edges && tokenizer->add_bos) wisp_encoder_push(encoder, tokenizer->bos);
  size_t from = 0;
  for (size_t at = 0; at <= size;) {
    const wisp_special *special = at < size ? special_at(tokenizer, text + at, size - at, flags & WISP_TOKENIZE_SPECIAL) : NULL;
    if (!special && at < size) {
      at++;
      continue;
    }
    if (at > from) {
      WISP_TRY(tokenizer->kind->encode(encoder, text + from, at - from, start));
      start = false;
    }
    if (!special) break;
    wisp_encoder_push(encoder, special->id);
    start = true;
    at += (size_t)special->text.size;
    from = at;
  }
  if (edges && tokenizer->add_eos) wisp_encoder_push(encoder, tokenizer->eos);
  return WISP_OK;
}

wisp_status wisp_tokenizer_encode(const wisp_tokenizer *tokenizer, const char *text, size_t size, unsigned flags, int32_t *ids,
                                  size_t capacity, size_t *count) {
  *count = 0;
  if (size > text_max) {
    return wisp_fail(tokenizer->host, WISP_ERROR_ARGUMENT, "text of %zu bytes is too long to tokenize at once, at most %zu",
                     size, text_max);
  }
  wisp_encoder encoder = {.tokenizer = tokenizer, .ids = ids, .capacity = capacity};
  wisp_status status = encode(&encoder, text, size, flags);
  wisp_merger_free(&encoder.merger, tokenizer->host);
  wisp_host_free(tokenizer->host, encoder.text);
  if (status == WISP_OK) *count = encoder.count;
  return status;
}

/* ---- Tokens to text ---- */

/* trim: without the space that encoding put before the first word. */
static void write_token(const wisp_tokenizer *tokenizer, int32_t id, bool special, bool trim, wisp_writer *writer) {
  wisp_text text = tokenizer->texts[id];
  switch (tokenizer->types[id]) {
  case WISP_TOKEN_CONTROL:
  case WISP_TOKEN_UNKNOWN:
    if (special) wisp_put(writer, text.bytes, (size_t)text.size);
    break;
  case WISP_TOKEN_USER:
    wisp_put(writer, text.bytes, (size_t)text.size);
    break;
  default:
    tokenizer->kind->write(tokenizer, id, trim, writer);
  }
}

size_t wisp_tokenizer_bytes(const wisp_tokenizer *tokenizer, int32_t id, bool special, char *bytes, size_t capacity) {
  if (id < 0 || (uint32_t)id >= tokenizer->count) return 0;
  wisp_writer writer = {bytes, capacity, 0};
  write_token(tokenizer, id, special, false, &writer);
  return writer.size;
}

wisp_status wisp_tokenizer_decode(const wisp_tokenizer *tokenizer, const int32_t *ids, size_t count, bool special, char *text,
                                  size_t capacity, size_t *size) {
  *size = 0;
  wisp_writer writer = {text, capacity, 0};
  bool start = true; /* as in encode */
  for (size_t i = 0; i < count; i++) {
    int32_t id = ids[i];
    if (id < 0 || (uint32_t)id >= tokenizer->count) {
      return wisp_fail(tokenizer->host, WISP_ERROR_ARGUMENT, "token id %d is outside the vocabulary of %u", id,
                       tokenizer->count);
    }
    write_token(tokenizer, id, special, start && tokenizer->space_prefix, &writer);
    start = wisp_token_is_special(tokenizer, id);
  }
  *size = writer.size;
  return WISP_OK;
}
