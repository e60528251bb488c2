/* SPDX-License-Identifier: Apache-2.0
 * Many blocks of memory that are freed together. Not thread-safe. */
#ifndef WISP_BASE_ARENA_H
#define WISP_BASE_ARENA_H

#include "base/host.h"

typedef struct wisp_arena {
  const wisp_host *host;
  struct wisp_arena_chunk *chunks; /* private: the newest first */
} wisp_arena;

/* Zeroed memory for count elements, aligned for any of them, until the arena is freed; NULL when there is none. */
void *wisp_arena_alloc(wisp_arena *arena, size_t count, size_t size);

char *wisp_arena_copy(wisp_arena *arena, const char *text, size_t size);              /* NUL-terminated, or NULL */
char *wisp_arena_print(wisp_arena *arena, const char *format, ...) WISP_PRINTF(2, 3); /* likewise */

void wisp_arena_free(wisp_arena *arena); /* all blocks; the arena can be used again */

#endif
