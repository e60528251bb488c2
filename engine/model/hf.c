/* SPDX-License-Identifier: Apache-2.0 */
#include "model/hf.h"

#include "base/json.h"
#include "model/hf_config.h"
#include "model/hf_tensors.h"
#include "model/hf_tokenizer.h"

/* The last part of the folder's path names the model. */
static wisp_text name_of(const char *folder) {
  size_t size = strlen(folder);
  while (size > 1 && folder[size - 1] == '/') size--;
  size_t start = size;
  while (start > 0 && folder[start - 1] != '/') start--;
  return (wisp_text){folder + start, size - start};
}

static wisp_status read_metadata(wisp_hf *hf, const char *folder, const wisp_json *json, wisp_hf_config *config) {
  wisp_fields_begin(&hf->fields, hf->host);
  wisp_fields_text(&hf->fields, "general.name", name_of(folder));
  WISP_TRY(wisp_hf_config_read(config, json, &hf->arena, &hf->fields));
  WISP_TRY(wisp_hf_tokenizer_read(folder, json, config->vocabulary, &hf->fields));
  WISP_TRY(wisp_fields_finish(&hf->fields));
  char *name = wisp_arena_copy(&hf->arena, folder, strlen(folder));
  if (!name) return wisp_fail_memory(hf->host, "a path", strlen(folder));
  return wisp_gguf_open(&hf->gguf, hf->host, &(wisp_bytes){.data = hf->fields.bytes, .size = hf->fields.size, .name = name});
}

static wisp_status read_weights(wisp_hf *hf, const char *folder, const wisp_hf_config *config) {
  wisp_gguf_tensor *tensors = NULL;
  uint64_t count = 0;
  WISP_TRY(wisp_checkpoint_open(&hf->checkpoint, hf->host, folder));
  WISP_TRY(wisp_hf_tensors(&hf->checkpoint, config, &hf->arena, &tensors, &count));
  return wisp_gguf_set_tensors(&hf->gguf, tensors, count);
}

static wisp_status open_folder(wisp_hf *hf, const char *folder, bool vocabulary_only) {
  const char *path = wisp_arena_print(&hf->arena, "%s/config.json", folder);
  if (!path) return wisp_fail_memory(hf->host, "a path", strlen(folder));
  if (!wisp_file_exists(path))
    return wisp_fail(hf->host, WISP_ERROR_IO,
                     "%s: a folder without config.json is no Hugging Face model; name a model file, or a folder that has one",
                     folder);
  wisp_json json;
  wisp_hf_config config = {0};
  WISP_TRY(wisp_json_open(&json, hf->host, path, true));
  wisp_status status = read_metadata(hf, folder, &json, &config);
  wisp_json_close(&json);
  if (status == WISP_OK && !vocabulary_only) status = read_weights(hf, folder, &config);
  return status;
}

wisp_status wisp_hf_open(wisp_hf *hf, const wisp_host *host, const char *folder, bool vocabulary_only) {
  *hf = (wisp_hf){.host = host, .arena = {.host = host}};
  wisp_status status = open_folder(hf, folder, vocabulary_only);
  if (status != WISP_OK) wisp_hf_close(hf);
  return status;
}

void wisp_hf_close(wisp_hf *hf) {
  wisp_gguf_close(&hf->gguf);
  wisp_fields_free(&hf->fields);
  wisp_checkpoint_close(&hf->checkpoint);
  wisp_arena_free(&hf->arena);
  *hf = (wisp_hf){0};
}
