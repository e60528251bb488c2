/* SPDX-License-Identifier: Apache-2.0 */
#include "model/hf_tokenizer.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/source.h"
#include "model/hf_vocabulary.h"

enum { MAX_ENDS = 16 };

typedef struct reader {
  const wisp_host *host;
  const char *folder;
  const wisp_json *config;
  wisp_json tokenizer, settings,
      generation;         /* tokenizer.json, tokenizer_config.json, generation_config.json; root may be NULL */
  wisp_bytes model, chat; /* tokenizer.model, chat_template.jinja; data may be NULL */
  wisp_arena arena;
  wisp_hf_vocabulary v;
  int32_t ends[MAX_ENDS];
  uint32_t end_count;
} reader;

static char *path_of(reader *r, const char *file) {
  return wisp_arena_print(&r->arena, "%s/%s", r->folder, file);
}

static wisp_status open_json(reader *r, const char *file, wisp_json *json) {
  const char *path = path_of(r, file);
  return path ? wisp_json_open(json, r->host, path, false) : wisp_fail_memory(r->host, "a path", strlen(r->folder));
}

static wisp_status open_bytes(reader *r, const char *file, wisp_bytes *bytes) {
  const char *path = path_of(r, file);
  if (!path) return wisp_fail_memory(r->host, "a path", strlen(r->folder));
  return wisp_file_exists(path) ? wisp_bytes_open(bytes, r->host, &(wisp_model_source){.path = path}) : WISP_OK;
}

/* ---- Tokens beside the vocabulary --------------------------------------------------------------------------------------- */

/* tokenizer_config.json: "added_tokens_decoder": {"32000": {"content": "<|im_start|>", "special": true}, ...} */
static wisp_status read_decoder(reader *r) {
  const cJSON *token;
  cJSON_ArrayForEach(token, wisp_json_member(r->settings.root, "added_tokens_decoder")) {
    const cJSON *content = wisp_json_member(token, "content");
    char *end;
    const unsigned long id = strtoul(token->string, &end, 10);
    if (*end || end == token->string || !cJSON_IsString(content))
      return wisp_fail(r->host, WISP_ERROR_FORMAT, "%s: \"added_tokens_decoder\" must have a \"content\" for each id",
                       r->settings.name);
    uint8_t type = cJSON_IsTrue(wisp_json_member(token, "special")) ? WISP_TOKEN_CONTROL : WISP_TOKEN_USER;
    if ((int32_t)id == r->v.unknown) type = WISP_TOKEN_UNKNOWN;
    const wisp_hf_token added = {wisp_text_of(content->valuestring), 0, type};
    WISP_TRY(wisp_hf_vocabulary_set(&r->v, &r->arena, id, added));
  }
  return WISP_OK;
}

/* Ids that no token has, up to the rows of the embedding. */
static wisp_status fill(reader *r, uint32_t rows) {
  const uint32_t count = r->v.count > rows ? r->v.count : rows;
  for (uint32_t i = 0; i < count; i++) {
    if (i < r->v.count && r->v.tokens[i].type) continue;
    const char *text = wisp_arena_print(&r->arena, "[PAD%u]", i);
    if (!text) return wisp_fail_memory(r->host, "a vocabulary", count);
    WISP_TRY(wisp_hf_vocabulary_set(&r->v, &r->arena, i, (wisp_hf_token){wisp_text_of(text), 0, WISP_TOKEN_UNUSED}));
  }
  return WISP_OK;
}

/* ---- Special ids ----------------------------------------------------------------------------------------------------------
 */

/* Token that tokenizer_config.json names by its text, a string or an object around one; -1 if none. */
static int32_t named_token(const reader *r, const char *key) {
  const cJSON *item = wisp_json_member(r->settings.root, key);
  if (cJSON_IsObject(item)) item = wisp_json_member(item, "content");
  return cJSON_IsString(item) && *item->valuestring ? wisp_hf_vocabulary_find(&r->v, item->valuestring) : -1;
}

static int32_t id_of(const reader *r, const cJSON *item) {
  uint64_t id;
  return r->v.count && wisp_json_whole(item, r->v.count - 1, &id) ? (int32_t)id : -1;
}

