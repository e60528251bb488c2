/* SPDX-License-Identifier: Apache-2.0 */
#include "model/gguf_fields.h"

#include "base/little_endian.h"

enum { COUNT_AT = 16, HEADER_BYTES = 24 };

/* Room for size more bytes, which the caller fills; NULL when there is none. */
static uint8_t *extend(wisp_gguf_fields *f, size_t size) {
  if (f->status != WISP_OK) return NULL;
  if (size > f->capacity - f->size) {
    size_t capacity = f->capacity ? f->capacity : 4096;
    while (capacity - f->size < size && capacity < SIZE_MAX / 4) capacity *= 2;
    uint8_t *grown = wisp_host_resize(f->host, f->bytes, capacity, 1);
    if (!grown || capacity - f->size < size) {
      if (grown) f->bytes = grown;
      f->status = WISP_ERROR_MEMORY;
      return NULL;
    }
    f->bytes = grown;
    f->capacity = capacity;
  }
  uint8_t *at = f->bytes + f->size;
  f->size += size;
  return at;
}

static void put_u32(wisp_gguf_fields *f, uint32_t value) {
  uint8_t *at = extend(f, 4);
  if (at) wisp_store_u32(at, value);
}

static void put_text(wisp_gguf_fields *f, wisp_text text) {
  uint8_t *at = extend(f, 8 + (size_t)text.size);
  if (!at) return;
  wisp_store_u64(at, text.size);
  if (text.size) memcpy(at + 8, text.bytes, (size_t)text.size);
}

static void put_key(wisp_gguf_fields *f, const char *key, wisp_gguf_type type) {
  put_text(f, wisp_text_of(key));
  put_u32(f, (uint32_t)type);
  f->count++;
}

void wisp_fields_begin(wisp_gguf_fields *fields, const wisp_host *host) {
  *fields = (wisp_gguf_fields){.host = host};
  uint8_t *header = extend(fields, HEADER_BYTES);
  if (!header) return;
  memset(header, 0, HEADER_BYTES);
  memcpy(header, "GGUF", 4);
  wisp_store_u32(header + 4, 3);
}

void wisp_fields_free(wisp_gguf_fields *fields) {
  wisp_host_free(fields->host, fields->bytes);
  *fields = (wisp_gguf_fields){0};
}

void wisp_fields_u32(wisp_gguf_fields *fields, const char *key, uint32_t value) {
  put_key(fields, key, WISP_GGUF_U32);
  put_u32(fields, value);
}

void wisp_fields_f32(wisp_gguf_fields *fields, const char *key, float value) {
  put_key(fields, key, WISP_GGUF_F32);
  put_u32(fields, wisp_bits_of_float(value));
}

void wisp_fields_bool(wisp_gguf_fields *fields, const char *key, bool value) {
  put_key(fields, key, WISP_GGUF_BOOL);
  uint8_t *at = extend(fields, 1);
  if (at) *at = value;
}

void wisp_fields_text(wisp_gguf_fields *fields, const char *key, wisp_text value) {
  put_key(fields, key, WISP_GGUF_STRING);
  put_text(fields, value);
}

void wisp_fields_array(wisp_gguf_fields *fields, const char *key, wisp_gguf_type element) {
  put_key(fields, key, WISP_GGUF_ARRAY);
  put_u32(fields, (uint32_t)element);
  fields->open_array = fields->size;
  uint8_t *at = extend(fields, 8);
  if (at) wisp_store_u64(at, 0);
}

static void count_element(wisp_gguf_fields *f) {
  if (f->status == WISP_OK) wisp_store_u64(f->bytes + f->open_array, wisp_load_u64(f->bytes + f->open_array) + 1);
}

void wisp_fields_add_text(wisp_gguf_fields *fields, wisp_text value) {
  put_text(fields, value);
  count_element(fields);
}

void wisp_fields_add_f32(wisp_gguf_fields *fields, float value) {
  put_u32(fields, wisp_bits_of_float(value));
  count_element(fields);
}

void wisp_fields_add_i32(wisp_gguf_fields *fields, int32_t value) {
  put_u32(fields, (uint32_t)value);
  count_element(fields);
}

void wisp_fields_add_bool(wisp_gguf_fields *fields, bool value) {
  uint8_t *at = extend(fields, 1);
  if (at) *at = value;
  count_element(fields);
}

wisp_status wisp_fields_finish(wisp_gguf_fields *fields) {
  if (fields->status != WISP_OK) return wisp_fail_memory(fields->host, "the model's metadata", fields->capacity * 2);
  wisp_store_u64(fields->bytes + COUNT_AT, fields->count);
  return WISP_OK;
}
