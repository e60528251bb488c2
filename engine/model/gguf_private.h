/* SPDX-License-Identifier: Apache-2.0
 * Shared by gguf.c and gguf_value.c. */
#ifndef WISP_MODEL_GGUF_PRIVATE_H
#define WISP_MODEL_GGUF_PRIVATE_H

#include "model/gguf.h"

/* The order of the index: by bytes, a prefix first. */
static inline int wisp_text_compare(wisp_text a, wisp_text b) {
  uint64_t common = a.size < b.size ? a.size : b.size;
  for (uint64_t i = 0; i < common; i++) {
    if (a.bytes[i] != b.bytes[i]) return (unsigned char)a.bytes[i] < (unsigned char)b.bytes[i] ? -1 : 1;
  }
  return (a.size > b.size) - (a.size < b.size);
}

#endif