/* By name, else by the number in config.json, else what the vocabulary said. */
static void choose_id(const reader *r, const char *name_key, const char *id_key, int32_t *id) {
  const cJSON *item = wisp_json_member(r->config->root, id_key);
  if (cJSON_IsArray(item)) item = cJSON_GetArrayItem(item, 0);
  const int32_t named = named_token(r, name_key), numbered = id_of(r, item);
  if (numbered >= 0) *id = numbered;
  if (named >= 0) *id = named;
}

static void add_end(reader *r, int32_t id) {
  for (uint32_t i = 0; i < r->end_count; i++) {
    if (r->ends[i] == id) return;
  }
  if (id >= 0 && r->end_count < MAX_ENDS) r->ends[r->end_count++] = id;
}

/* A number or an array of numbers. */
static void add_ends(reader *r, const wisp_json *json) {
  const cJSON *item = wisp_json_member(json->root, "eos_token_id"), *each;
  if (!cJSON_IsArray(item)) add_end(r, id_of(r, item));
  cJSON_ArrayForEach(each, item) add_end(r, id_of(r, each));
}

static wisp_status read_specials(reader *r) {
  wisp_hf_vocabulary *v = &r->v;
  choose_id(r, "bos_token", "bos_token_id", &v->bos);
  choose_id(r, "eos_token", "eos_token_id", &v->eos);
  choose_id(r, "unk_token", "unk_token_id", &v->unknown);
  choose_id(r, "pad_token", "pad_token_id", &v->padding);
  add_end(r, v->eos);
  add_ends(r, r->config);
  add_ends(r, &r->generation);
  WISP_TRY(wisp_json_bool(&r->settings, "add_bos_token", false, &v->add_bos));
  WISP_TRY(wisp_json_bool(&r->settings, "add_eos_token", false, &v->add_eos));
  v->add_bos = v->add_bos && v->bos >= 0;
  v->add_eos = v->add_eos && v->eos >= 0;
  return WISP_OK;
}

/* ---- GGUF's keys ----------------------------------------------------------------------------------------------------------
 */

static void write_merges(reader *r, wisp_gguf_fields *fields) {
  const cJSON *merge;
  wisp_fields_array(fields, "tokenizer.ggml.merges", WISP_GGUF_STRING);
  cJSON_ArrayForEach(merge, r->v.merges) {
    const cJSON *left = cJSON_GetArrayItem(merge, 0), *right = cJSON_GetArrayItem(merge, 1);
    char pair[1024];
    const char *text = cJSON_IsString(merge) ? merge->valuestring : pair;
    if (text == pair)
      snprintf(pair, sizeof pair, "%s %s", cJSON_IsString(left) ? left->valuestring : "",
               cJSON_IsString(right) ? right->valuestring : "");
    wisp_fields_add_text(fields, wisp_text_of(text)); /* what is no pair of tokens, the tokenizer refuses */
  }
}

static void write_id(wisp_gguf_fields *fields, const char *key, int32_t id) {
  if (id >= 0) wisp_fields_u32(fields, key, (uint32_t)id);
}

/* Ends of turns have keys of their own in llama.cpp; all of them together are in one of Wisp's. */
static void write_ends(const reader *r, wisp_gguf_fields *fields) {
  static const struct {
    const char *text, *key;
  } turns[] = {{"<|eot_id|>", "tokenizer.ggml.eot_token_id"},
               {"<|im_end|>", "tokenizer.ggml.eot_token_id"},
               {"<end_of_turn>", "tokenizer.ggml.eot_token_id"},
               {"<|eom_id|>", "tokenizer.ggml.eom_token_id"}};
  for (uint32_t i = 0; i < r->end_count; i++) {
    for (size_t j = 0; j < sizeof turns / sizeof *turns && r->ends[i] != r->v.eos; j++) {
      if (wisp_hf_vocabulary_find(&r->v, turns[j].text) == r->ends[i]) write_id(fields, turns[j].key, r->ends[i]);
    }
  }
  if (r->end_count < 2) return;
  wisp_fields_array(fields, "tokenizer.ggml.eos_token_ids", WISP_GGUF_I32);
  for (uint32_t i = 0; i < r->end_count; i++) wisp_fields_add_i32(fields, r->ends[i]);
}

