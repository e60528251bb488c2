/* SPDX-License-Identifier: Apache-2.0 */
#include "base/arena.h"

#include <stdalign.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

struct wisp_arena_chunk {
  struct wisp_arena_chunk *next;
  size_t used, capacity; /* bytes behind the header */
};

enum {
  ALIGNMENT = alignof(max_align_t),
  HEADER = (sizeof(struct wisp_arena_chunk) + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT,
  CHUNK = 64 * 1024 - HEADER, /* larger blocks get a chunk of their own */
};

void *wisp_arena_alloc(wisp_arena *arena, size_t count, size_t size) {
  if (size && count > (SIZE_MAX - HEADER - ALIGNMENT) / size) return NULL;
  const size_t bytes = (count * size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
  struct wisp_arena_chunk *chunk = arena->chunks;
  if (!chunk || chunk->capacity - chunk->used < bytes) {
    const size_t capacity = bytes > CHUNK / 4 ? bytes : CHUNK;
    chunk = wisp_host_alloc(arena->host, 1, HEADER + capacity);
    if (!chunk) return NULL;
    chunk->capacity = capacity;
    /* A block's own chunk is full at once: the one that still has room stays in front. */
    struct wisp_arena_chunk **place = capacity == bytes && arena->chunks ? &arena->chunks->next : &arena->chunks;
    chunk->next = *place;
    *place = chunk;
  }
  void *block = (char *)chunk + HEADER + chunk->used;
  chunk->used += bytes;
  return block;
}

char *wisp_arena_copy(wisp_arena *arena, const char *text, size_t size) {
  char *copy = size < SIZE_MAX ? wisp_arena_alloc(arena, size + 1, 1) : NULL;
  if (copy && size) memcpy(copy, text, size);
  return copy;
}

char *wisp_arena_print(wisp_arena *arena, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  const int size = vsnprintf(NULL, 0, format, arguments);
  va_end(arguments);
  char *text = size < 0 ? NULL : wisp_arena_alloc(arena, (size_t)size + 1, 1);
  if (!text) return NULL;
  va_start(arguments, format);
  vsnprintf(text, (size_t)size + 1, format, arguments);
  va_end(arguments);
  return text;
}

void wisp_arena_free(wisp_arena *arena) {
  while (arena->chunks) {
    struct wisp_arena_chunk *next = arena->chunks->next;
    wisp_host_free(arena->host, arena->chunks);
    arena->chunks = next;
  }
}
