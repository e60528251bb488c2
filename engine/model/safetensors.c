/* SPDX-License-Identifier: Apache-2.0
 * The safetensors container: u64 size of the header, a JSON object of tensors, their bytes. Offsets count from the end of the
 * header. Format: the README of the safetensors project. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/little_endian.h"
#include "model/checkpoint.h"

enum { MAX_HEADER = 32 << 20 }; /* bytes; real ones have less than one million */

static const struct {
  const char *name;
  wisp_dtype dtype;
} dtypes[] = {{"F32", WISP_F32}, {"F16", WISP_F16}, {"BF16", WISP_BF16}};

typedef struct section {
  const wisp_host *host;
  const char *file;
  const uint8_t *data; /* behind the header */
  uint64_t size;
} section;

static wisp_status bad(const section *s, const cJSON *item, const char *what) {
  return wisp_fail(s->host, WISP_ERROR_FORMAT, "%s: tensor '%.200s' %s", s->file, item->string, what);
}

static wisp_status read_dtype(const section *s, const cJSON *item, wisp_stored *tensor) {
  const cJSON *dtype = wisp_json_member(item, "dtype");
  if (!cJSON_IsString(dtype)) return bad(s, item, "has no \"dtype\"");
  for (size_t i = 0; i < sizeof dtypes / sizeof *dtypes; i++) {
    if (!strcmp(dtype->valuestring, dtypes[i].name)) tensor->type = wisp_dtype_find(dtypes[i].dtype);
  }
  if (tensor->type) return WISP_OK;
  return wisp_fail(s->host, WISP_ERROR_UNSUPPORTED, "%s: tensor '%.200s' has dtype %.32s; Wisp reads F32, F16 and BF16",
                   s->file, item->string, dtype->valuestring);
}

static wisp_status read_shape(const section *s, const cJSON *item, wisp_stored *tensor) {
  const cJSON *shape = wisp_json_member(item, "shape"), *size;
  if (!cJSON_IsArray(shape)) return bad(s, item, "has no \"shape\"");
  cJSON_ArrayForEach(size, shape) {
    if (tensor->dimensions == WISP_STORED_DIMENSIONS) return bad(s, item, "has more than 4 dimensions");
    if (!wisp_json_whole(size, (uint64_t)1 << 48, &tensor->shape[tensor->dimensions++]))
      return bad(s, item, "has a \"shape\" that is not of whole numbers");
  }
  return WISP_OK;
}

static wisp_status read_data(const section *s, const cJSON *item, wisp_stored *tensor) {
  const cJSON *offsets = wisp_json_member(item, "data_offsets");
  uint64_t range[2] = {0}, weights;
  bool whole = cJSON_IsArray(offsets) && cJSON_GetArraySize(offsets) == 2;
  for (int i = 0; whole && i < 2; i++) whole = wisp_json_whole(cJSON_GetArrayItem(offsets, i), (uint64_t)1 << 53, &range[i]);
  if (!whole) return bad(s, item, "has no \"data_offsets\" of two whole numbers");
  if (range[0] > range[1] || range[1] > s->size)
    return wisp_fail(s->host, WISP_ERROR_FORMAT,
                     "%s: damaged or truncated: tensor '%.200s' has data_offsets %" PRIu64 " to %" PRIu64
                     ", but there are %" PRIu64 " bytes of data",
                     s->file, item->string, range[0], range[1], s->size);
  if (!wisp_stored_weights(tensor->shape, tensor->dimensions, &weights)) return bad(s, item, "has an impossible shape");
  if (weights * tensor->type->block_bytes != range[1] - range[0])
    return wisp_fail(s->host, WISP_ERROR_FORMAT,
                     "%s: tensor '%.200s' has %" PRIu64
                     " bytes between its data_offsets, but its shape and dtype need %" PRIu64,
                     s->file, item->string, range[1] - range[0], weights * tensor->type->block_bytes);
  tensor->data = s->data + range[0];
  return WISP_OK;
}

static wisp_status read_tensors(wisp_checkpoint *c, const section *s, const cJSON *header) {
  const cJSON *item;
  cJSON_ArrayForEach(item, header) {
    if (!strcmp(item->string, "__metadata__")) continue;
    if (!cJSON_IsObject(item)) return bad(s, item, "is not an object");
    wisp_stored tensor = {.name = {item->string, strlen(item->string)}, .file = s->file};
    WISP_TRY(read_dtype(s, item, &tensor));
    WISP_TRY(read_shape(s, item, &tensor));
    WISP_TRY(read_data(s, item, &tensor));
    WISP_TRY(wisp_checkpoint_add(c, &tensor));
  }
  return WISP_OK;
}

static int compare_data(const void *a, const void *b) {
  const wisp_stored *left = a, *right = b;
  return (left->data > right->data) - (left->data < right->data);
}

/* tensors: those of one file. */
static wisp_status check_overlap(const section *s, wisp_stored *tensors, size_t count) {
  if (count) qsort(tensors, count, sizeof *tensors, compare_data);
  for (size_t i = 1; i < count; i++) {
    if (tensors[i].data < tensors[i - 1].data + tensors[i - 1].bytes)
      return wisp_fail(s->host, WISP_ERROR_FORMAT, "%s: tensors '%.*s' and '%.*s' overlap", s->file,
                       WISP_TEXT_ARGS(tensors[i - 1].name), WISP_TEXT_ARGS(tensors[i].name));
  }
  return WISP_OK;
}

wisp_status wisp_safetensors_read(wisp_checkpoint *checkpoint, const wisp_bytes *file) {
  const wisp_host *host = checkpoint->host;
  if (file->size < 8)
    return wisp_fail(host, WISP_ERROR_FORMAT, "%s: not a safetensors file: %" PRIu64 " bytes", file->name, file->size);
  const uint64_t size = wisp_load_u64(file->data);
  if (size > file->size - 8 || size > MAX_HEADER || size < 2)
    return wisp_fail(host, WISP_ERROR_FORMAT,
                     "%s: not a safetensors file, or truncated: a header of %" PRIu64 " bytes in a file of %" PRIu64
                     ", at most %d",
                     file->name, size, file->size, MAX_HEADER);
  wisp_json header;
  WISP_TRY(wisp_json_parse(&header, host, file->name, file->data + 8, (size_t)size));
  const section data = {host, file->name, file->data + 8 + size, file->size - 8 - size};
  const size_t first = checkpoint->count;
  wisp_status status = read_tensors(checkpoint, &data, header.root);
  if (status == WISP_OK) status = check_overlap(&data, checkpoint->tensors + first, checkpoint->count - first);
  wisp_json_close(&header);
  return status;
}
