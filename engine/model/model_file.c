/* SPDX-License-Identifier: Apache-2.0 */
#include "model/model_file.h"

static wisp_status open_either(wisp_model_file *f, const wisp_host *host, const wisp_model_source *source,
                               bool vocabulary_only) {
  if (source->path && wisp_is_folder(source->path)) {
    f->gguf = &f->folder.gguf;
    return wisp_hf_open(&f->folder, host, source->path, vocabulary_only);
  }
  f->gguf = &f->file;
  WISP_TRY(wisp_bytes_open(&f->bytes, host, source));
  return wisp_gguf_open(&f->file, host, &f->bytes);
}

wisp_status wisp_model_file_open(wisp_model_file *file, const wisp_host *host, const wisp_model_source *source,
                                 bool vocabulary_only) {
  *file = (wisp_model_file){0};
  wisp_status status = open_either(file, host, source, vocabulary_only);
  if (status != WISP_OK) wisp_model_file_close(file, host);
  return status;
}

void wisp_model_file_release(const wisp_model_file *file, const void *data, uint64_t size) {
  wisp_bytes_release(&file->bytes, data, size);
  for (size_t i = 0; i < file->folder.checkpoint.file_count; i++)
    wisp_bytes_release(&file->folder.checkpoint.files[i], data, size);
}

void wisp_model_file_close(wisp_model_file *file, const wisp_host *host) {
  wisp_gguf_close(&file->file);
  wisp_bytes_close(&file->bytes, host);
  wisp_hf_close(&file->folder);
  *file = (wisp_model_file){0};
}
