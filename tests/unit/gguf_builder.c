/* SPDX-License-Identifier: Apache-2.0 */
#include "unit/gguf_builder.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void append(gguf_buffer *buffer, const void *bytes, size_t size) {
  if (buffer->size + size > buffer->capacity) {
    buffer->capacity = 2 * (buffer->size + size);
    buffer->data = realloc(buffer->data, buffer->capacity);
    if (!buffer->data) abort();
  }
  if (size == 0) return;
  if (bytes) {
    memcpy(buffer->data + buffer->size, bytes, size);
  } else {
    memset(buffer->data + buffer->size, 0, size);
  }
  buffer->size += size;
}

static void append_u32(gguf_buffer *buffer, uint32_t value) {
  append(buffer, &value, 4);
}
static void append_u64(gguf_buffer *buffer, uint64_t value) {
  append(buffer, &value, 8);
}

static void append_text(gguf_buffer *buffer, const char *text) {
  append_u64(buffer, strlen(text));
  append(buffer, text, strlen(text));
}

static void align(gguf_buffer *buffer, size_t alignment) {
  append(buffer, NULL, (alignment - buffer->size % alignment) % alignment);
}

void gguf_begin(gguf_builder *builder) {
  *builder = (gguf_builder){.magic = {'G', 'G', 'U', 'F'}, .version = 3, .alignment = 32};
  builder->tensors = calloc(GGUF_BUILDER_TENSORS, sizeof *builder->tensors);
  if (!builder->tensors) abort();
}

void gguf_end(gguf_builder *builder) {
  free(builder->entries.data);
  free(builder->data.data);
  free(builder->tensors);
  *builder = (gguf_builder){0};
}

/* ---- Metadata -------------------------------------------------------------------------------------------------------- */

static size_t size_of(wisp_gguf_type type) {
  switch (type) {
  case WISP_GGUF_U8:
  case WISP_GGUF_I8:
  case WISP_GGUF_BOOL:
    return 1;
  case WISP_GGUF_U16:
  case WISP_GGUF_I16:
    return 2;
  case WISP_GGUF_U32:
  case WISP_GGUF_I32:
  case WISP_GGUF_F32:
    return 4;
  case WISP_GGUF_U64:
  case WISP_GGUF_I64:
  case WISP_GGUF_F64:
    return 8;
  case WISP_GGUF_STRING:
  case WISP_GGUF_ARRAY:
    break;
  }
  abort();
}

static gguf_buffer *begin_entry(gguf_builder *builder, const char *key, uint32_t type) {
  builder->entry_count++;
  append_text(&builder->entries, key);
  append_u32(&builder->entries, type);
  return &builder->entries;
}

void gguf_add_raw(gguf_builder *builder, const char *key, uint32_t type, const void *bytes, size_t size) {
  append(begin_entry(builder, key, type), bytes, size);
}

void gguf_add_scalar(gguf_builder *builder, const char *key, wisp_gguf_type type, const void *value) {
  gguf_add_raw(builder, key, type, value, size_of(type));
}

void gguf_add_u32(gguf_builder *builder, const char *key, uint32_t value) {
  gguf_add_scalar(builder, key, WISP_GGUF_U32, &value);
}

void gguf_add_f32(gguf_builder *builder, const char *key, float value) {
  gguf_add_scalar(builder, key, WISP_GGUF_F32, &value);
}

void gguf_add_bool(gguf_builder *builder, const char *key, bool value) {
  gguf_add_scalar(builder, key, WISP_GGUF_BOOL, &(uint8_t){value});
}

void gguf_add_string(gguf_builder *builder, const char *key, const char *value) {
  append_text(begin_entry(builder, key, WISP_GGUF_STRING), value);
}

void gguf_add_strings(gguf_builder *builder, const char *key, const char *const *values, uint64_t count) {
  gguf_buffer *buffer = begin_entry(builder, key, WISP_GGUF_ARRAY);
  append_u32(buffer, WISP_GGUF_STRING);
  append_u64(buffer, count);
  for (uint64_t i = 0; i < count; i++) append_text(buffer, values[i]);
}

void gguf_add_array(gguf_builder *builder, const char *key, wisp_gguf_type element, const void *values, uint64_t count) {
  gguf_buffer *buffer = begin_entry(builder, key, WISP_GGUF_ARRAY);
  append_u32(buffer, element);
  append_u64(buffer, count);
  append(buffer, values, count * size_of(element));
}

/* ---- Tensors --------------------------------------------------------------------------------------------------------- */

static size_t weight_count(uint32_t dimensions, const uint64_t *shape) {
  size_t count = 1;
  for (uint32_t i = 0; i < dimensions; i++) count *= shape[i];
  return count;
}

gguf_builder_tensor *gguf_add_tensor(gguf_builder *builder, const char *name, wisp_dtype type, uint32_t dimensions,
                                     const uint64_t *shape, const void *data) {
  const wisp_dtype_info *info = wisp_dtype_find(type);
  if (!info || builder->tensors_added == GGUF_BUILDER_TENSORS) abort();
  align(&builder->data, builder->alignment);
  gguf_builder_tensor *tensor = &builder->tensors[builder->tensors_added++];
  *tensor = (gguf_builder_tensor){.dimensions = dimensions, .type = type, .offset = builder->data.size};
  snprintf(tensor->name, sizeof tensor->name, "%s", name);
  memcpy(tensor->shape, shape, dimensions * sizeof *shape);
  append(&builder->data, data, weight_count(dimensions, shape) / info->block_weights * info->block_bytes);
  builder->tensor_count++;
  return tensor;
}

gguf_builder_tensor *gguf_add_weights(gguf_builder *builder, const char *name, wisp_dtype type, uint32_t dimensions,
                                      const uint64_t *shape, const float *weights) {
  const wisp_dtype_info *info = wisp_dtype_find(type);
  if (!info || !info->quantize) abort();
  size_t count = weight_count(dimensions, shape);
  void *blocks = malloc(count / info->block_weights * info->block_bytes);
  if (!blocks) abort();
  info->quantize(weights, blocks, count);
  gguf_builder_tensor *tensor = gguf_add_tensor(builder, name, type, dimensions, shape, blocks);
  free(blocks);
  return tensor;
}

/* ---- The file -------------------------------------------------------------------------------------------------------- */

uint8_t *gguf_finish(const gguf_builder *builder, size_t *size) {
  gguf_buffer file = {0};
  append(&file, builder->magic, 4);
  append_u32(&file, builder->version);
  append_u64(&file, builder->tensor_count);
  append_u64(&file, builder->entry_count);
  append(&file, builder->entries.data, builder->entries.size);
  for (uint32_t i = 0; i < builder->tensors_added; i++) {
    const gguf_builder_tensor *tensor = &builder->tensors[i];
    append_text(&file, tensor->name);
    append_u32(&file, tensor->dimensions);
    for (uint32_t k = 0; k < tensor->dimensions && k < 4; k++) append_u64(&file, tensor->shape[k]);
    append_u32(&file, tensor->type);
    append_u64(&file, tensor->offset);
  }
  if (builder->tensors_added) align(&file, builder->alignment);
  append(&file, builder->data.data, builder->data.size);
  *size = file.size;
  return file.data;
}

bool gguf_write(const gguf_builder *builder, const char *path) {
  size_t size;
  uint8_t *bytes = gguf_finish(builder, &size);
  FILE *file = fopen(path, "wb");
  bool ok = file && fwrite(bytes, 1, size, file) == size;
  if (file && fclose(file)) ok = false;
  free(bytes);
  return ok;
}
