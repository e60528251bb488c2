/* SPDX-License-Identifier: Apache-2.0
 * tokenizer.json: byte-level BPE, BPE with byte fallback (SentencePiece models that were converted), Unigram. */
#include "model/hf_vocabulary.h"

#include <inttypes.h>
#include <stdlib.h>

#include "model/gguf_private.h"
#include "model/spm_model.h"

enum { MAX_TOKENS = 1 << 22 };

wisp_status wisp_hf_vocabulary_set(wisp_hf_vocabulary *v, wisp_arena *arena, uint64_t id, wisp_hf_token token) {
  if (id >= MAX_TOKENS)
    return wisp_fail(arena->host, WISP_ERROR_FORMAT, "%s: token id %" PRIu64 ", expected at most %d", v->file, id,
                     MAX_TOKENS - 1);
  if (id >= v->capacity) {
    const uint32_t capacity = id < MAX_TOKENS / 2 ? 2 * (uint32_t)id + 1024 : MAX_TOKENS;
    wisp_hf_token *grown = wisp_arena_alloc(arena, capacity, sizeof *grown);
    if (!grown) return wisp_fail_memory(arena->host, "a vocabulary", (uint64_t)capacity * sizeof *grown);
    if (v->count) memcpy(grown, v->tokens, v->count * sizeof *grown);
    v->tokens = grown;
    v->capacity = capacity;
  }
  if (id >= v->count) v->count = (uint32_t)id + 1;
  v->tokens[id] = token;
  return WISP_OK;
}

int32_t wisp_hf_vocabulary_find(const wisp_hf_vocabulary *v, const char *text) {
  const size_t size = strlen(text);
  for (uint32_t i = 0; i < v->count; i++) {
    if (v->tokens[i].type && v->tokens[i].text.size == size && !memcmp(v->tokens[i].text.bytes, text, size)) return (int32_t)i;
  }
  return -1;
}

wisp_status wisp_hf_vocabulary_spm(wisp_hf_vocabulary *v, wisp_arena *arena, const wisp_bytes *bytes) {
  wisp_spm_model model;
  *v = (wisp_hf_vocabulary){.file = bytes->name, .bos = -1, .eos = -1, .unknown = -1, .padding = -1};
  WISP_TRY(wisp_spm_model_read(&model, arena->host, bytes->name, bytes->data, (size_t)bytes->size));
  if (model.normalizes)
    wisp_log(arena->host, WISP_LOG_WARN, "%s: wants text to be normalised before it is cut, which Wisp does not do",
             bytes->name);
  v->kind = model.kind == WISP_SPM_UNIGRAM ? "t5" : "llama";
  v->space_prefix = model.space_prefix;
  v->add_bos = model.kind == WISP_SPM_BPE; /* LlamaTokenizer's default */
  wisp_status status = WISP_OK;
  for (uint32_t i = 0; i < model.count && status == WISP_OK; i++) {
    const wisp_spm_piece *piece = &model.pieces[i];
    status = wisp_hf_vocabulary_set(v, arena, i, (wisp_hf_token){piece->text, piece->score, piece->type});
    if (piece->type == WISP_TOKEN_UNKNOWN && v->unknown < 0) v->unknown = (int32_t)i;
  }
  wisp_spm_model_free(&model, arena->host);
  return status;
}

/* ---- tokenizer.json ---------------------------------------------------------------------------------------------------- */

typedef struct reader {
  wisp_hf_vocabulary *v;
  wisp_arena *arena;
  const wisp_json *json;
  const wisp_host *host;
} reader;

static wisp_status bad(const reader *r, const char *what) {
  return wisp_fail(r->host, WISP_ERROR_FORMAT, "%s: %s", r->json->name, what);
}

static bool is_type(const cJSON *object, const char *type) {
  const cJSON *item = wisp_json_member(object, "type");
  return cJSON_IsString(item) && !strcmp(item->valuestring, type);
}

