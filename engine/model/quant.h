/* SPDX-License-Identifier: Apache-2.0
 * Private to dtype.c: the block formats' functions, as wisp_dtype_info holds them. Layouts: docs/formats.md. */
#ifndef WISP_MODEL_QUANT_H
#define WISP_MODEL_QUANT_H

#include <stddef.h>

void wisp_dequantize_q4_0(const void *blocks, float *weights, size_t count);
void wisp_dequantize_q4_1(const void *blocks, float *weights, size_t count);
void wisp_dequantize_q5_0(const void *blocks, float *weights, size_t count);
void wisp_dequantize_q5_1(const void *blocks, float *weights, size_t count);
void wisp_dequantize_q8_0(const void *blocks, float *weights, size_t count);
void wisp_dequantize_q4_k(const void *blocks, float *weights, size_t count);
void wisp_dequantize_q5_k(const void *blocks, float *weights, size_t count);
void wisp_dequantize_q6_k(const void *blocks, float *weights, size_t count);

void wisp_quantize_q4_0(const float *weights, void *blocks, size_t count);
void wisp_quantize_q4_1(const float *weights, void *blocks, size_t count);
void wisp_quantize_q5_0(const float *weights, void *blocks, size_t count);
void wisp_quantize_q5_1(const float *weights, void *blocks, size_t count);
void wisp_quantize_q8_0(const float *weights, void *blocks, size_t count);

#endif
