/* SPDX-License-Identifier: Apache-2.0 */
#include "model/checkpoint.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "model/gguf_private.h"

enum { MAX_TENSORS = 65536, MAX_FILES = 1024 };

bool wisp_stored_weights(const uint64_t *shape, uint32_t dimensions, uint64_t *weights) {
  const uint64_t limit = (uint64_t)1 << 48;
  *weights = 1;
  for (uint32_t i = 0; i < dimensions; i++) {
    if (shape[i] == 0 || shape[i] > limit / *weights) return false;
    *weights *= shape[i];
  }
  return true;
}

wisp_status wisp_checkpoint_add(wisp_checkpoint *c, const wisp_stored *tensor) {
  uint64_t weights;
  if (!wisp_stored_weights(tensor->shape, tensor->dimensions, &weights))
    return wisp_fail(c->host, WISP_ERROR_FORMAT, "%s: tensor '%.*s' has an impossible shape", tensor->file,
                     WISP_TEXT_ARGS(tensor->name));
  if (c->count == MAX_TENSORS)
    return wisp_fail(c->host, WISP_ERROR_FORMAT, "%s: more than %d tensors", tensor->file, MAX_TENSORS);
  if (c->count == c->capacity) {
    const size_t capacity = c->capacity ? 2 * c->capacity : 64;
    wisp_stored *grown = wisp_host_resize(c->host, c->tensors, capacity, sizeof *grown);
    if (!grown) return wisp_fail_memory(c->host, "the table of tensors", capacity * sizeof *grown);
    c->tensors = grown;
    c->capacity = capacity;
  }
  wisp_stored *added = &c->tensors[c->count];
  *added = *tensor;
  added->bytes = weights * tensor->type->block_bytes;
  added->name.bytes = wisp_arena_copy(&c->arena, tensor->name.bytes, (size_t)tensor->name.size);
  if (!added->name.bytes) return wisp_fail_memory(c->host, "the name of a tensor", tensor->name.size);
  for (uint32_t i = tensor->dimensions; i < WISP_STORED_DIMENSIONS; i++) added->shape[i] = 1;
  c->count++;
  return WISP_OK;
}

static int compare_names(const void *a, const void *b) {
  return wisp_text_compare(((const wisp_stored *)a)->name, ((const wisp_stored *)b)->name);
}

wisp_status wisp_checkpoint_index(wisp_checkpoint *c) {
  if (c->count) qsort(c->tensors, c->count, sizeof *c->tensors, compare_names);
  for (size_t i = 1; i < c->count; i++) {
    if (compare_names(&c->tensors[i - 1], &c->tensors[i]) == 0)
      return wisp_fail(c->host, WISP_ERROR_FORMAT, "%s: tensor '%.*s' appears twice", c->tensors[i].file,
                       WISP_TEXT_ARGS(c->tensors[i].name));
  }
  return WISP_OK;
}

const wisp_stored *wisp_checkpoint_find(const wisp_checkpoint *checkpoint, const char *name) {
  const wisp_stored wanted = {.name = {name, strlen(name)}};
  if (!checkpoint->count) return NULL;
  return bsearch(&wanted, checkpoint->tensors, checkpoint->count, sizeof wanted, compare_names);
}

/* ---- Files ----------------------------------------------------------------------------------------------------------- */

typedef wisp_status (*read_fn)(wisp_checkpoint *checkpoint, const wisp_bytes *file);

static const struct container {
  const char *file, *index;
  read_fn read;
} containers[] = {
    {"model.safetensors", "model.safetensors.index.json", wisp_safetensors_read},
    {"pytorch_model.bin", "pytorch_model.bin.index.json", wisp_torch_read},
};

static wisp_status read_file(wisp_checkpoint *c, read_fn read, const char *path) {
  if (!path) return wisp_fail_memory(c->host, "a path", 1024);
  wisp_bytes *file = &c->files[c->file_count];
  WISP_TRY(wisp_bytes_open(file, c->host, &(wisp_model_source){.path = path}));
  c->file_count++;
  return read(c, file);
}

/* A file beside the index: no way out of the folder. */
static bool is_plain_name(const char *name) {
  return *name && !strchr(name, '/') && !strchr(name, '\\') && !strchr(name, ':') && strcmp(name, "..") && strcmp(name, ".");
}

