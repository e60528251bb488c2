/* SPDX-License-Identifier: Apache-2.0 */
#include "base/json.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "base/source.h"

/* cJSON wants a text that ends in NUL: without it some versions read past the end of broken input. */
static wisp_status parse(wisp_json *json, const void *bytes, size_t size) {
  char *text = wisp_host_strndup(json->host, bytes, size);
  if (!text) return wisp_fail_memory(json->host, json->name, size);
  const char *end = NULL;
  json->root = cJSON_ParseWithLengthOpts(text, size + 1, &end, false);
  const size_t at = end && end > text ? (size_t)(end - text) : 0;
  wisp_host_free(json->host, text);
  if (cJSON_IsObject(json->root)) return WISP_OK;
  if (json->root) return wisp_fail(json->host, WISP_ERROR_FORMAT, "%s: not a JSON object", json->name);
  return wisp_fail(json->host, WISP_ERROR_FORMAT, "%s: not valid JSON, at byte %zu", json->name, at);
}

wisp_status wisp_json_parse(wisp_json *json, const wisp_host *host, const char *name, const void *bytes, size_t size) {
  *json = (wisp_json){.host = host};
  json->name = wisp_host_strndup(host, name, strlen(name));
  wisp_status status = json->name ? parse(json, bytes, size) : wisp_fail_memory(host, "a file name", strlen(name));
  if (status != WISP_OK) wisp_json_close(json);
  return status;
}

wisp_status wisp_json_open(wisp_json *json, const wisp_host *host, const char *path, bool required) {
  *json = (wisp_json){.host = host};
  if (!required && !wisp_file_exists(path)) return WISP_OK;
  wisp_bytes bytes;
  WISP_TRY(wisp_bytes_open(&bytes, host, &(wisp_model_source){.path = path}));
  wisp_status status = wisp_json_parse(json, host, path, bytes.data, (size_t)bytes.size);
  wisp_bytes_close(&bytes, host);
  return status;
}

void wisp_json_close(wisp_json *json) {
  cJSON_Delete(json->root);
  wisp_host_free(json->host, json->name);
  *json = (wisp_json){0};
}

const cJSON *wisp_json_member(const cJSON *object, const char *key) {
  const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
  return cJSON_IsNull(item) ? NULL : item;
}

bool wisp_json_whole(const cJSON *item, uint64_t limit, uint64_t *value) {
  if (!cJSON_IsNumber(item) || !(item->valuedouble >= 0 && item->valuedouble <= (double)limit)) return false;
  *value = (uint64_t)item->valuedouble;
  return (double)*value == item->valuedouble;
}

/* *item is NULL with OK where an optional key is absent. */
static wisp_status find(const wisp_json *json, const char *key, bool required, const cJSON **item) {
  *item = wisp_json_member(json->root, key);
  if (*item || !required) return WISP_OK;
  return wisp_fail(json->host, WISP_ERROR_FORMAT, "%s: missing key \"%s\"", json->name, key);
}

static wisp_status not_a(const wisp_json *json, const char *key, const char *what) {
  return wisp_fail(json->host, WISP_ERROR_FORMAT, "%s: \"%s\" must be %s", json->name, key, what);
}

wisp_status wisp_json_u32(const wisp_json *json, const char *key, bool required, uint32_t *value) {
  const cJSON *item;
  uint64_t whole;
  WISP_TRY(find(json, key, required, &item));
  if (!item) return WISP_OK;
  if (!wisp_json_whole(item, UINT32_MAX, &whole)) return not_a(json, key, "a whole number from 0 to 4294967295");
  *value = (uint32_t)whole;
  return WISP_OK;
}

wisp_status wisp_json_f32(const wisp_json *json, const char *key, bool required, float *value) {
  const cJSON *item;
  WISP_TRY(find(json, key, required, &item));
  if (!item) return WISP_OK;
  if (!cJSON_IsNumber(item) || !(fabs(item->valuedouble) <= FLT_MAX)) return not_a(json, key, "a number that a float can hold");
  *value = (float)item->valuedouble;
  return WISP_OK;
}

wisp_status wisp_json_bool(const wisp_json *json, const char *key, bool required, bool *value) {
  const cJSON *item;
  WISP_TRY(find(json, key, required, &item));
  if (!item) return WISP_OK;
  if (!cJSON_IsBool(item)) return not_a(json, key, "true or false");
  *value = cJSON_IsTrue(item);
  return WISP_OK;
}

wisp_status wisp_json_text(const wisp_json *json, const char *key, bool required, const char **value) {
  const cJSON *item;
  WISP_TRY(find(json, key, required, &item));
  if (!item) return WISP_OK;
  if (!cJSON_IsString(item)) return not_a(json, key, "a string");
  *value = item->valuestring;
  return WISP_OK;
}
