/* SPDX-License-Identifier: Apache-2.0 */
#include "tokenizer/vocabulary.h"

#include <stdlib.h>

/* Tokens that end a text or a turn, whatever the metadata says about them; so does llama.cpp. */
static const char *const end_names[] = {
    "<|im_end|>",         "<|eot_id|>", "<|end_of_text|>", "<|endoftext|>", "<end_of_turn>", "<|end|>",    "<|eom_id|>",
    "<end_of_utterance>", "</s>",       "<EOT>",           "_<EOT>",        "[EOT]",         "[EOS]",      "<eos>",
    "<|return|>",         "<|call|>",   "<|fim_pad|>",     "<|repo_name|>", "<|fim_repo|>",  "<reponame>", "<|file_sep|>",
};

static bool is_integer(wisp_gguf_type type) {
  return type <= WISP_GGUF_I32 || type == WISP_GGUF_U64 || type == WISP_GGUF_I64;
}

wisp_status wisp_vocabulary_array(const wisp_tokenizer *tokenizer, const wisp_gguf *gguf, const char *key,
                                  const wisp_gguf_entry **entry) {
  const wisp_gguf_entry *found = wisp_gguf_find(gguf, key);
  if (!found) return wisp_fail(gguf->host, WISP_ERROR_FORMAT, "%s: missing key %s", gguf->name, key);
  if (found->type != WISP_GGUF_ARRAY || found->count != tokenizer->count) {
    return wisp_fail(gguf->host, WISP_ERROR_FORMAT, "%s: %s must be an array of %u elements, one a token, found %llu",
                     gguf->name, key, tokenizer->count,
                     found->type == WISP_GGUF_ARRAY ? (unsigned long long)found->count : 0ull);
  }
  *entry = found;
  return WISP_OK;
}

/* ---- Index over token texts: open addressing, FNV-1a ---- */

static uint64_t hash_more(uint64_t hash, wisp_text text) {
  for (uint64_t i = 0; i < text.size; i++) hash = (hash ^ (uint8_t)text.bytes[i]) * 0x100000001b3u;
  return hash;
}

static uint32_t slot_of(const wisp_tokenizer *tokenizer, wisp_text a, wisp_text b) {
  uint64_t hash = hash_more(hash_more(0xcbf29ce484222325u, a), b);
  return (uint32_t)(hash ^ hash >> 32) & tokenizer->index_mask;
}

static bool same_text(wisp_text text, wisp_text a, wisp_text b) {
  return text.size == a.size + b.size && memcmp(text.bytes, a.bytes, (size_t)a.size) == 0 &&
         (b.size == 0 || memcmp(text.bytes + a.size, b.bytes, (size_t)b.size) == 0);
}

int32_t wisp_vocabulary_find(const wisp_tokenizer *tokenizer, wisp_text a, wisp_text b) {
  for (uint32_t slot = slot_of(tokenizer, a, b); tokenizer->index[slot]; slot = (slot + 1) & tokenizer->index_mask) {
    uint32_t id = tokenizer->index[slot] - 1;
    if (same_text(tokenizer->texts[id], a, b)) return (int32_t)id;
  }
  return -1;
}

static wisp_status build_index(wisp_tokenizer *tokenizer) {
  uint32_t slots = 16;
  while (slots < tokenizer->count * 2u) slots *= 2;
  tokenizer->index = wisp_host_alloc(tokenizer->host, slots, sizeof *tokenizer->index);
  if (!tokenizer->index) return wisp_fail_memory(tokenizer->host, "the vocabulary's index", (uint64_t)slots * 4);
  tokenizer->index_mask = slots - 1;
  const wisp_text nothing = {0};
  for (uint32_t id = 0; id < tokenizer->count; id++) {
    wisp_text text = tokenizer->texts[id];
    if (text.size == 0) continue; /* never matches anything */
    int32_t other = wisp_vocabulary_find(tokenizer, text, nothing);
    if (other >= 0) {
      return wisp_fail(tokenizer->host, WISP_ERROR_FORMAT,
                       "%s: tokens %d and %u of tokenizer.ggml.tokens have the same text \"%.*s\"", tokenizer->name, other, id,
                       (int)(text.size < 64 ? text.size : 64), text.bytes);
    }
    uint32_t slot = slot_of(tokenizer, text, nothing);
    while (tokenizer->index[slot]) slot = (slot + 1) & tokenizer->index_mask;
    tokenizer->index[slot] = id + 1;
  }
  return WISP_OK;
}

