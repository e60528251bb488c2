/* SPDX-License-Identifier: Apache-2.0
 * Tensor element types, by their GGUF numbers, and the plain C dequantisation of each: the reference for everything else.
 * Formulas: ggml docs/gguf.md and ggml-common.h; docs/formats.md repeats them. */
#ifndef WISP_MODEL_DTYPE_H
#define WISP_MODEL_DTYPE_H

#include <stddef.h>
#include <stdint.h>

typedef enum wisp_dtype {
  WISP_F32 = 0,
  WISP_F16 = 1,
  WISP_Q4_0 = 2,
  WISP_Q4_1 = 3,
  WISP_Q5_0 = 6,
  WISP_Q5_1 = 7,
  WISP_Q8_0 = 8,
  WISP_Q4_K = 12,
  WISP_Q5_K = 13,
  WISP_Q6_K = 14,
  WISP_BF16 = 30
} wisp_dtype;

typedef struct wisp_dtype_info {
  wisp_dtype dtype;
  const char *name;       /* "q4_0" */
  uint32_t block_weights; /* weights in a block: 1, 32 or 256; a row is a whole number of blocks */
  uint32_t block_bytes;
  void (*dequantize)(const void *blocks, float *weights, size_t count); /* count: weights, a multiple of block_weights */
  void (*quantize)(const float *weights, void *blocks, size_t count);   /* plain rounding; NULL where the format defines none */
  /* Searches the scales with the smallest error, weighted by importance (count >= 0 each, NULL = all alike); NULL where plain
   * rounding leaves nothing to find. */
  void (*fit)(const float *weights, const float *importance, void *blocks, size_t count);
} wisp_dtype_info;

const wisp_dtype_info *wisp_dtype_find(uint32_t gguf_type);  /* NULL if unknown */
const wisp_dtype_info *wisp_dtype_by_name(const char *name); /* lower case; NULL if unknown */

/* IEEE half and bfloat16 with round to nearest even; infinities and NaN kept, subnormals exact. */
float wisp_f16_to_f32(uint16_t half);
uint16_t wisp_f32_to_f16(float value);
float wisp_bf16_to_f32(uint16_t half);
uint16_t wisp_f32_to_bf16(float value);

#endif
