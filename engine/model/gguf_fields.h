/* SPDX-License-Identifier: Apache-2.0
 * Metadata under construction: keys and values in GGUF's own bytes, so that what comes from elsewhere is read, checked and
 * written as what comes from a GGUF file. Running out of memory is kept in status; later calls do nothing. */
#ifndef WISP_MODEL_GGUF_FIELDS_H
#define WISP_MODEL_GGUF_FIELDS_H

#include <string.h>

#include "model/gguf.h"

typedef struct wisp_gguf_fields {
  const wisp_host *host;
  uint8_t *bytes; /* a GGUF file without tensors, once finished */
  size_t size, capacity;
  uint64_t count;
  size_t open_array; /* private: where its element count stands */
  wisp_status status;
} wisp_gguf_fields;

void wisp_fields_begin(wisp_gguf_fields *fields, const wisp_host *host);
void wisp_fields_free(wisp_gguf_fields *fields); /* accepts a zeroed struct */

void wisp_fields_u32(wisp_gguf_fields *fields, const char *key, uint32_t value);
void wisp_fields_f32(wisp_gguf_fields *fields, const char *key, float value);
void wisp_fields_bool(wisp_gguf_fields *fields, const char *key, bool value);
void wisp_fields_text(wisp_gguf_fields *fields, const char *key, wisp_text value);

/* An array: begin, then as many elements as there are. element: STRING, F32, I32 or BOOL. */
void wisp_fields_array(wisp_gguf_fields *fields, const char *key, wisp_gguf_type element);
void wisp_fields_add_text(wisp_gguf_fields *fields, wisp_text value);
void wisp_fields_add_f32(wisp_gguf_fields *fields, float value);
void wisp_fields_add_i32(wisp_gguf_fields *fields, int32_t value);
void wisp_fields_add_bool(wisp_gguf_fields *fields, bool value);

/* Completes the header. Returns status, which is logged here if it is a failure. */
wisp_status wisp_fields_finish(wisp_gguf_fields *fields);

static inline wisp_text wisp_text_of(const char *text) {
  return (wisp_text){text, strlen(text)};
}

#endif
