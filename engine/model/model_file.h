/* SPDX-License-Identifier: Apache-2.0
 * Where a model comes from, opened: a GGUF file, or a Hugging Face folder that looks like one from here on. */
#ifndef WISP_MODEL_MODEL_FILE_H
#define WISP_MODEL_MODEL_FILE_H

#include "model/hf.h"

typedef struct wisp_model_file {
  const wisp_gguf *gguf; /* one of the two below */
  wisp_bytes bytes;      /* private: of the GGUF file */
  wisp_gguf file;        /* private */
  wisp_hf folder;        /* private */
} wisp_model_file;

/* source: not its synthetic kind. vocabulary_only: of a folder, no weights are opened. host must outlive the struct, which must
 * not be moved. Errors: as wisp_bytes_open, wisp_gguf_open, wisp_hf_open. */
wisp_status wisp_model_file_open(wisp_model_file *file, const wisp_host *host, const wisp_model_source *source,
                                 bool vocabulary_only);
/* As wisp_bytes_release, of whatever files are open. */
void wisp_model_file_release(const wisp_model_file *file, const void *data, uint64_t size);
void wisp_model_file_close(wisp_model_file *file, const wisp_host *host); /* accepts a zeroed struct */

#endif
