/* SPDX-License-Identifier: Apache-2.0
 * A file in memory that wisp_output_fn writes to. */
#ifndef WISP_TESTS_MEMORY_FILE_H
#define WISP_TESTS_MEMORY_FILE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef struct memory_file {
  uint8_t *data; /* freed by the test */
  size_t size;
  size_t limit; /* bytes that fit; 0 = any number */
} memory_file;

static inline bool memory_write(void *user, const void *data, size_t size) {
  memory_file *file = user;
  if (file->limit && file->size + size > file->limit) return false;
  uint8_t *larger = realloc(file->data, file->size + size + 1);
  if (!larger) return false;
  memcpy(larger + file->size, data, size);
  file->data = larger;
  file->size += size;
  return true;
}

#endif
