/* SPDX-License-Identifier: Apache-2.0 */
#include "gpu/layout.h"

#include <string.h>

#include "base/little_endian.h"
#include "shared/kernel.h"

static const wisp_layout layouts[] = {
    [WISP_LAYOUT_F32] = {WISP_LAYOUT_F32, "f32", 128, 0},   [WISP_LAYOUT_F16] = {WISP_LAYOUT_F16, "f16", 64, 0},
    [WISP_LAYOUT_BF16] = {WISP_LAYOUT_BF16, "bf16", 64, 0}, [WISP_LAYOUT_Q4S] = {WISP_LAYOUT_Q4S, "q4s", 16, 2},
    [WISP_LAYOUT_Q4A] = {WISP_LAYOUT_Q4A, "q4a", 16, 4},    [WISP_LAYOUT_Q8S] = {WISP_LAYOUT_Q8S, "q8s", 32, 2},
    [WISP_LAYOUT_Q8A] = {WISP_LAYOUT_Q8A, "q8a", 32, 4},    [WISP_LAYOUT_Q8H] = {WISP_LAYOUT_Q8H, "q8h", 32, 4},
};

const wisp_layout *wisp_layout_for(const wisp_dtype_info *type) {
  switch (type->dtype) {
  case WISP_F32:
    return &layouts[WISP_LAYOUT_F32];
  case WISP_F16:
    return &layouts[WISP_LAYOUT_F16];
  case WISP_BF16:
    return &layouts[WISP_LAYOUT_BF16];
  case WISP_Q4_0:
    return &layouts[WISP_LAYOUT_Q4S];
  case WISP_Q4_1:
  case WISP_Q4_K:
    return &layouts[WISP_LAYOUT_Q4A];
  case WISP_Q5_0:
  case WISP_Q8_0:
    return &layouts[WISP_LAYOUT_Q8S];
  case WISP_Q5_1:
  case WISP_Q5_K:
    return &layouts[WISP_LAYOUT_Q8A];
  case WISP_Q6_K:
    return &layouts[WISP_LAYOUT_Q8H];
  }
  return NULL;
}

static uint16_t load16(const uint8_t *bytes) {
  uint16_t value;
  memcpy(&value, bytes, sizeof value);
  return value;
}

/* The low nibbles of 8 bytes, side by side in 4 bytes: halved by halves. */
static uint32_t pack_nibbles(uint64_t bytes) {
  bytes &= 0x0f0f0f0f0f0f0f0fu;
  bytes = (bytes | bytes >> 4) & 0x00ff00ff00ff00ffu;
  bytes = (bytes | bytes >> 8) & 0x0000ffff0000ffffu;
  return (uint32_t)(bytes | bytes >> 16);
}

/* Nibbles in file order (byte j holds weights j and j + 16) to device order (nibble j % 8 of word j / 8). */
static void reorder_nibbles(const uint8_t *file, uint8_t *device) {
  for (int half = 0; half < 2; half++) {
    const uint64_t bytes = wisp_load_u64(file + 8 * half);
    wisp_store_u32(device + 4 * half, pack_nibbles(bytes));
    wisp_store_u32(device + 8 + 4 * half, pack_nibbles(bytes >> 4));
  }
}

static void widen_5_bit(const uint8_t *high, const uint8_t *low, int offset, uint8_t *device) {
  uint32_t bits;
  memcpy(&bits, high, sizeof bits);
  for (int j = 0; j < 16; j++) {
    device[j] = (uint8_t)((int)((low[j] & 15) | ((bits >> j & 1) << 4)) - offset);
    device[j + 16] = (uint8_t)((int)((low[j] >> 4) | ((bits >> (j + 16) & 1) << 4)) - offset);
  }
}

static void store_halves(uint8_t *scale, float first, float second) {
  const uint16_t pair[2] = {wisp_f32_to_f16(first), wisp_f32_to_f16(second)};
  memcpy(scale, pair, sizeof pair);
}

/* 6-bit scale and minimum of sub-block j of Q4_K and Q5_K. */
static void k_scale(const uint8_t *s, int j, int *scale, int *minimum) {
  *scale = j < 4 ? s[j] & 63 : (s[j + 4] & 15) | (s[j - 4] >> 6 << 4);
  *minimum = j < 4 ? s[j + 4] & 63 : s[j + 4] >> 4 | (s[j] >> 6 << 4);
}

/* Super-blocks of 256 weights become 8 blocks of 32. */
static void repack_q4_k(const uint8_t *file, uint8_t *quants, uint8_t *scales) {
  const float d = wisp_f16_to_f32(load16(file)), dmin = wisp_f16_to_f32(load16(file + 2));
  for (int j = 0; j < 8; j++) {
    int scale, minimum;
    k_scale(file + 4, j, &scale, &minimum);
    store_halves(scales + 4 * j, d * (float)scale, -dmin * (float)minimum);
    const uint8_t *low = file + 16 + 32 * (j / 2);
    for (int i = 0; i < 16; i++)
      quants[16 * j + i] = j % 2 ? (uint8_t)((low[2 * i] >> 4) | (low[2 * i + 1] & 0xf0))
                                 : (uint8_t)((low[2 * i] & 15) | (low[2 * i + 1] << 4));
  }
}

