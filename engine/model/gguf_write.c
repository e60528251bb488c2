/* SPDX-License-Identifier: Apache-2.0 */
#include "model/gguf_write.h"

#include <inttypes.h>
#include <string.h>

#include "base/little_endian.h"
#include "model/gguf_private.h"

enum { BUFFER_BYTES = 1 << 16 };

typedef struct wisp_gguf_key {
  wisp_gguf_entry entry;
  wisp_text text;    /* value of set_string: entry.strings points here once the table does not move any more */
  uint8_t number[4]; /* likewise of set_u32 */
  bool own;
} wisp_gguf_key;

typedef struct wisp_gguf_planned {
  wisp_text name;
  const wisp_dtype_info *type;
  uint32_t dimensions;
  uint64_t shape[4];
  uint64_t offset, bytes;
} wisp_gguf_planned;

static uint64_t padded(uint64_t bytes) {
  return (bytes + WISP_GGUF_ALIGNMENT - 1) / WISP_GGUF_ALIGNMENT * WISP_GGUF_ALIGNMENT;
}

static wisp_text text_of(const char *text) {
  return (wisp_text){text, strlen(text)};
}

/* ---- Keys and tensors ----------------------------------------------------------------------------------------------- */

/* Room for one more of size bytes in the table *items. */
static wisp_status grow(const wisp_host *host, void **items, uint64_t count, uint64_t *room, size_t size) {
  if (count < *room) return WISP_OK;
  const uint64_t wanted = *room ? 2 * *room : 64;
  void *larger = wisp_host_resize(host, *items, (size_t)wanted, size);
  if (!larger) return wisp_fail_memory(host, "the table of the file to write", wanted * size);
  *items = larger;
  *room = wanted;
  return WISP_OK;
}

static wisp_gguf_key *find_key(const wisp_gguf_writer *w, wisp_text key) {
  for (uint64_t i = 0; i < w->key_count; i++)
    if (wisp_text_compare(w->keys[i].entry.key, key) == 0) return &w->keys[i];
  return NULL;
}

static wisp_status set(wisp_gguf_writer *w, const wisp_gguf_key *value) {
  wisp_gguf_key *key = find_key(w, value->entry.key);
  if (!key) {
    void *keys = w->keys;
    const wisp_status status = grow(w->host, &keys, w->key_count, &w->key_room, sizeof *key);
    w->keys = keys;
    if (status != WISP_OK) return status;
    key = &w->keys[w->key_count++];
  }
  *key = *value;
  return WISP_OK;
}

wisp_status wisp_gguf_writer_set(wisp_gguf_writer *writer, const wisp_gguf_entry *entry) {
  const wisp_gguf_key key = {.entry = *entry};
  if (wisp_text_compare(entry->key, text_of("general.alignment")) == 0) return WISP_OK;
  return set(writer, &key);
}

wisp_status wisp_gguf_writer_set_u32(wisp_gguf_writer *writer, const char *key, uint32_t value) {
  wisp_gguf_key number = {.entry = {.key = text_of(key), .type = WISP_GGUF_U32, .element = WISP_GGUF_U32, .count = 1},
                          .own = true};
  wisp_store_u32(number.number, value);
  return set(writer, &number);
}

wisp_status wisp_gguf_writer_set_string(wisp_gguf_writer *writer, const char *key, const char *value) {
  const wisp_gguf_key text = {.entry = {.key = text_of(key), .type = WISP_GGUF_STRING, .element = WISP_GGUF_STRING, .count = 1},
                              .text = text_of(value),
                              .own = true};
  return set(writer, &text);
}

void wisp_gguf_writer_remove(wisp_gguf_writer *writer, const char *key) {
  wisp_gguf_key *found = find_key(writer, text_of(key));
  if (!found) return;
  const uint64_t behind = (uint64_t)(writer->keys + --writer->key_count - found);
  memmove(found, found + 1, (size_t)behind * sizeof *found);
}

wisp_status wisp_gguf_writer_add(wisp_gguf_writer *writer, wisp_text name, const wisp_dtype_info *type, uint32_t dimensions,
                                 const uint64_t *shape) {
  void *tensors = writer->tensors;
  const wisp_status status = grow(writer->host, &tensors, writer->tensor_count, &writer->tensor_room, sizeof *writer->tensors);
  writer->tensors = tensors;
  if (status != WISP_OK) return status;
  wisp_gguf_planned planned = {.name = name, .type = type, .dimensions = dimensions, .offset = writer->data_bytes};
  uint64_t weights = 1;
  for (uint32_t i = 0; i < dimensions; i++) weights *= planned.shape[i] = shape[i];
  planned.bytes = weights / type->block_weights * type->block_bytes;
  writer->data_bytes += padded(planned.bytes);
  writer->tensors[writer->tensor_count++] = planned;
  return WISP_OK;
}

/* ---- Bytes ------------------------------------------------------------------------------------------------------------ */

static wisp_status flush(wisp_gguf_writer *w) {
  const size_t size = w->buffered;
  w->buffered = 0;
  if (!size || w->write(w->user, w->buffer, size)) return WISP_OK;
  return wisp_fail(w->host, WISP_ERROR_IO, "cannot write the file's bytes before byte %" PRIu64, w->position);
}