static bool is_true(const cJSON *object, const char *key, bool otherwise) {
  const cJSON *item = wisp_json_member(object, key);
  return item ? cJSON_IsTrue(item) : otherwise;
}

/* The first step of a type in a step, or in a "Sequence" of them whose list is called parts; NULL if there is none. */
static const cJSON *find_step(const cJSON *step, const char *parts, const char *type) {
  const cJSON *part;
  if (!step || is_type(step, type)) return step;
  if (!is_type(step, "Sequence")) return NULL;
  cJSON_ArrayForEach(part, wisp_json_member(step, parts)) {
    const cJSON *found = find_step(part, parts, type);
    if (found) return found;
  }
  return NULL;
}

/* Expressions by which words are cut, and the names that model files have for them. */
static const struct {
  const char *expression, *name;
} cuts[] = {
    {"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|"
     "\\s+(?!\\S)|\\s+",
     "llama-bpe"},
    {"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|"
     "\\s+(?!\\S)|\\s+",
     "qwen2"},
    {"'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+", "gpt-2"},
};

/* tokenizer.ggml.pre of a byte-level tokenizer, or NULL. */
static const char *name_of_cut(const cJSON *steps) {
  const cJSON *level = find_step(steps, "pretokenizers", "ByteLevel"), *split = find_step(steps, "pretokenizers", "Split");
  const cJSON *digits = find_step(steps, "pretokenizers", "Digits");
  const bool own_expression = is_true(level, "use_regex", true);
  if (is_true(level, "add_prefix_space", true)) return NULL;
  if (digits) return own_expression && !split && is_true(digits, "individual_digits", false) ? "smollm" : NULL;
  if (!split) return own_expression ? "gpt-2" : NULL;
  const cJSON *expression = wisp_json_member(wisp_json_member(split, "pattern"), "Regex");
  for (size_t i = 0; i < sizeof cuts / sizeof *cuts && cJSON_IsString(expression) && !own_expression; i++) {
    if (!strcmp(expression->valuestring, cuts[i].expression)) return cuts[i].name;
  }
  return NULL;
}

static bool is_byte_text(const char *text) {
  return strlen(text) == 6 && !strncmp(text, "<0x", 3) && text[5] == '>';
}

/* {"text": id, ...} */
static wisp_status read_map(reader *r, const cJSON *map, bool bytes) {
  const cJSON *item;
  if (!cJSON_IsObject(map)) return bad(r, "\"model\" has no \"vocab\" object");
  cJSON_ArrayForEach(item, map) {
    uint64_t id;
    if (!wisp_json_whole(item, MAX_TOKENS - 1, &id)) return bad(r, "\"vocab\" must give each token a whole number");
    if (id < r->v->count && r->v->tokens[id].type)
      return wisp_fail(r->host, WISP_ERROR_FORMAT, "%s: token id %" PRIu64 " appears twice in \"vocab\"", r->json->name, id);
    const uint8_t type = bytes && is_byte_text(item->string) ? WISP_TOKEN_BYTE : WISP_TOKEN_NORMAL;
    WISP_TRY(wisp_hf_vocabulary_set(r->v, r->arena, id, (wisp_hf_token){wisp_text_of(item->string), 0, type}));
  }
  return WISP_OK;
}

/* [["text", score], ...] */
static wisp_status read_list(reader *r, const cJSON *list, bool bytes) {
  const cJSON *item;
  uint64_t id = 0;
  if (!cJSON_IsArray(list)) return bad(r, "\"model\" has no \"vocab\" array");
  cJSON_ArrayForEach(item, list) {
    const cJSON *text = cJSON_GetArrayItem(item, 0), *score = cJSON_GetArrayItem(item, 1);
    if (!cJSON_IsString(text) || !cJSON_IsNumber(score)) return bad(r, "\"vocab\" must be an array of tokens and scores");
    const uint8_t type = bytes && is_byte_text(text->valuestring) ? WISP_TOKEN_BYTE : WISP_TOKEN_NORMAL;
    const wisp_hf_token token = {wisp_text_of(text->valuestring), (float)score->valuedouble, type};
    WISP_TRY(wisp_hf_vocabulary_set(r->v, r->arena, id++, token));
  }
  return WISP_OK;
}

