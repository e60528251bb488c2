/* SPDX-License-Identifier: Apache-2.0 */
#include "truth/vectors.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/file.h"

static void *room(size_t count, size_t size) {
  void *memory = calloc(count + 1, size);
  if (!memory) abort();
  return memory;
}

static const cJSON *member(const cJSON *object, const char *key) {
  const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
  if (!item) {
    fprintf(stderr, "wisp-truth: a vector file lacks \"%s\" under \"%s\"\n", key,
            object && object->string ? object->string : "");
    exit(1);
  }
  return item;
}

static double number(const cJSON *object, const char *key) {
  return cJSON_GetNumberValue(member(object, key));
}
static const char *text(const cJSON *object, const char *key) {
  const char *value = cJSON_GetStringValue(member(object, key));
  return value ? value : "";
}

static cJSON *read_document(const char *folder, const char *name) {
  char path[1024];
  snprintf(path, sizeof path, "%s/%s", folder, name);
  char *data;
  size_t size;
  if (!file_read(path, &data, &size)) exit(1);
  cJSON *document = cJSON_ParseWithLength(data, size);
  free(data);
  if (!document) {
    fprintf(stderr, "wisp-truth: %s is not JSON\n", path);
    exit(1);
  }
  return document;
}

static int32_t *read_ids(const cJSON *array, uint32_t *count) {
  *count = (uint32_t)cJSON_GetArraySize(array);
  int32_t *ids = room(*count + 1, sizeof *ids), *next = ids;
  const cJSON *item;
  cJSON_ArrayForEach(item, array) *next++ = item->valueint;
  return ids;
}

/* Little-endian 32-bit words from base64; *count is how many. */
static uint32_t *read_words(const cJSON *object, const char *key, uint32_t *count) {
  static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  const char *base64 = text(object, key);
  uint8_t *bytes = room(strlen(base64), 1);
  size_t size = 0;
  uint32_t bits = 0, held = 0;
  for (const char *c = base64; *c && *c != '='; c++) {
    const char *digit = strchr(digits, *c);
    if (!digit) break;
    bits = bits << 6 | (uint32_t)(digit - digits);
    if ((held += 6) >= 8) bytes[size++] = (uint8_t)(bits >> (held -= 8));
  }
  *count = (uint32_t)(size / 4);
  uint32_t *words = room(*count, sizeof *words);
  for (uint32_t i = 0; i < *count; i++)
    words[i] = bytes[4 * i] | (uint32_t)bytes[4 * i + 1] << 8 | (uint32_t)bytes[4 * i + 2] << 16 |
               (uint32_t)bytes[4 * i + 3] << 24;
  free(bytes);
  return words;
}

static truth_row read_row(const cJSON *packed, uint32_t position) {
  uint32_t top_count, even_count, ids_count;
  uint32_t *top_ids = read_words(packed, "top_ids", &ids_count);
  uint32_t *top = read_words(packed, "top", &top_count), *even = read_words(packed, "even", &even_count);
  const uint32_t stride = (uint32_t)number(packed, "even_stride");
  truth_row row = {.position = position, .count = top_count + even_count};
  row.ids = room(row.count, sizeof *row.ids);
  row.logits = room(row.count, sizeof *row.logits);
  memcpy(row.ids, top_ids, (top_count < ids_count ? top_count : ids_count) * sizeof *row.ids);
  for (uint32_t i = 0; i < even_count; i++) row.ids[top_count + i] = i * stride;
  memcpy(row.logits, top, top_count * sizeof *row.logits);
  memcpy(row.logits + top_count, even, even_count * sizeof *row.logits);
  free(top_ids), free(top), free(even);
  return row;
}

static truth_choices read_choices(const cJSON *object) {
  const cJSON *ids = member(object, "top_ids"), *logits = member(object, "top_logits"), *line, *item;
  truth_choices c = {.count = (uint32_t)cJSON_GetArraySize(ids),
                     .width = (uint32_t)cJSON_GetArraySize(cJSON_GetArrayItem(ids, 0))};
  c.ids = room((size_t)c.count * c.width, sizeof *c.ids);
  c.logits = room((size_t)c.count * c.width, sizeof *c.logits);
  size_t i = 0, k = 0;
  cJSON_ArrayForEach(line, ids) cJSON_ArrayForEach(item, line) c.ids[i++] = item->valueint;
  cJSON_ArrayForEach(line, logits) cJSON_ArrayForEach(item, line) c.logits[k++] = (float)item->valuedouble;
  return c;
}

