/* SPDX-License-Identifier: Apache-2.0
 * A host's cache in memory. */
#ifndef WISP_TESTS_KEPT_CACHE_H
#define WISP_TESTS_KEPT_CACHE_H

#include <stdint.h>
#include <wisp/wisp.h>

enum { KEPT_ENTRIES = 6 };

typedef struct kept_entry {
  char key[96];
  uint8_t *data;
  size_t size;
  unsigned puts;
} kept_entry;

typedef struct kept {
  kept_entry entries[KEPT_ENTRIES]; /* in the order of their first put */
} kept;

wisp_cache kept_cache(kept *k);

/* The first entry whose key begins so; NULL: there is none. */
kept_entry *kept_find(kept *k, const char *beginning);

void kept_forget(kept *k);

#endif
