/* SPDX-License-Identifier: Apache-2.0 */
#include "cpu/pack.h"

#include <string.h>

#include "base/little_endian.h"

enum { BLOCK = 32 };

/* 32 weights of a row: q * scale + minimum; of q6_k with second as the scale of the last 16. */
typedef struct block32 {
  int8_t q[BLOCK];
  float scale, minimum, second;
} block32;

wisp_packed_format wisp_packed_format_of(wisp_dtype dtype) {
  switch (dtype) {
  case WISP_Q4_0:
    return WISP_PACKED_NIBBLES;
  case WISP_Q4_1:
  case WISP_Q4_K:
    return WISP_PACKED_NIBBLES_MIN;
  case WISP_Q5_0:
  case WISP_Q8_0:
    return WISP_PACKED_BYTES;
  case WISP_Q5_1:
  case WISP_Q5_K:
    return WISP_PACKED_BYTES_MIN;
  case WISP_Q6_K:
    return WISP_PACKED_BYTES_HALVES;
  case WISP_F32:
  case WISP_F16:
  case WISP_BF16:
    break;
  }
  return WISP_PACKED_NONE;
}

static bool has_nibbles(wisp_packed_format format) {
  return format == WISP_PACKED_NIBBLES || format == WISP_PACKED_NIBBLES_MIN;
}

static bool has_second(wisp_packed_format format) {
  return format == WISP_PACKED_NIBBLES_MIN || format == WISP_PACKED_BYTES_MIN || format == WISP_PACKED_BYTES_HALVES;
}

wisp_packed wisp_packed_plan(const wisp_matrix *matrix, wisp_packing packing) {
  wisp_packed packed = {.format = wisp_packed_format_of(matrix->type->dtype), .rows = matrix->rows, .cols = matrix->cols};
  const size_t vectors = has_second(packed.format) ? 2 : 1, quants = has_nibbles(packed.format) ? BLOCK / 2 : BLOCK;
  packed.block_bytes = packing.rows * (2 * vectors + quants);
  packed.tile_bytes = matrix->cols / BLOCK * packed.block_bytes;
  return packed;
}

size_t wisp_packed_bytes(const wisp_packed *packed, wisp_packing packing) {
  return packed->format ? wisp_packed_tiles(packed, packing) * packed->tile_bytes : 0;
}

/* ---- Blocks of the file: docs/formats.md ------------------------------------------------------------------------------ */

static float half_at(const uint8_t *p) {
  return wisp_f16_to_f32(wisp_load_u16(p));
}

static void nibbles(const uint8_t *quants, uint32_t fifth, int offset, int8_t *q) {
  for (int j = 0; j < BLOCK / 2; j++) {
    q[j] = (int8_t)(((quants[j] & 15) | (int)(fifth >> j & 1) << 4) - offset);
    q[j + 16] = (int8_t)((quants[j] >> 4 | (int)(fifth >> (j + 16) & 1) << 4) - offset);
  }
}

/* Q4_K and Q5_K: sub-block j of a block of 256. */
static void read_k(int bits, const uint8_t *block, uint32_t j, block32 *out) {
  const uint8_t *packed = block + 4, *quants = block + (bits == 5 ? 48 : 16) + 32 * (j / 2);
  int scale = packed[j] & 63, minimum = packed[j + 4] & 63;
  if (j >= 4) {
    scale = (packed[j + 4] & 15) | packed[j - 4] >> 6 << 4;
    minimum = packed[j + 4] >> 4 | packed[j] >> 6 << 4;
  }
  for (int i = 0; i < BLOCK; i++) {
    int q = quants[i] >> (j % 2 * 4) & 15;
    if (bits == 5) q |= (block[16 + i] >> j & 1) << 4;
    out->q[i] = (int8_t)q;
  }
  out->scale = half_at(block) * (float)scale;
  out->minimum = -half_at(block + 2) * (float)minimum;
}