/* ---- Scores of a BPE with byte fallback: minus the rank of the first merge that makes the token ---- */

typedef struct named {
  wisp_text text;
  uint32_t id;
} named;

static int compare_named(const void *a, const void *b) {
  return wisp_text_compare(((const named *)a)->text, ((const named *)b)->text);
}

/* Text of the token that a merge makes, in buffer. */
static bool join(const cJSON *merge, char *buffer, size_t capacity, wisp_text *text) {
  const char *left, *right;
  size_t left_size;
  if (cJSON_IsString(merge)) {
    const char *space = *merge->valuestring ? strchr(merge->valuestring + 1, ' ') : NULL;
    if (!space) return false;
    left = merge->valuestring;
    left_size = (size_t)(space - left);
    right = space + 1;
  } else {
    const cJSON *a = cJSON_GetArrayItem(merge, 0), *b = cJSON_GetArrayItem(merge, 1);
    if (!cJSON_IsString(a) || !cJSON_IsString(b)) return false;
    left = a->valuestring;
    left_size = strlen(left);
    right = b->valuestring;
  }
  const size_t right_size = strlen(right);
  if (left_size + right_size > capacity) return false;
  memcpy(buffer, left, left_size);
  memcpy(buffer + left_size, right, right_size);
  *text = (wisp_text){buffer, left_size + right_size};
  return true;
}

static wisp_status score_by_merges(reader *r, const cJSON *merges) {
  wisp_hf_vocabulary *v = r->v;
  named *names = wisp_arena_alloc(r->arena, v->count, sizeof *names);
  if (!names) return wisp_fail_memory(r->host, "a vocabulary", (uint64_t)v->count * sizeof *names);
  for (uint32_t i = 0; i < v->count; i++) {
    names[i] = (named){v->tokens[i].text, i};
    v->tokens[i].score = -1e9f; /* none makes it */
  }
  qsort(names, v->count, sizeof *names, compare_named);
  const cJSON *merge;
  float score = 0;
  cJSON_ArrayForEach(merge, merges) {
    char buffer[1024];
    named wanted = {0};
    if (!join(merge, buffer, sizeof buffer, &wanted.text))
      return bad(r, "\"merges\" must be strings \"a b\" or pairs of strings");
    const named *found = bsearch(&wanted, names, v->count, sizeof wanted, compare_named);
    if (!found) return bad(r, "one of \"merges\" makes no token of \"vocab\"");
    if (v->tokens[found->id].score < score) v->tokens[found->id].score = score;
    score -= 1;
  }
  return WISP_OK;
}

/* ---- The parts of the file ---- */

