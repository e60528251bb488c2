/* SPDX-License-Identifier: Apache-2.0
 * JSON files that describe a model, read with cJSON, and typed values out of their outermost object. cJSON has its own memory
 * (malloc): the host's allocator does not see it. */
#ifndef WISP_BASE_JSON_H
#define WISP_BASE_JSON_H

#include <cjson/cJSON.h>

#include "base/host.h"

typedef struct wisp_json {
  const wisp_host *host;
  char *name;  /* path, for messages */
  cJSON *root; /* an object; NULL: no such file */
} wisp_json;

/* Reads a file. Where there is none: IO if required, otherwise OK with root NULL. What is not a JSON object: FORMAT. */
wisp_status wisp_json_open(wisp_json *json, const wisp_host *host, const char *path, bool required);

/* The same from size bytes; name for messages. */
wisp_status wisp_json_parse(wisp_json *json, const wisp_host *host, const char *name, const void *bytes, size_t size);

void wisp_json_close(wisp_json *json); /* accepts a zeroed struct */

/* Member of an object; NULL if absent, null, or object is none. */
const cJSON *wisp_json_member(const cJSON *object, const char *key);

/* A whole number in [0, limit], which is at most 2^53; false if item is none. */
bool wisp_json_whole(const cJSON *item, uint64_t limit, uint64_t *value);

/* Members of the root. Absent or null: *value stays and OK is returned, unless required: then FORMAT "missing key". A wrong
 * type or a value out of range is FORMAT. */
wisp_status wisp_json_u32(const wisp_json *json, const char *key, bool required, uint32_t *value);
wisp_status wisp_json_f32(const wisp_json *json, const char *key, bool required, float *value);
wisp_status wisp_json_bool(const wisp_json *json, const char *key, bool required, bool *value);
wisp_status wisp_json_text(const wisp_json *json, const char *key, bool required, const char **value);

#endif
