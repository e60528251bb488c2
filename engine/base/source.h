/* SPDX-License-Identifier: Apache-2.0
 * The bytes of a model file, wherever they come from: mapped where possible, read into memory elsewhere. */
#ifndef WISP_BASE_SOURCE_H
#define WISP_BASE_SOURCE_H

#include "base/host.h"

typedef struct wisp_bytes {
  const uint8_t *data;
  uint64_t size;
  char *name;      /* the path, or "(memory)", "(fd 5)", ...: for messages */
  void *mapping;   /* private: base of the mapping, or NULL */
  uint64_t mapped; /* private: its size */
  void *owned;     /* private: block read into memory, or NULL */
} wisp_bytes;

/* ARGUMENT unless exactly one kind of source is set. */
wisp_status wisp_source_check(const wisp_host *host, const wisp_model_source *source);

/* Opens source (its synthetic kind is ARGUMENT). A directory, an unreadable or an empty file fail with one clear line. */
wisp_status wisp_bytes_open(wisp_bytes *bytes, const wisp_host *host, const wisp_model_source *source);
void wisp_bytes_close(wisp_bytes *bytes, const wisp_host *host); /* accepts a zeroed struct */

/* The bytes [data, data + size) are not needed for a while: those that are mapped need no memory until they are read again.
 * data may lie elsewhere: then nothing happens. */
void wisp_bytes_release(const wisp_bytes *bytes, const void *data, uint64_t size);

bool wisp_is_folder(const char *path);
bool wisp_file_exists(const char *path); /* and is no folder */

#endif