static wisp_status read_model(reader *r) {
  const cJSON *model = wisp_json_member(r->json->root, "model"), *steps = wisp_json_member(r->json->root, "pre_tokenizer");
  const cJSON *vocab = wisp_json_member(model, "vocab"), *merges = wisp_json_member(model, "merges");
  const bool unigram = is_type(model, "Unigram"), bytes = is_true(model, "byte_fallback", false);
  wisp_hf_vocabulary *v = r->v;
  if (unigram) {
    v->kind = "t5";
    WISP_TRY(read_list(r, vocab, bytes));
    uint64_t unknown;
    if (wisp_json_whole(wisp_json_member(model, "unk_id"), v->count ? v->count - 1 : 0, &unknown))
      v->unknown = (int32_t)unknown;
    return WISP_OK;
  }
  if (!is_type(model, "BPE") && !(merges && !wisp_json_member(model, "type")))
    return wisp_fail(r->host, WISP_ERROR_UNSUPPORTED, "%s: \"model\" is neither BPE nor Unigram", r->json->name);
  if (!cJSON_IsArray(merges)) return bad(r, "\"model\" has no \"merges\" array");
  WISP_TRY(read_map(r, vocab, bytes));
  const cJSON *unknown = wisp_json_member(model, "unk_token");
  if (cJSON_IsString(unknown)) v->unknown = wisp_hf_vocabulary_find(v, unknown->valuestring);
  if (!find_step(steps, "pretokenizers", "ByteLevel")) {
    v->kind = "llama";
    return score_by_merges(r, merges);
  }
  v->merges = merges;
  v->pre = name_of_cut(steps);
  if (v->pre) {
    v->kind = "gpt2";
  } else {
    wisp_log(r->host, WISP_LOG_WARN,
             "%s: cuts words in a way that Wisp does not know (\"pre_tokenizer\"): only token ids can be used", r->json->name);
  }
  return WISP_OK;
}

static wisp_status read_added(reader *r) {
  const cJSON *token;
  cJSON_ArrayForEach(token, wisp_json_member(r->json->root, "added_tokens")) {
    const cJSON *content = wisp_json_member(token, "content");
    uint64_t id;
    if (!wisp_json_whole(wisp_json_member(token, "id"), MAX_TOKENS - 1, &id) || !cJSON_IsString(content))
      return bad(r, "\"added_tokens\" must have an \"id\" and a \"content\" each");
    const uint8_t type = (int32_t)id == r->v->unknown       ? WISP_TOKEN_UNKNOWN
                         : is_true(token, "special", false) ? WISP_TOKEN_CONTROL
                                                            : WISP_TOKEN_USER;
    WISP_TRY(wisp_hf_vocabulary_set(r->v, r->arena, id, (wisp_hf_token){wisp_text_of(content->valuestring), 0, type}));
  }
  return WISP_OK;
}

/* Token of a template's item, or -1. */
static int32_t special_of(const reader *r, const cJSON *item) {
  const cJSON *id = wisp_json_member(wisp_json_member(item, "SpecialToken"), "id");
  return cJSON_IsString(id) ? wisp_hf_vocabulary_find(r->v, id->valuestring) : -1;
}

/* What is put around a text. */
static void read_edges(reader *r) {
  const cJSON *steps = wisp_json_member(r->json->root, "post_processor");
  const cJSON *single = wisp_json_member(find_step(steps, "processors", "TemplateProcessing"), "single");
  const int count = cJSON_GetArraySize(single);
  if (count < 2) return;
  const int32_t first = special_of(r, cJSON_GetArrayItem(single, 0)),
                last = special_of(r, cJSON_GetArrayItem(single, count - 1));
  r->v->add_bos = first >= 0;
  r->v->add_eos = last >= 0;
  if (first >= 0) r->v->bos = first;
  if (last >= 0) r->v->eos = last;
}

wisp_status wisp_hf_vocabulary_json(wisp_hf_vocabulary *vocabulary, wisp_arena *arena, const wisp_json *json) {
  reader r = {vocabulary, arena, json, json->host};
  *vocabulary = (wisp_hf_vocabulary){.file = json->name, .bos = -1, .eos = -1, .unknown = -1, .padding = -1};
  WISP_TRY(read_model(&r));
  WISP_TRY(read_added(&r));
  read_edges(&r);
  const cJSON *space = find_step(wisp_json_member(json->root, "pre_tokenizer"), "pretokenizers", "Metaspace");
  const cJSON *scheme = wisp_json_member(space, "prepend_scheme");
  const bool never = cJSON_IsString(scheme) && !strcmp(scheme->valuestring, "never");
  vocabulary->space_prefix = find_step(wisp_json_member(json->root, "normalizer"), "normalizers", "Prepend") ||
                             (space && !never && is_true(space, "add_prefix_space", true));
  return WISP_OK;
}
