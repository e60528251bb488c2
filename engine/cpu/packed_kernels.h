/* SPDX-License-Identifier: Apache-2.0
 * Integer products of packed weights with codes. Like vector_kernels.h a source that each instruction set includes once. It has
 *   TILE_ROWS, GROUP, COLUMNS  of its packing; columns that are multiplied at a time
 *   rows_t      a float for each row: rows_zero, rows_load_f16, rows_scaled (times a number), rows_fma, rows_fma_scaled,
 * rows_store weights_t   a group of columns of all rows: weights_bytes, weights_nibbles (two groups) sums_t      integer sums:
 * sums_zero, sums_dot(sums, weights, codes of the group), sums_rows (less an offset, as floats) */
#include <string.h>

enum { AHEAD = 2048 }; /* bytes */

#define INLINE static inline __attribute__((always_inline))

/* Adds a block's groups [from, to) to the sums of columns. */
INLINE void add_groups(const bool nibbles, const uint32_t columns, const uint32_t from, const uint32_t to,
                       const uint8_t *quants, const int16_t *const *codes, sums_t *sums) {
  const uint32_t step = nibbles ? 2 : 1;
  /* Not unrolled further: gcc would sort all the additions anew and run out of registers. */
#pragma GCC unroll 1
  for (uint32_t group = from; group < to; group += step) {
    weights_t weights[2];
    if (nibbles)
      weights_nibbles(quants + group / 2 * TILE_ROWS * GROUP, weights);
    else
      weights[0] = weights_bytes(quants + group * TILE_ROWS * GROUP);
#pragma GCC unroll 8
    for (uint32_t c = 0; c < columns; c++)
#pragma GCC unroll 2
      for (uint32_t k = 0; k < step; k++) sums[c] = sums_dot(sums[c], weights[k], codes[c] + (group + k) * GROUP);
  }
}

/* A tile for columns inputs: TILE_ROWS floats each. */
INLINE void tile_product(const wisp_packed_format format, const uint32_t columns, const uint8_t *block, size_t block_bytes,
                         const int16_t *codes, const wisp_code_scale *scales, size_t cols, rows_t *y) {
  const bool nibbles = format == WISP_PACKED_NIBBLES || format == WISP_PACKED_NIBBLES_MIN;
  const bool minimum = format == WISP_PACKED_NIBBLES_MIN || format == WISP_PACKED_BYTES_MIN;
  const bool halves = format == WISP_PACKED_BYTES_HALVES;
  const uint32_t groups = WISP_CODE_BLOCK / GROUP, quants_at = 2 * TILE_ROWS * (minimum || halves ? 2 : 1);
  const size_t blocks = cols / WISP_CODE_BLOCK;
  const int16_t *x[8];
#pragma GCC unroll 8
  for (uint32_t c = 0; c < columns; c++) y[c] = rows_zero(), x[c] = codes + c * cols;
  for (size_t b = 0; b < blocks; b++, block += block_bytes, scales++) {
    /* A single column waits for memory, not for arithmetic: ask early, across the tiles' ends. */
    for (uint32_t i = 0; columns == 1 && i < quants_at + TILE_ROWS * (nibbles ? 16 : 32); i += 64)
      __builtin_prefetch(block + AHEAD + i);
    const uint16_t *factors = (const uint16_t *)(const void *)block;
    sums_t sums[8];
    for (uint32_t part = 0; part < (halves ? 2 : 1); part++) {
#pragma GCC unroll 8
      for (uint32_t c = 0; c < columns; c++) sums[c] = sums_zero();
      add_groups(nibbles, columns, part * groups / 2, halves ? (part + 1) * groups / 2 : groups, block + quants_at, x, sums);
      const rows_t scale = rows_load_f16(factors + part * TILE_ROWS);
#pragma GCC unroll 8
      for (uint32_t c = 0; c < columns; c++) {
        const wisp_code_scale *s = scales + c * blocks;
        const rows_t product = sums_rows(sums[c], format == WISP_PACKED_NIBBLES ? 8 * s->sum : 0);
        y[c] = rows_fma(product, rows_scaled(scale, s->scale), y[c]);
      }
    }
    if (minimum) {
      const rows_t shift = rows_load_f16(factors + TILE_ROWS);
#pragma GCC unroll 8
      for (uint32_t c = 0; c < columns; c++) y[c] = rows_fma_scaled(shift, scales[c * blocks].shift, y[c]);
    }
#pragma GCC unroll 8
    for (uint32_t c = 0; c < columns; c++) x[c] += WISP_CODE_BLOCK;
  }
}

INLINE void tiles_product(const wisp_packed_format format, const uint32_t columns, const wisp_packed *matrix,
                          uint32_t row_begin, uint32_t row_end, const int16_t *codes, const wisp_code_scale *scales, float *y,
                          size_t stride) {
  for (uint32_t r = row_begin; r < row_end; r += TILE_ROWS) {
    rows_t sums[8];
    tile_product(format, columns, matrix->tiles + r / TILE_ROWS * matrix->tile_bytes, matrix->block_bytes, codes, scales,
                 matrix->cols, sums);
#pragma GCC unroll 8
    for (uint32_t c = 0; c < columns; c++) {
      if (r + TILE_ROWS <= row_end) {
        rows_store(y + c * stride + r, sums[c]);
      } else {
        float lanes[TILE_ROWS];
        rows_store(lanes, sums[c]);
        memcpy(y + c * stride + r, lanes, (row_end - r) * sizeof *y);
      }
    }
  }
}

/* Columns in groups of COLUMNS, each group over some tiles, so that both weights and codes stay in the nearest cache. */
INLINE void product(const wisp_packed_format format, const wisp_packed *matrix, uint32_t row_begin, uint32_t row_end,
                    const wisp_codes *x, uint32_t count, float *y, size_t stride) {
  const size_t cols = matrix->cols, blocks = cols / WISP_CODE_BLOCK;
  const uint32_t rows = count < COLUMNS ? row_end - row_begin : TILE_ROWS;
  for (uint32_t r = row_begin; r < row_end; r += rows) {
    const uint32_t end = r + rows < row_end ? r + rows : row_end;
    uint32_t c = 0;
    for (; c + COLUMNS <= count; c += COLUMNS)
      tiles_product(format, COLUMNS, matrix, r, end, x->codes + c * cols, x->scales + c * blocks, y + c * stride, stride);
    for (; c < count; c++)
      tiles_product(format, 1, matrix, r, end, x->codes + c * cols, x->scales + c * blocks, y + c * stride, stride);
  }
}

static void packed_matmul(const wisp_packed *matrix, uint32_t row_begin, uint32_t row_end, const wisp_codes *x, uint32_t count,
                          float *y, size_t stride) {
  switch (matrix->format) {
  case WISP_PACKED_NIBBLES:
    product(WISP_PACKED_NIBBLES, matrix, row_begin, row_end, x, count, y, stride);
    break;
  case WISP_PACKED_NIBBLES_MIN:
    product(WISP_PACKED_NIBBLES_MIN, matrix, row_begin, row_end, x, count, y, stride);
    break;
  case WISP_PACKED_BYTES:
    product(WISP_PACKED_BYTES, matrix, row_begin, row_end, x, count, y, stride);
    break;
  case WISP_PACKED_BYTES_MIN:
    product(WISP_PACKED_BYTES_MIN, matrix, row_begin, row_end, x, count, y, stride);
    break;
  case WISP_PACKED_BYTES_HALVES:
    product(WISP_PACKED_BYTES_HALVES, matrix, row_begin, row_end, x, count, y, stride);
    break;
  case WISP_PACKED_NONE:
    break;
  }
}
