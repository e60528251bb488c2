/* SPDX-License-Identifier: Apache-2.0
 * Block-quantised matrices laid out for integer dot products: rows in tiles, so that one vector holds weights of all rows of a
 * tile and sums need no reduction across lanes.
 *
 * A tile is [cols / 32] blocks, a block is
 *   f16 scales[rows], [f16 minima[rows] or second scales[rows]], quants
 * with quants in groups of `group` columns: element (row, column in the group) at row * group + column. Byte formats store an
 * element as a signed byte; nibble formats keep groups 2g (low) and 2g + 1 (high) in the same bytes. Rows behind the matrix's
 * last have scale 0. */
#ifndef WISP_CPU_PACK_H
#define WISP_CPU_PACK_H

#include "model/model.h"

typedef struct wisp_packing {
  uint32_t rows;  /* of a tile: 8 or 16 */
  uint32_t group; /* columns of a row side by side: 2, 4 or 8 */
} wisp_packing;

typedef enum wisp_packed_format {
  WISP_PACKED_NONE,
  WISP_PACKED_NIBBLES,     /* (q - 8) * scale: q4_0 */
  WISP_PACKED_NIBBLES_MIN, /* q * scale + minimum: q4_1, q4_k */
  WISP_PACKED_BYTES,       /* q * scale: q5_0, q8_0 */
  WISP_PACKED_BYTES_MIN,   /* q * scale + minimum: q5_1, q5_k */
  WISP_PACKED_BYTES_HALVES /* q * scale, a scale for each 16 columns: q6_k */
} wisp_packed_format;

typedef struct wisp_packed {
  wisp_packed_format format; /* NONE: the matrix is used as it is in the file */
  uint32_t rows, cols;
  const uint8_t *tiles;
  size_t block_bytes, tile_bytes;
} wisp_packed;

/* The format for a type, NONE where it is not block-quantised. Scales of the K types become f16. */
wisp_packed_format wisp_packed_format_of(wisp_dtype dtype);

/* What the struct will say of matrix, tiles aside; the tiles take wisp_packed_bytes. */
wisp_packed wisp_packed_plan(const wisp_matrix *matrix, wisp_packing packing);
size_t wisp_packed_bytes(const wisp_packed *packed, wisp_packing packing);

static inline uint32_t wisp_packed_tiles(const wisp_packed *packed, wisp_packing packing) {
  return (packed->rows + packing.rows - 1) / packing.rows;
}

/* Writes tiles [begin, end) to tiles, which points at tile 0. Thread-safe for distinct tiles. */
void wisp_pack_tiles(const wisp_packed *packed, wisp_packing packing, const wisp_matrix *matrix, uint32_t begin, uint32_t end,
                     uint8_t *tiles);

#endif