static void repack_q5_k(const uint8_t *file, uint8_t *quants, uint8_t *scales) {
  const float d = wisp_f16_to_f32(load16(file)), dmin = wisp_f16_to_f32(load16(file + 2));
  const uint8_t *high = file + 16;
  for (int j = 0; j < 8; j++) {
    int scale, minimum;
    k_scale(file + 4, j, &scale, &minimum);
    store_halves(scales + 4 * j, d * (float)scale, -dmin * (float)minimum);
    const uint8_t *low = file + 48 + 32 * (j / 2);
    for (int i = 0; i < 32; i++)
      quants[32 * j + i] = (uint8_t)((j % 2 ? low[i] >> 4 : low[i] & 15) | ((high[i] >> j & 1) << 4));
  }
}

static void repack_q6_k(const uint8_t *file, uint8_t *quants, uint8_t *scales) {
  const uint8_t *low = file, *high = file + 128;
  const int8_t *sub = (const int8_t *)file + 192;
  const float d = wisp_f16_to_f32(load16(file + 208));
  for (int half = 0; half < 2; half++, low += 64, high += 32, quants += 128)
    for (int l = 0; l < 32; l++) {
      quants[l] = (uint8_t)((int)((low[l] & 15) | ((high[l] & 3) << 4)) - 32);
      quants[l + 32] = (uint8_t)((int)((low[l + 32] & 15) | ((high[l] >> 2 & 3) << 4)) - 32);
      quants[l + 64] = (uint8_t)((int)((low[l] >> 4) | ((high[l] >> 4 & 3) << 4)) - 32);
      quants[l + 96] = (uint8_t)((int)((low[l + 32] >> 4) | ((high[l] >> 6) << 4)) - 32);
    }
  for (int j = 0; j < 8; j++) store_halves(scales + 4 * j, d * (float)sub[2 * j], d * (float)sub[2 * j + 1]);
}

/* One file block (32 or 256 weights) to its device blocks. */
static void repack_block(wisp_dtype type, const uint8_t *file, uint8_t *quants, uint8_t *scales) {
  switch (type) {
  case WISP_Q4_0:
    memcpy(scales, file, 2);
    reorder_nibbles(file + 2, quants);
    break;
  case WISP_Q4_1:
    memcpy(scales, file, 4);
    reorder_nibbles(file + 4, quants);
    break;
  case WISP_Q5_0:
    memcpy(scales, file, 2);
    widen_5_bit(file + 2, file + 6, 16, quants);
    break;
  case WISP_Q5_1:
    memcpy(scales, file, 4);
    widen_5_bit(file + 4, file + 8, 0, quants);
    break;
  case WISP_Q8_0:
    memcpy(scales, file, 2);
    memcpy(quants, file + 2, 32);
    break;
  case WISP_Q4_K:
    repack_q4_k(file, quants, scales);
    break;
  case WISP_Q5_K:
    repack_q5_k(file, quants, scales);
    break;
  case WISP_Q6_K:
    repack_q6_k(file, quants, scales);
    break;
  case WISP_F32:
  case WISP_F16:
  case WISP_BF16:
    break; /* copied by rows */
  }
}

enum { TILE = WISP_ROW_TILE, MAX_BLOCKS = 8 /* device blocks of a file block */ };

/* A file block of each of the tile's rows, repacked, then written in device order. */
typedef struct tile {
  uint8_t quants[TILE][MAX_BLOCKS * 128];
  uint8_t scales[TILE][MAX_BLOCKS * 4];
} tile;

static void write_tile(const wisp_layout *layout, const tile *t, uint32_t blocks, uint8_t **quants, uint8_t **scales) {
  for (uint32_t b = 0; b < blocks; b++) {
    for (uint32_t v = 0; v < layout->quant_bytes; v += 16)
      for (uint32_t r = 0; r < TILE; r++, *quants += 16) memcpy(*quants, t->quants[r] + b * layout->quant_bytes + v, 16);
    for (uint32_t r = 0; r < TILE && layout->scale_bytes == 2; r++, *scales += 2) memcpy(*scales, t->scales[r] + 2 * b, 2);
    for (uint32_t r = 0; r < TILE && layout->scale_bytes == 4; r++, *scales += 4) memcpy(*scales, t->scales[r] + 4 * b, 4);
  }
}

void wisp_layout_repack(const wisp_layout *layout, const wisp_matrix *matrix, uint32_t begin, uint32_t end, uint8_t *quants,
                        uint8_t *scales) {
  const uint64_t row_bytes = wisp_matrix_row_bytes(matrix);
  const bool scalar = matrix->type->block_weights == 1;
  const uint32_t file_blocks = scalar ? wisp_layout_row_blocks(matrix->cols) : matrix->cols / matrix->type->block_weights;
  const uint32_t blocks_each = scalar ? 1 : matrix->type->block_weights / 32;
  const uint32_t file_block_bytes = scalar ? 32 * matrix->type->block_bytes : matrix->type->block_bytes;
  for (uint32_t first = begin; first < end; first += TILE) {
    tile t;
    if (end - first < TILE) memset(&t, 0, sizeof t); /* rows past the end are zero, as are columns past the row */
    for (uint32_t b = 0; b < file_blocks; b++) {
      for (uint32_t r = 0; r < TILE && first + r < end; r++) {
        const uint8_t *file = matrix->data + (first + r) * row_bytes + (uint64_t)b * file_block_bytes;
        if (!scalar) {
          repack_block(matrix->type->dtype, file, t.quants[r], t.scales[r]);
          continue;
        }
        const uint64_t left = row_bytes - (uint64_t)b * file_block_bytes;
        memcpy(t.quants[r], file, left < file_block_bytes ? left : file_block_bytes);
        if (left < file_block_bytes) memset(t.quants[r] + left, 0, file_block_bytes - left);
      }
      write_tile(layout, &t, blocks_each, &quants, &scales);
    }
  }
}