/* ---- Types ---- */

static wisp_status load_types(wisp_tokenizer *tokenizer, const wisp_gguf *gguf) {
  static const char key[] = "tokenizer.ggml.token_type";
  tokenizer->types = wisp_host_alloc(tokenizer->host, tokenizer->count, 1);
  if (!tokenizer->types) return wisp_fail_memory(tokenizer->host, "the vocabulary's types", tokenizer->count);
  if (!wisp_gguf_find(gguf, key)) {
    memset(tokenizer->types, WISP_TOKEN_NORMAL, tokenizer->count);
    return WISP_OK;
  }
  const wisp_gguf_entry *entry = NULL;
  WISP_TRY(wisp_vocabulary_array(tokenizer, gguf, key, &entry));
  if (!is_integer(entry->element)) return wisp_fail(gguf->host, WISP_ERROR_FORMAT, "%s: %s must be integers", gguf->name, key);
  for (uint32_t id = 0; id < tokenizer->count; id++) {
    int64_t type = wisp_gguf_array_integer(entry, id);
    if (type < WISP_TOKEN_NORMAL || type > WISP_TOKEN_BYTE) {
      return wisp_fail(gguf->host, WISP_ERROR_FORMAT, "%s: token %u has type %lld, expected 1 to 6", gguf->name, id,
                       (long long)type);
    }
    tokenizer->types[id] = (uint8_t)type;
  }
  return WISP_OK;
}

/* ---- Special tokens ---- */

static wisp_status load_id(const wisp_tokenizer *tokenizer, const wisp_gguf *gguf, const char *key, int32_t otherwise,
                           int32_t *id) {
  uint32_t value = UINT32_MAX;
  *id = otherwise >= 0 && (uint32_t)otherwise < tokenizer->count ? otherwise : -1;
  if (!wisp_gguf_find(gguf, key)) return WISP_OK;
  WISP_TRY(wisp_gguf_u32(gguf, key, true, &value));
  if (value >= tokenizer->count) {
    return wisp_fail(gguf->host, WISP_ERROR_FORMAT, "%s: %s is %u, but the vocabulary has %u tokens", gguf->name, key, value,
                     tokenizer->count);
  }
  *id = (int32_t)value;
  return WISP_OK;
}

static void add_end(wisp_tokenizer *tokenizer, int32_t id) {
  if (id < 0 || wisp_tokenizer_is_end(tokenizer, id) || tokenizer->end_count == WISP_END_MAX) return;
  tokenizer->ends[tokenizer->end_count++] = id;
}

/* Wisp's own key, for models with several ends. */
static wisp_status load_end_array(wisp_tokenizer *tokenizer, const wisp_gguf *gguf) {
  static const char key[] = "tokenizer.ggml.eos_token_ids";
  const wisp_gguf_entry *entry = wisp_gguf_find(gguf, key);
  for (uint64_t i = 0; entry && i < entry->count; i++) {
    int64_t id = is_integer(entry->element) ? wisp_gguf_array_integer(entry, i) : -1;
    if (id < 0 || id >= tokenizer->count)
      return wisp_fail(gguf->host, WISP_ERROR_FORMAT, "%s: %s must be token ids below %u", gguf->name, key, tokenizer->count);
    add_end(tokenizer, (int32_t)id);
  }
  return WISP_OK;
}

static wisp_status load_ends(wisp_tokenizer *tokenizer, const wisp_gguf *gguf) {
  int32_t turn, message;
  WISP_TRY(load_id(tokenizer, gguf, "tokenizer.ggml.eot_token_id", -1, &turn));
  WISP_TRY(load_id(tokenizer, gguf, "tokenizer.ggml.eom_token_id", -1, &message));
  add_end(tokenizer, tokenizer->eos);
  add_end(tokenizer, turn);
  add_end(tokenizer, message);
  WISP_TRY(load_end_array(tokenizer, gguf));
  for (size_t i = 0; i < sizeof end_names / sizeof *end_names; i++) {
    int32_t id = wisp_vocabulary_find(tokenizer, (wisp_text){end_names[i], strlen(end_names[i])}, (wisp_text){0});
    if (id < 0) continue;
    add_end(tokenizer, id);
    tokenizer->types[id] = WISP_TOKEN_CONTROL; /* some converters write them as ordinary tokens */
  }
  return WISP_OK;
}