/* tokenizer_config.json has one template, or several with names, of which "default" counts; or there is a file of its own. */
static void write_chat(const reader *r, wisp_gguf_fields *fields) {
  const cJSON *chat = wisp_json_member(r->settings.root, "chat_template"), *each;
  cJSON_ArrayForEach(each, chat) {
    const cJSON *name = wisp_json_member(each, "name");
    if (cJSON_IsString(name) && !strcmp(name->valuestring, "default")) {
      chat = wisp_json_member(each, "template");
      break;
    }
  }
  wisp_text text = {(const char *)r->chat.data, r->chat.size};
  if (cJSON_IsString(chat)) text = wisp_text_of(chat->valuestring);
  if (text.size) wisp_fields_text(fields, "tokenizer.chat_template", text);
}

static void write_all(reader *r, wisp_gguf_fields *fields) {
  const wisp_hf_vocabulary *v = &r->v;
  const bool bpe = !strcmp(v->kind, "gpt2");
  wisp_fields_text(fields, "tokenizer.ggml.model", wisp_text_of(v->kind));
  wisp_fields_text(fields, "tokenizer.ggml.pre", wisp_text_of(bpe ? v->pre : "default"));
  wisp_fields_array(fields, "tokenizer.ggml.tokens", WISP_GGUF_STRING);
  for (uint32_t i = 0; i < v->count; i++) wisp_fields_add_text(fields, v->tokens[i].text);
  wisp_fields_array(fields, "tokenizer.ggml.token_type", WISP_GGUF_I32);
  for (uint32_t i = 0; i < v->count; i++) wisp_fields_add_i32(fields, v->tokens[i].type);
  if (bpe) {
    write_merges(r, fields);
  } else {
    wisp_fields_array(fields, "tokenizer.ggml.scores", WISP_GGUF_F32);
    for (uint32_t i = 0; i < v->count; i++) wisp_fields_add_f32(fields, v->tokens[i].score);
    wisp_fields_bool(fields, "tokenizer.ggml.add_space_prefix", v->space_prefix);
  }
  write_id(fields, "tokenizer.ggml.bos_token_id", v->bos);
  write_id(fields, "tokenizer.ggml.eos_token_id", v->eos);
  write_id(fields, "tokenizer.ggml.unknown_token_id", v->unknown);
  write_id(fields, "tokenizer.ggml.padding_token_id", v->padding);
  write_ends(r, fields);
  wisp_fields_bool(fields, "tokenizer.ggml.add_bos_token", v->add_bos);
  wisp_fields_bool(fields, "tokenizer.ggml.add_eos_token", v->add_eos);
  write_chat(r, fields);
}

/* ---- The folder -----------------------------------------------------------------------------------------------------------
 */

static wisp_status read_all(reader *r, uint32_t vocabulary, wisp_gguf_fields *fields) {
  WISP_TRY(open_bytes(r, "tokenizer.model", &r->model)); /* first: tokenizer.json beside it is made from it */
  if (!r->model.data) WISP_TRY(open_json(r, "tokenizer.json", &r->tokenizer));
  if (!r->model.data && !r->tokenizer.root) {
    wisp_log(r->host, WISP_LOG_INFO, "%s: neither tokenizer.model nor tokenizer.json: only token ids can be used", r->folder);
    return WISP_OK;
  }
  WISP_TRY(open_json(r, "tokenizer_config.json", &r->settings));
  WISP_TRY(open_json(r, "generation_config.json", &r->generation));
  WISP_TRY(open_bytes(r, "chat_template.jinja", &r->chat));
  WISP_TRY(r->model.data ? wisp_hf_vocabulary_spm(&r->v, &r->arena, &r->model)
                         : wisp_hf_vocabulary_json(&r->v, &r->arena, &r->tokenizer));
  if (!r->v.kind) return WISP_OK;
  WISP_TRY(read_decoder(r));
  WISP_TRY(fill(r, vocabulary));
  WISP_TRY(read_specials(r));
  write_all(r, fields);
  return WISP_OK;
}

wisp_status wisp_hf_tokenizer_read(const char *folder, const wisp_json *config, uint32_t vocabulary, wisp_gguf_fields *fields) {
  reader r = {.host = config->host, .folder = folder, .config = config, .arena = {.host = config->host}};
  wisp_status status = read_all(&r, vocabulary, fields);
  wisp_json_close(&r.tokenizer);
  wisp_json_close(&r.settings);
  wisp_json_close(&r.generation);
  wisp_bytes_close(&r.model, r.host);
  wisp_bytes_close(&r.chat, r.host);
  wisp_arena_free(&r.arena);
  return status;
}
