/* SPDX-License-Identifier: Apache-2.0 */
#include "pipeline_cache.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "platform.h"

/* A cache that cannot be read or written only costs time, so nothing is said about it. */
static bool entry_path(const char *key, char *path, size_t size) {
  if (!platform_cache_folder(path, size)) return false;
  size_t used = strlen(path);
  int length = snprintf(path + used, size - used, "/pipelines-%s", key);
  if (length < 0 || (size_t)length >= size - used) return false;
  for (char *c = path + used + 1; *c; c++) {
    if (!isalnum((unsigned char)*c) && *c != '-' && *c != '.') *c = '_';
  }
  return true;
}

static size_t get(void *user, const char *key, void *data, size_t size) {
  char path[4096];
  FILE *file = entry_path(key, path, sizeof path) ? fopen(path, "rb") : NULL;
  if (!file) return 0;
  long whole = fseek(file, 0, SEEK_END) == 0 ? ftell(file) : 0;
  rewind(file);
  size_t wanted = whole > 0 && (size_t)whole < size ? (size_t)whole : size;
  bool complete = wanted == 0 || fread(data, 1, wanted, file) == wanted;
  fclose(file);
  return whole > 0 && complete ? (size_t)whole : 0;
}

static void put(void *user, const char *key, const void *data, size_t size) {
  char path[4096];
  if (entry_path(key, path, sizeof path)) platform_replace_file(path, data, size);
}

wisp_cache pipeline_cache(void) {
  return (wisp_cache){.get = get, .put = put};
}