static wisp_status load_bos_eos(wisp_tokenizer *tokenizer, const wisp_gguf *gguf) {
  const wisp_tokenizer_kind *kind = tokenizer->kind;
  WISP_TRY(load_id(tokenizer, gguf, "tokenizer.ggml.bos_token_id", kind->bos, &tokenizer->bos));
  WISP_TRY(load_id(tokenizer, gguf, "tokenizer.ggml.eos_token_id", kind->eos, &tokenizer->eos));
  WISP_TRY(load_id(tokenizer, gguf, "tokenizer.ggml.unknown_token_id", kind->unknown, &tokenizer->unknown));
  tokenizer->add_bos = kind->add_bos || (tokenizer->pretokenizer && tokenizer->pretokenizer->add_bos);
  WISP_TRY(wisp_gguf_bool(gguf, "tokenizer.ggml.add_bos_token", false, &tokenizer->add_bos));
  WISP_TRY(wisp_gguf_bool(gguf, "tokenizer.ggml.add_eos_token", false, &tokenizer->add_eos));
  if ((tokenizer->add_bos && tokenizer->bos < 0) || (tokenizer->add_eos && tokenizer->eos < 0)) {
    const char *which = tokenizer->add_bos && tokenizer->bos < 0 ? "bos" : "eos";
    return wisp_fail(gguf->host, WISP_ERROR_FORMAT, "%s: tokenizer.ggml.add_%s_token is set, but there is no %s_token_id",
                     gguf->name, which, which);
  }
  return WISP_OK;
}

static int compare_specials(const void *left, const void *right) {
  const wisp_special *a = left, *b = right;
  uint8_t first_a = (uint8_t)a->text.bytes[0], first_b = (uint8_t)b->text.bytes[0];
  if (first_a != first_b) return first_a < first_b ? -1 : 1;
  if (a->text.size != b->text.size) return a->text.size > b->text.size ? -1 : 1;
  return a->id < b->id ? -1 : 1;
}

static wisp_status index_specials(wisp_tokenizer *tokenizer) {
  uint32_t count = 0;
  for (uint32_t id = 0; id < tokenizer->count; id++) {
    count += wisp_token_is_special(tokenizer, (int32_t)id) && tokenizer->texts[id].size > 0;
  }
  if (count == 0) return WISP_OK;
  tokenizer->specials = wisp_host_alloc(tokenizer->host, count, sizeof *tokenizer->specials);
  if (!tokenizer->specials)
    return wisp_fail_memory(tokenizer->host, "special tokens", (uint64_t)count * sizeof *tokenizer->specials);
  uint32_t filled = 0;
  for (uint32_t id = 0; id < tokenizer->count; id++) {
    if (!wisp_token_is_special(tokenizer, (int32_t)id) || tokenizer->texts[id].size == 0) continue;
    tokenizer->specials[filled++] = (wisp_special){tokenizer->texts[id], (int32_t)id};
    tokenizer->special_start[(uint8_t)tokenizer->texts[id].bytes[0] + 1]++;
  }
  for (int byte = 0; byte < 256; byte++) tokenizer->special_start[byte + 1] += tokenizer->special_start[byte];
  qsort(tokenizer->specials, count, sizeof *tokenizer->specials, compare_specials);
  return WISP_OK;
}

wisp_status wisp_vocabulary_load(wisp_tokenizer *tokenizer, const wisp_gguf *gguf) {
  const wisp_gguf_entry *tokens = wisp_gguf_find(gguf, "tokenizer.ggml.tokens");
  if (!tokens || tokens->type != WISP_GGUF_ARRAY || tokens->element != WISP_GGUF_STRING || tokens->count == 0 ||
      tokens->count > INT32_MAX / 2) {
    return wisp_fail(gguf->host, WISP_ERROR_FORMAT, "%s: tokenizer.ggml.tokens must be an array of 1 to %d strings", gguf->name,
                     INT32_MAX / 2);
  }
  tokenizer->count = (uint32_t)tokens->count;
  tokenizer->texts = tokens->strings;
  WISP_TRY(load_types(tokenizer, gguf));
  WISP_TRY(build_index(tokenizer));
  WISP_TRY(tokenizer->kind->load(tokenizer, gguf));
  WISP_TRY(load_bos_eos(tokenizer, gguf));
  WISP_TRY(load_ends(tokenizer, gguf));
  return index_specials(tokenizer);
}
