/* SPDX-License-Identifier: Apache-2.0
 * A tokenizer and the file under it, for tests. */
#ifndef WISP_TESTS_TOKENIZER_FILE_H
#define WISP_TESTS_TOKENIZER_FILE_H

#include "tokenizer/tokenizer.h"
#include "unit/capture.h"
#include "unit/gguf_builder.h"

typedef struct tokenizer_file {
  capture capture;
  wisp_host host;
  uint8_t *built; /* bytes of a builder's file */
  wisp_bytes bytes;
  wisp_gguf gguf;
  wisp_tokenizer *tokenizer;
} tokenizer_file;

/* $WISP_TEST_MODEL, or the default model in the cache; fails the test where it is missing. */
void tokenizer_file_default_model(tokenizer_file *file);
void tokenizer_file_path(tokenizer_file *file, const char *path);

/* Ends the builder. The status is that of wisp_tokenizer_create. */
wisp_status tokenizer_file_built(tokenizer_file *file, gguf_builder *builder);
void tokenizer_file_close(tokenizer_file *file);

#endif
