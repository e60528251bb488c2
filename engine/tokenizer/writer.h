/* SPDX-License-Identifier: Apache-2.0
 * Bytes into a buffer that may be too small: counts them all, keeps what fits. */
#ifndef WISP_TOKENIZER_WRITER_H
#define WISP_TOKENIZER_WRITER_H

#include <stddef.h>
#include <string.h>

typedef struct wisp_writer {
  char *bytes;
  size_t capacity;
  size_t size; /* of all that was put, also beyond capacity */
} wisp_writer;

static inline void wisp_put(wisp_writer *writer, const char *bytes, size_t size) {
  if (writer->size < writer->capacity && size > 0) {
    size_t room = writer->capacity - writer->size;
    memcpy(writer->bytes + writer->size, bytes, size < room ? size : room);
  }
  writer->size += size;
}

#endif
