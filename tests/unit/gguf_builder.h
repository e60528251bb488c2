/* SPDX-License-Identifier: Apache-2.0
 * Writes small GGUF files in memory for tests. Nothing is checked, so that malformed files can be written too: change the
 * fields of the builder or of a tensor before gguf_finish. Out of memory aborts the test. */
#ifndef WISP_TESTS_GGUF_BUILDER_H
#define WISP_TESTS_GGUF_BUILDER_H

#include "model/gguf.h"

enum { GGUF_BUILDER_TENSORS = 512 };

typedef struct gguf_buffer {
  uint8_t *data;
  size_t size, capacity;
} gguf_buffer;

typedef struct gguf_builder_tensor {
  char name[80];
  uint32_t dimensions;
  uint64_t shape[4];
  uint32_t type;
  uint64_t offset; /* in the data section */
} gguf_builder_tensor;

typedef struct gguf_builder {
  uint8_t magic[4];
  uint32_t version;
  uint32_t alignment;                 /* of tensor data; the key general.alignment is not written by itself */
  uint64_t tensor_count, entry_count; /* as the header will say */
  gguf_buffer entries, data;
  gguf_builder_tensor *tensors; /* [GGUF_BUILDER_TENSORS] */
  uint32_t tensors_added;
} gguf_builder;

void gguf_begin(gguf_builder *builder);
void gguf_end(gguf_builder *builder); /* frees */

void gguf_add_u32(gguf_builder *builder, const char *key, uint32_t value);
void gguf_add_f32(gguf_builder *builder, const char *key, float value);
void gguf_add_bool(gguf_builder *builder, const char *key, bool value);
void gguf_add_string(gguf_builder *builder, const char *key, const char *value);
void gguf_add_strings(gguf_builder *builder, const char *key, const char *const *values, uint64_t count);

/* A scalar, or an array, of any type of fixed size; values in this machine's byte order. */
void gguf_add_scalar(gguf_builder *builder, const char *key, wisp_gguf_type type, const void *value);
void gguf_add_array(gguf_builder *builder, const char *key, wisp_gguf_type element, const void *values, uint64_t count);

/* Key, value type and bytes as they are. */
void gguf_add_raw(gguf_builder *builder, const char *key, uint32_t type, const void *bytes, size_t size);

/* Data behind that of the tensor before. data: as the type stores it, NULL = zero bytes. The returned description may be
 * changed. */
gguf_builder_tensor *gguf_add_tensor(gguf_builder *builder, const char *name, wisp_dtype type, uint32_t dimensions,
                                     const uint64_t *shape, const void *data);

/* As gguf_add_tensor, the weights being rounded to type. */
gguf_builder_tensor *gguf_add_weights(gguf_builder *builder, const char *name, wisp_dtype type, uint32_t dimensions,
                                      const uint64_t *shape, const float *weights);

/* The whole file; the caller frees it. */
uint8_t *gguf_finish(const gguf_builder *builder, size_t *size);
bool gguf_write(const gguf_builder *builder, const char *path);

#endif