static void read_q6_k(const uint8_t *block, uint32_t part, block32 *out) {
  const uint32_t half = part / 4, k = part % 4;
  const uint8_t *low = block + 64 * half + 32 * (k % 2), *high = block + 128 + 32 * half;
  for (int i = 0; i < BLOCK; i++) out->q[i] = (int8_t)(((low[i] >> (k / 2 * 4) & 15) | (high[i] >> (2 * k) & 3) << 4) - 32);
  out->scale = half_at(block + 208) * (float)(int8_t)block[192 + 2 * part];
  out->second = half_at(block + 208) * (float)(int8_t)block[192 + 2 * part + 1];
}

/* Columns 32 b to 32 b + 31 of a row. */
static void read_block(wisp_dtype dtype, const uint8_t *row, uint32_t b, block32 *out) {
  *out = (block32){.scale = 0};
  switch (dtype) {
  case WISP_Q4_0:
    nibbles(row + 18 * b + 2, 0, 0, out->q); /* the kernel takes 8 off */
    out->scale = half_at(row + 18 * b);
    break;
  case WISP_Q4_1:
    nibbles(row + 20 * b + 4, 0, 0, out->q);
    out->scale = half_at(row + 20 * b), out->minimum = half_at(row + 20 * b + 2);
    break;
  case WISP_Q5_0:
    nibbles(row + 22 * b + 6, wisp_load_u32(row + 22 * b + 2), 16, out->q);
    out->scale = half_at(row + 22 * b);
    break;
  case WISP_Q5_1:
    nibbles(row + 24 * b + 8, wisp_load_u32(row + 24 * b + 4), 0, out->q);
    out->scale = half_at(row + 24 * b), out->minimum = half_at(row + 24 * b + 2);
    break;
  case WISP_Q8_0:
    memcpy(out->q, row + 34 * b + 2, BLOCK);
    out->scale = half_at(row + 34 * b);
    break;
  case WISP_Q4_K:
    read_k(4, row + 144 * (b / 8), b % 8, out);
    break;
  case WISP_Q5_K:
    read_k(5, row + 176 * (b / 8), b % 8, out);
    break;
  case WISP_Q6_K:
    read_q6_k(row + 210 * (b / 8), b % 8, out);
    break;
  case WISP_F32:
  case WISP_F16:
  case WISP_BF16:
    break;
  }
}

/* ---- Tiles ------------------------------------------------------------------------------------------------------------ */

static void write_row(wisp_packed_format format, wisp_packing packing, const block32 *in, uint32_t row, uint8_t *block) {
  wisp_store_u16(block + 2 * row, wisp_f32_to_f16(in->scale));
  uint8_t *quants = block + 2 * packing.rows;
  if (has_second(format)) {
    wisp_store_u16(quants + 2 * row, wisp_f32_to_f16(format == WISP_PACKED_BYTES_HALVES ? in->second : in->minimum));
    quants += 2 * packing.rows;
  }
  const uint32_t group_bytes = packing.rows * packing.group;
  for (uint32_t i = 0; i < BLOCK; i++) {
    const uint32_t group = i / packing.group, element = row * packing.group + i % packing.group;
    if (has_nibbles(format)) {
      quants[group / 2 * group_bytes + element] |= (uint8_t)(in->q[i] << (group % 2 * 4));
    } else {
      quants[group * group_bytes + element] = (uint8_t)in->q[i];
    }
  }
}

void wisp_pack_tiles(const wisp_packed *packed, wisp_packing packing, const wisp_matrix *matrix, uint32_t begin, uint32_t end,
                     uint8_t *tiles) {
  memset(tiles + begin * packed->tile_bytes, 0, (end - begin) * packed->tile_bytes);
  for (uint32_t r = begin * packing.rows; r < end * packing.rows && r < packed->rows; r++) {
    const uint8_t *row = matrix->data + r * wisp_matrix_row_bytes(matrix);
    uint8_t *tile = tiles + r / packing.rows * packed->tile_bytes;
    for (uint32_t b = 0; b < packed->cols / BLOCK; b++) {
      block32 block;
      read_block(matrix->type->dtype, row, b, &block);
      write_row(packed->format, packing, &block, r % packing.rows, tile + b * packed->block_bytes);
    }
  }
}