static truth_run read_run(const cJSON *object, uint32_t prompt_length) {
  truth_run run = {.choices = read_choices(object)};
  run.ids = read_ids(member(object, "ids"), &run.count);
  const cJSON *end = member(object, "end_id"), *logits = member(object, "logits");
  if (cJSON_IsNumber(end)) run.ids[run.count++] = end->valueint;
  const bool many = cJSON_IsArray(logits);
  run.row_count = many ? (uint32_t)cJSON_GetArraySize(logits) : 1;
  run.rows = room(run.row_count, sizeof *run.rows);
  if (!many) run.rows[0] = read_row(logits, prompt_length - 1);
  for (uint32_t i = 0; many && i < run.row_count; i++) {
    const cJSON *position = cJSON_GetArrayItem(member(object, "positions"), (int)i);
    run.rows[i] = read_row(cJSON_GetArrayItem(logits, (int)i), (uint32_t)position->valueint);
  }
  return run;
}

static truth_perplexity read_perplexity(const cJSON *document) {
  const cJSON *object = member(document, "perplexity"), *item;
  truth_perplexity p = {.window = (uint32_t)number(object, "window"),
                        .first_scored = (uint32_t)number(object, "first_scored"),
                        .scored = (uint32_t)number(object, "scored"),
                        .ppl = number(object, "ppl"),
                        .standard_error = number(object, "standard_error")};
  const cJSON *means = member(object, "window_mean_nll");
  p.mean_nll = room((size_t)cJSON_GetArraySize(means), sizeof *p.mean_nll);
  cJSON_ArrayForEach(item, means) p.mean_nll[p.windows++] = item->valuedouble;
  return p;
}

void truth_vectors_open(truth_vectors *v, const char *folder) {
  *v = (truth_vectors){0};
  const cJSON *prompts = v->documents[0] = read_document(folder, "prompts.json"), *item;
  const cJSON *llamacpp = v->documents[1] = read_document(folder, "llamacpp.json");
  const cJSON *exact = v->documents[2] = read_document(folder, "numpy.json");
  const cJSON *list = member(prompts, "prompts");
  v->prompts = room((size_t)cJSON_GetArraySize(list), sizeof *v->prompts);
  cJSON_ArrayForEach(item, list) {
    truth_prompt *p = &v->prompts[v->prompt_count++];
    *p = (truth_prompt){.id = text(item, "id"),
                        .text = text(item, "text"),
                        .formatted = text(item, "formatted"),
                        .chat = cJSON_IsTrue(member(item, "chat"))};
    p->ids = read_ids(member(item, "ids"), &p->count);
    const cJSON *theirs = member(member(llamacpp, "prompts"), p->id);
    p->llamacpp = read_run(theirs, p->count);
    p->float32 = read_run(member(theirs, "float32"), p->count);
    p->exact = read_run(member(member(exact, "prompts"), p->id), p->count);
  }
  v->text_ids = read_ids(member(member(llamacpp, "perplexity"), "ids"), &v->text_count);
  v->llamacpp = read_perplexity(llamacpp);
  v->exact = read_perplexity(exact);
}

static void free_run(truth_run *run) {
  for (uint32_t i = 0; i < run->row_count; i++) free(run->rows[i].ids), free(run->rows[i].logits);
  free(run->rows), free(run->ids), free(run->choices.ids), free(run->choices.logits);
}

void truth_vectors_close(truth_vectors *v) {
  for (uint32_t i = 0; i < v->prompt_count; i++) {
    truth_prompt *p = &v->prompts[i];
    free(p->ids);
    free_run(&p->llamacpp), free_run(&p->float32), free_run(&p->exact);
  }
  free(v->prompts), free(v->text_ids), free(v->llamacpp.mean_nll), free(v->exact.mean_nll);
  for (size_t i = 0; i < sizeof v->documents / sizeof *v->documents; i++) cJSON_Delete(v->documents[i]);
  *v = (truth_vectors){0};
}
