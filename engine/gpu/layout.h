/* SPDX-License-Identifier: Apache-2.0
 * How weights lie on the device (shaders/shared/kernel.h, WISP_LAYOUT_*): quants and scales apart, rows in tiles of 8,
 * padded to whole blocks of 32 weights, 32-bit words read 128 bits at a time. Every file type maps to one layout; Q4_0, Q4_1,
 * Q5_0, Q5_1, Q8_0, F16, BF16 and F32 keep their values exactly, the K types get their scales rounded to f16. */
#ifndef WISP_GPU_LAYOUT_H
#define WISP_GPU_LAYOUT_H

#include "model/model.h"

typedef struct wisp_layout {
  uint32_t id;          /* WISP_LAYOUT_* */
  const char *name;     /* "q4s" */
  uint32_t quant_bytes; /* of a block of 32 weights */
  uint32_t scale_bytes; /* of a block: 0, 2 or 4 */
} wisp_layout;

const wisp_layout *wisp_layout_for(const wisp_dtype_info *type);

static inline uint32_t wisp_layout_row_blocks(uint32_t cols) {
  return (cols + 31) / 32;
}

/* Rows with those that fill the last tile. */
static inline uint64_t wisp_layout_tiled_rows(uint64_t rows) {
  return (rows + 7) / 8 * 8;
}

/* Rows [begin, end) of matrix, begin a multiple of 8: quants gets wisp_layout_tiled_rows(end - begin) * row_blocks *
 * quant_bytes, scales likewise; written in order, both may be unaligned. */
void wisp_layout_repack(const wisp_layout *layout, const wisp_matrix *matrix, uint32_t begin, uint32_t end, uint8_t *quants,
                        uint8_t *scales);

#endif
