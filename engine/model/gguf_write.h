/* SPDX-License-Identifier: Apache-2.0
 * Writes a GGUF v3 file from front to back: keys and the tensor table first, then the tensors' data as it comes. Nothing but
 * the table is kept. Order of calls: open, keys and tensors in any order, begin, data, end, close. One thread at a time. */
#ifndef WISP_MODEL_GGUF_WRITE_H
#define WISP_MODEL_GGUF_WRITE_H

#include "model/gguf.h"

/* Takes the next bytes of the file; false stops. */
typedef bool wisp_write_fn(void *user, const void *data, size_t size);

enum { WISP_GGUF_ALIGNMENT = 32 }; /* of tensor data, as the format's default */

typedef struct wisp_gguf_writer {
  const wisp_host *host;
  wisp_write_fn *write;
  void *user;
  struct wisp_gguf_key *keys; /* private, from here on */
  struct wisp_gguf_planned *tensors;
  uint64_t key_count, key_room, tensor_count, tensor_room;
  uint64_t data_bytes;    /* of all tensors, padding included */
  uint64_t written, next; /* bytes of data; tensor that they belong to */
  uint8_t *buffer;        /* small pieces on their way to write */
  size_t buffered;
  uint64_t position; /* in the file, behind the buffered */
} wisp_gguf_writer;

/* The key general.alignment is written by itself. */
wisp_status wisp_gguf_writer_open(wisp_gguf_writer *writer, const wisp_host *host, wisp_write_fn *write, void *user);
void wisp_gguf_writer_close(wisp_gguf_writer *writer); /* accepts a zeroed struct */

/* Sets a key, replacing it where it is already there. What key, value and entry point to must stay until begin. */
wisp_status wisp_gguf_writer_set(wisp_gguf_writer *writer, const wisp_gguf_entry *entry);
wisp_status wisp_gguf_writer_set_u32(wisp_gguf_writer *writer, const char *key, uint32_t value);
wisp_status wisp_gguf_writer_set_string(wisp_gguf_writer *writer, const char *key, const char *value);
void wisp_gguf_writer_remove(wisp_gguf_writer *writer, const char *key); /* may be absent */

/* shape as in wisp_gguf_tensor, rows being whole blocks; name must stay until begin. */
wisp_status wisp_gguf_writer_add(wisp_gguf_writer *writer, wisp_text name, const wisp_dtype_info *type, uint32_t dimensions,
                                 const uint64_t *shape);

/* IO where write fails. */
wisp_status wisp_gguf_writer_begin(wisp_gguf_writer *writer);
/* The next bytes of the tensors, in the order in which these were added, in pieces of any size that end at each tensor's end.
 */
wisp_status wisp_gguf_writer_data(wisp_gguf_writer *writer, const void *data, size_t size);
wisp_status wisp_gguf_writer_end(wisp_gguf_writer *writer);

#endif
