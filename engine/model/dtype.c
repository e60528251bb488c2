/* SPDX-License-Identifier: Apache-2.0
 * The table of element types, and the unblocked ones. */
#include "model/dtype.h"

#include <string.h>

#include "base/little_endian.h"
#include "model/quant.h"

static void dequantize_f32(const void *blocks, float *weights, size_t count) {
  for (size_t i = 0; i < count; i++) weights[i] = wisp_load_f32((const uint8_t *)blocks + 4 * i);
}

static void dequantize_f16(const void *blocks, float *weights, size_t count) {
  for (size_t i = 0; i < count; i++) weights[i] = wisp_f16_to_f32(wisp_load_u16((const uint8_t *)blocks + 2 * i));
}

static void dequantize_bf16(const void *blocks, float *weights, size_t count) {
  for (size_t i = 0; i < count; i++) weights[i] = wisp_bf16_to_f32(wisp_load_u16((const uint8_t *)blocks + 2 * i));
}

static void quantize_f32(const float *weights, void *blocks, size_t count) {
  for (size_t i = 0; i < count; i++) wisp_store_u32((uint8_t *)blocks + 4 * i, wisp_bits_of_float(weights[i]));
}

static void quantize_f16(const float *weights, void *blocks, size_t count) {
  for (size_t i = 0; i < count; i++) wisp_store_u16((uint8_t *)blocks + 2 * i, wisp_f32_to_f16(weights[i]));
}

static void quantize_bf16(const float *weights, void *blocks, size_t count) {
  for (size_t i = 0; i < count; i++) wisp_store_u16((uint8_t *)blocks + 2 * i, wisp_f32_to_bf16(weights[i]));
}

/* clang-format off */
static const wisp_dtype_info infos[] = {
    {WISP_F32,  "f32",    1,   4, dequantize_f32,       quantize_f32, NULL},
    {WISP_F16,  "f16",    1,   2, dequantize_f16,       quantize_f16, NULL},
    {WISP_BF16, "bf16",   1,   2, dequantize_bf16,      quantize_bf16, NULL},
    {WISP_Q4_0, "q4_0",  32,  18, wisp_dequantize_q4_0, wisp_quantize_q4_0, wisp_fit_q4_0},
    {WISP_Q4_1, "q4_1",  32,  20, wisp_dequantize_q4_1, wisp_quantize_q4_1, wisp_fit_q4_1},
    {WISP_Q5_0, "q5_0",  32,  22, wisp_dequantize_q5_0, wisp_quantize_q5_0, wisp_fit_q5_0},
    {WISP_Q5_1, "q5_1",  32,  24, wisp_dequantize_q5_1, wisp_quantize_q5_1, wisp_fit_q5_1},
    {WISP_Q8_0, "q8_0",  32,  34, wisp_dequantize_q8_0, wisp_quantize_q8_0, NULL},
    {WISP_Q4_K, "q4_k", 256, 144, wisp_dequantize_q4_k, NULL, wisp_fit_q4_k},
    {WISP_Q5_K, "q5_k", 256, 176, wisp_dequantize_q5_k, NULL, wisp_fit_q5_k},
    {WISP_Q6_K, "q6_k", 256, 210, wisp_dequantize_q6_k, NULL, wisp_fit_q6_k},
};
/* clang-format on */

enum { INFO_COUNT = sizeof infos / sizeof *infos };

const wisp_dtype_info *wisp_dtype_find(uint32_t gguf_type) {
  for (int i = 0; i < INFO_COUNT; i++) {
    if ((uint32_t)infos[i].dtype == gguf_type) return &infos[i];
  }
  return NULL;
}

const wisp_dtype_info *wisp_dtype_by_name(const char *name) {
  for (int i = 0; i < INFO_COUNT; i++) {
    if (strcmp(infos[i].name, name) == 0) return &infos[i];
  }
  return NULL;
}
