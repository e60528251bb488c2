/* SPDX-License-Identifier: Apache-2.0 */
#include "unit/kept_cache.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static size_t get(void *user, const char *key, void *data, size_t size) {
  kept *k = user;
  for (int i = 0; i < KEPT_ENTRIES; i++)
    if (!strcmp(k->entries[i].key, key)) {
      const size_t whole = k->entries[i].size;
      if (size) memcpy(data, k->entries[i].data, size < whole ? size : whole);
      return whole;
    }
  return 0;
}

static void put(void *user, const char *key, const void *data, size_t size) {
  kept *k = user;
  int i = 0;
  while (i < KEPT_ENTRIES && k->entries[i].key[0] && strcmp(k->entries[i].key, key) != 0) i++;
  cr_assert_lt(i, KEPT_ENTRIES);
  snprintf(k->entries[i].key, sizeof k->entries[i].key, "%s", key);
  free(k->entries[i].data);
  k->entries[i].data = malloc(size);
  memcpy(k->entries[i].data, data, size);
  k->entries[i].size = size;
  k->entries[i].puts++;
}

wisp_cache kept_cache(kept *k) {
  return (wisp_cache){get, put, k};
}

kept_entry *kept_find(kept *k, const char *beginning) {
  for (int i = 0; i < KEPT_ENTRIES; i++)
    if (!strncmp(k->entries[i].key, beginning, strlen(beginning))) return &k->entries[i];
  return NULL;
}

void kept_forget(kept *k) {
  for (int i = 0; i < KEPT_ENTRIES; i++) free(k->entries[i].data);
  *k = (kept){.entries = {{.size = 0}}};
}