static wisp_status put(wisp_gguf_writer *w, const void *data, uint64_t size) {
  const uint8_t *from = data;
  while (size > 0) {
    const size_t room = BUFFER_BYTES - w->buffered, part = size < room ? (size_t)size : room;
    memcpy(w->buffer + w->buffered, from, part);
    w->buffered += part;
    w->position += part;
    from += part;
    size -= part;
    if (w->buffered == BUFFER_BYTES) WISP_TRY(flush(w));
  }
  return WISP_OK;
}

static wisp_status put_u32(wisp_gguf_writer *w, uint32_t value) {
  uint8_t bytes[4];
  wisp_store_u32(bytes, value);
  return put(w, bytes, sizeof bytes);
}

static wisp_status put_u64(wisp_gguf_writer *w, uint64_t value) {
  WISP_TRY(put_u32(w, (uint32_t)value));
  return put_u32(w, (uint32_t)(value >> 32));
}

static wisp_status put_text(wisp_gguf_writer *w, wisp_text text) {
  WISP_TRY(put_u64(w, text.size));
  return put(w, text.bytes, text.size);
}

static wisp_status pad(wisp_gguf_writer *w) {
  static const uint8_t zeros[WISP_GGUF_ALIGNMENT] = {0};
  return put(w, zeros, padded(w->position) - w->position);
}

static wisp_status put_entry(wisp_gguf_writer *w, const wisp_gguf_entry *entry) {
  WISP_TRY(put_text(w, entry->key));
  WISP_TRY(put_u32(w, entry->type));
  if (entry->type == WISP_GGUF_ARRAY) {
    WISP_TRY(put_u32(w, entry->element));
    WISP_TRY(put_u64(w, entry->count));
  }
  if (entry->element != WISP_GGUF_STRING) return put(w, entry->payload, entry->count * wisp_gguf_type_bytes[entry->element]);
  for (uint64_t i = 0; i < entry->count; i++) WISP_TRY(put_text(w, entry->strings[i]));
  return WISP_OK;
}

static wisp_status put_tensor(wisp_gguf_writer *w, const wisp_gguf_planned *tensor) {
  WISP_TRY(put_text(w, tensor->name));
  WISP_TRY(put_u32(w, tensor->dimensions));
  for (uint32_t i = 0; i < tensor->dimensions; i++) WISP_TRY(put_u64(w, tensor->shape[i]));
  WISP_TRY(put_u32(w, tensor->type->dtype));
  return put_u64(w, tensor->offset);
}

/* ---- The whole ------------------------------------------------------------------------------------------------------ */

wisp_status wisp_gguf_writer_open(wisp_gguf_writer *writer, const wisp_host *host, wisp_write_fn *write, void *user) {
  *writer = (wisp_gguf_writer){.host = host, .write = write, .user = user};
  writer->buffer = wisp_host_alloc(host, BUFFER_BYTES, 1);
  if (!writer->buffer) return wisp_fail_memory(host, "a buffer", BUFFER_BYTES);
  return wisp_gguf_writer_set_u32(writer, "general.alignment", WISP_GGUF_ALIGNMENT);
}

void wisp_gguf_writer_close(wisp_gguf_writer *writer) {
  wisp_host_free(writer->host, writer->keys);
  wisp_host_free(writer->host, writer->tensors);
  wisp_host_free(writer->host, writer->buffer);
  *writer = (wisp_gguf_writer){0};
}

wisp_status wisp_gguf_writer_begin(wisp_gguf_writer *writer) {
  WISP_TRY(put(writer, "GGUF", 4));
  WISP_TRY(put_u32(writer, 3));
  WISP_TRY(put_u64(writer, writer->tensor_count));
  WISP_TRY(put_u64(writer, writer->key_count));
  for (uint64_t i = 0; i < writer->key_count; i++) {
    wisp_gguf_key *key = &writer->keys[i];
    if (key->own) {
      key->entry.payload = key->number;
      key->entry.strings = &key->text;
    }
    WISP_TRY(put_entry(writer, &key->entry));
  }
  for (uint64_t i = 0; i < writer->tensor_count; i++) WISP_TRY(put_tensor(writer, &writer->tensors[i]));
  return pad(writer);
}

wisp_status wisp_gguf_writer_data(wisp_gguf_writer *writer, const void *data, size_t size) {
  const wisp_gguf_planned *tensor = &writer->tensors[writer->next];
  if (writer->next == writer->tensor_count || size > tensor->bytes - writer->written)
    return wisp_fail(writer->host, WISP_ERROR_ARGUMENT, "%zu bytes behind the end of tensor %" PRIu64, size, writer->next);
  WISP_TRY(put(writer, data, size));
  writer->written += size;
  if (writer->written < tensor->bytes) return WISP_OK;
  writer->written = 0;
  writer->next++;
  return pad(writer);
}

wisp_status wisp_gguf_writer_end(wisp_gguf_writer *writer) {
  if (writer->next < writer->tensor_count)
    return wisp_fail(writer->host, WISP_ERROR_ARGUMENT, "tensor %" PRIu64 " of %" PRIu64 " is not complete", writer->next,
                     writer->tensor_count);
  return flush(writer);
}
