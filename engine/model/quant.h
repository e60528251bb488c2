/* SPDX-License-Identifier: Apache-2.0
 * The block formats' functions, most as wisp_dtype_info holds them. Layouts: docs/formats.md. */
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

/* Searched scales: importance [count] of each weight, or NULL. The four below are never worse than plain rounding. */
void wisp_fit_q4_0(const float *weights, const float *importance, void *blocks, size_t count);
void wisp_fit_q4_1(const float *weights, const float *importance, void *blocks, size_t count);
void wisp_fit_q5_0(const float *weights, const float *importance, void *blocks, size_t count);
void wisp_fit_q5_1(const float *weights, const float *importance, void *blocks, size_t count);
void wisp_fit_q4_k(const float *weights, const float *importance, void *blocks, size_t count);
void wisp_fit_q5_k(const float *weights, const float *importance, void *blocks, size_t count);
void wisp_fit_q6_k(const float *weights, const float *importance, void *blocks, size_t count);

/* A row of w8a8 as q8_0: every block has the row's scale, largest magnitude / 127 rounded to f16; ties to even. */
void wisp_quantize_q8_0_row(const float *weights, void *blocks, size_t count);

#endif