/* Position of the file at path among those that are open, or their count. */
static size_t find_file(const wisp_checkpoint *c, const char *path) {
  size_t i = 0;
  while (i < c->file_count && strcmp(c->files[i].name, path)) i++;
  return i;
}

static wisp_status read_shards(wisp_checkpoint *c, read_fn read, const char *folder, const wisp_json *index) {
  const cJSON *map = wisp_json_member(index->root, "weight_map"), *item;
  if (!cJSON_IsObject(map) || !map->child)
    return wisp_fail(c->host, WISP_ERROR_FORMAT, "%s: \"weight_map\" must be an object of tensor and file names", index->name);
  for (item = map->child; item; item = item->next) {
    if (!cJSON_IsString(item) || !is_plain_name(item->valuestring))
      return wisp_fail(c->host, WISP_ERROR_FORMAT, "%s: \"weight_map\" must give the name of a file in the folder for '%s'",
                       index->name, item->string);
    const char *path = wisp_arena_print(&c->arena, "%s/%s", folder, item->valuestring);
    if (!path) return wisp_fail_memory(c->host, "a path", strlen(folder) + strlen(item->valuestring));
    if (find_file(c, path) < c->file_count) continue;
    if (c->file_count == MAX_FILES)
      return wisp_fail(c->host, WISP_ERROR_FORMAT, "%s: names more than %d files", index->name, MAX_FILES);
    WISP_TRY(read_file(c, read, path));
  }
  WISP_TRY(wisp_checkpoint_index(c));
  for (item = map->child; item; item = item->next) {
    const wisp_stored *tensor = wisp_checkpoint_find(c, item->string);
    const char *slash = tensor ? strrchr(tensor->file, '/') : NULL;
    if (!slash || strcmp(slash + 1, item->valuestring))
      return wisp_fail(c->host, WISP_ERROR_FORMAT, "%s: tensor '%s' is said to be in %s, but is not there", index->name,
                       item->string, item->valuestring);
  }
  return WISP_OK;
}

static wisp_status open_index(wisp_checkpoint *c, read_fn read, const char *folder, const char *path) {
  wisp_json index;
  WISP_TRY(wisp_json_open(&index, c->host, path, true));
  wisp_status status = read_shards(c, read, folder, &index);
  wisp_json_close(&index);
  return status;
}

static wisp_status open_any(wisp_checkpoint *c, const char *folder) {
  c->files = wisp_host_alloc(c->host, MAX_FILES, sizeof *c->files);
  if (!c->files) return wisp_fail_memory(c->host, "the table of files", MAX_FILES * sizeof *c->files);
  for (size_t i = 0; i < sizeof containers / sizeof *containers; i++) {
    const char *file = wisp_arena_print(&c->arena, "%s/%s", folder, containers[i].file);
    const char *index = wisp_arena_print(&c->arena, "%s/%s", folder, containers[i].index);
    if (!file || !index) return wisp_fail_memory(c->host, "a path", strlen(folder));
    if (wisp_file_exists(file)) {
      WISP_TRY(read_file(c, containers[i].read, file));
      return wisp_checkpoint_index(c);
    }
    if (wisp_file_exists(index)) return open_index(c, containers[i].read, folder, index);
  }
  return wisp_fail(c->host, WISP_ERROR_IO,
                   "%s: no weights: expected model.safetensors or pytorch_model.bin, or one with .index.json for several files",
                   folder);
}

wisp_status wisp_checkpoint_open(wisp_checkpoint *checkpoint, const wisp_host *host, const char *folder) {
  *checkpoint = (wisp_checkpoint){.host = host, .arena = {.host = host}};
  wisp_status status = open_any(checkpoint, folder);
  if (status != WISP_OK) wisp_checkpoint_close(checkpoint);
  return status;
}

void wisp_checkpoint_close(wisp_checkpoint *checkpoint) {
  for (size_t i = 0; i < checkpoint->file_count; i++) wisp_bytes_close(&checkpoint->files[i], checkpoint->host);
  wisp_host_free(checkpoint->host, checkpoint->files);
  wisp_host_free(checkpoint->host, checkpoint->tensors);
  wisp_arena_free(&checkpoint->arena);
  *checkpoint = (wisp_checkpoint){0};
}
