/* SPDX-License-Identifier: Apache-2.0
 * SentencePiece's unigram models ("t5"): of all ways to cut the text into tokens the one whose scores, log probabilities, sum
 * highest. Spaces are written as U+2581, and what has no token as byte tokens or as unknown: both as in spm.c. */
#include <float.h>

#include "tokenizer/vocabulary.h"

typedef struct best { /* way to a place in the text */
  float score;
  uint32_t from; /* where its last token begins */
  int32_t id;    /* -1: a character without token; -2: no way yet */
} best;

enum { NO_TOKEN = -1, NO_WAY = -2 };

wisp_status wisp_unigram_load(wisp_tokenizer *tokenizer, const wisp_gguf *gguf) {
  WISP_TRY(wisp_spm_load(tokenizer, gguf));
  tokenizer->lowest_score = FLT_MAX;
  for (uint32_t id = 0; id < tokenizer->count; id++) {
    if (tokenizer->types[id] != WISP_TOKEN_NORMAL) continue;
    if (tokenizer->texts[id].size > tokenizer->longest) tokenizer->longest = (uint32_t)tokenizer->texts[id].size;
    if (tokenizer->scores[id] < tokenizer->lowest_score) tokenizer->lowest_score = tokenizer->scores[id];
  }
  return WISP_OK;
}

static void offer(best *place, float score, uint32_t from, int32_t id) {
  if (place->id == NO_WAY || score > place->score) *place = (best){score, from, id};
}

/* Fills ways[0, size]: of each place that a token can end at, the best way there. */
static void find_ways(const wisp_encoder *encoder, best *ways, uint32_t size) {
  const wisp_tokenizer *tokenizer = encoder->tokenizer;
  const float unknown = tokenizer->lowest_score - 10; /* SentencePiece's penalty */
  for (uint32_t i = 1; i <= size; i++) ways[i].id = NO_WAY;
  for (uint32_t at = 0, character; at < size; at += character) {
    character = wisp_spm_character_size(encoder->text + at, size - at);
    bool alone = false;
    for (uint32_t length = 1; length <= tokenizer->longest && length <= size - at; length++) {
      const int32_t id = wisp_vocabulary_find(tokenizer, (wisp_text){encoder->text + at, length}, (wisp_text){0});
      if (id < 0 || tokenizer->types[id] != WISP_TOKEN_NORMAL) continue;
      offer(&ways[at + length], ways[at].score + tokenizer->scores[id], at, id);
      alone |= length == character;
    }
    if (!alone) offer(&ways[at + character], ways[at].score + unknown, at, NO_TOKEN);
  }
}

wisp_status wisp_unigram_encode(wisp_encoder *encoder, const char *text, size_t size, bool start) {
  size_t marked;
  WISP_TRY(wisp_spm_mark_spaces(encoder, text, size, start, &marked));
  best *ways = wisp_host_alloc(encoder->tokenizer->host, marked + 1, sizeof *ways);
  if (!ways) return wisp_fail_memory(encoder->tokenizer->host, "a text to tokenize", (marked + 1) * sizeof *ways);
  find_ways(encoder, ways, (uint32_t)marked);
  /* Backwards along the best way, turning it round: from becomes where the token ends that begins there. */
  for (uint32_t at = (uint32_t)marked, end = 0; at > 0 || end > 0;) {
    const uint32_t from = ways[at].from;
    ways[at].from = end;
    if (at == 0) break;
    end = at;
    at = from;
  }
  bool unknown_before = false; /* neighbouring unknown characters are one token */
  for (uint32_t at = 0; at < marked; at = ways[at].from) {
    const uint32_t end = ways[at].from;
    const wisp_symbol symbol = {.start = at, .length = end - at, .id = ways[end].id};
    const bool unknown = symbol.id < 0 && encoder->tokenizer->byte_ids[(uint8_t)encoder->text[at]] < 0;
    if (unknown && !unknown_before && encoder->tokenizer->unknown >= 0) wisp_encoder_push(encoder, encoder->tokenizer->unknown);
    if (!unknown) wisp_spm_push_symbol(encoder, &symbol);
    unknown_before = unknown;
  }
  wisp_host_free(encoder->tokenizer->host, ways);
  return WISP_OK;
}
