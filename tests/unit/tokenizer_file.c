/* SPDX-License-Identifier: Apache-2.0 */
#include "unit/tokenizer_file.h"

#include <criterion/criterion.h>

void tokenizer_file_path(tokenizer_file *file, const char *path) {
  *file = (tokenizer_file){0};
  file->host = capture_host(&file->capture);
  wisp_model_source source = {.path = path, .fd = -1};
  cr_assert(wisp_bytes_open(&file->bytes, &file->host, &source) == WISP_OK,
            "%s (tools/fetch_model.sh fetches the default model)", file->capture.error);
  cr_assert(wisp_gguf_open(&file->gguf, &file->host, &file->bytes) == WISP_OK, "%s", file->capture.error);
  cr_assert(wisp_tokenizer_create(&file->tokenizer, &file->host, &file->gguf) == WISP_OK, "%s", file->capture.error);
  cr_assert_not_null(file->tokenizer);
}

void tokenizer_file_default_model(tokenizer_file *file) {
  char path[1024];
  const char *named = getenv("WISP_TEST_MODEL"), *home = getenv("HOME");
  snprintf(path, sizeof path, "%s/.cache/wisp/SmolLM2-135M-Instruct.Q4_1.gguf", home ? home : ".");
  tokenizer_file_path(file, named ? named : path);
}

wisp_status tokenizer_file_built(tokenizer_file *file, gguf_builder *builder) {
  size_t size;
  *file = (tokenizer_file){0};
  file->host = capture_host(&file->capture);
  file->built = gguf_finish(builder, &size);
  gguf_end(builder);
  wisp_model_source source = {.data = file->built, .size = size, .fd = -1};
  cr_assert(wisp_bytes_open(&file->bytes, &file->host, &source) == WISP_OK, "%s", file->capture.error);
  cr_assert(wisp_gguf_open(&file->gguf, &file->host, &file->bytes) == WISP_OK, "%s", file->capture.error);
  return wisp_tokenizer_create(&file->tokenizer, &file->host, &file->gguf);
}

void tokenizer_file_close(tokenizer_file *file) {
  wisp_tokenizer_destroy(&file->tokenizer);
  wisp_gguf_close(&file->gguf);
  wisp_bytes_close(&file->bytes, &file->host);
  free(file->built);
  cr_assert_eq(file->capture.live, 0, "%ld blocks were not freed", file->capture.live);
}
