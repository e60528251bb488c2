/* SPDX-License-Identifier: Apache-2.0
 * Shared by gguf.c, gguf_value.c and gguf_write.c. */
#ifndef WISP_MODEL_GGUF_PRIVATE_H
#define WISP_MODEL_GGUF_PRIVATE_H

#include "model/gguf.h"

/* Bytes of one element; 0 where there is no fixed size. */
static const uint8_t wisp_gguf_type_bytes[] = {
    [WISP_GGUF_U8] = 1,  [WISP_GGUF_I8] = 1,  [WISP_GGUF_U16] = 2, [WISP_GGUF_I16] = 2,
    [WISP_GGUF_U32] = 4, [WISP_GGUF_I32] = 4, [WISP_GGUF_F32] = 4, [WISP_GGUF_BOOL] = 1,
    [WISP_GGUF_U64] = 8, [WISP_GGUF_I64] = 8, [WISP_GGUF_F64] = 8};

/* The order of the index: by bytes, a prefix first. */
static inline int wisp_text_compare(wisp_text a, wisp_text b) {
  uint64_t common = a.size < b.size ? a.size : b.size;
  for (uint64_t i = 0; i < common; i++) {
    if (a.bytes[i] != b.bytes[i]) return (unsigned char)a.bytes[i] < (unsigned char)b.bytes[i] ? -1 : 1;
  }
  return (a.size > b.size) - (a.size < b.size);
}

#endif
