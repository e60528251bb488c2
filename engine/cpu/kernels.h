/* SPDX-License-Identifier: Apache-2.0
 * The CPU's kernels as one table: filled with the plain C reference, then overwritten by what the processor has. All are pure:
 * no threads, no allocation, no state; outputs do not overlap inputs unless said. Every kernel treats a token alone as it
 * treats it in a batch, bit for bit. */
#ifndef WISP_CPU_KERNELS_H
#define WISP_CPU_KERNELS_H

#include "model/model.h"

/* x[cols] = row id < rows of the matrix. */
typedef void wisp_embed_fn(const wisp_matrix *matrix, uint32_t id, float *x);

/* y[n] = x * weight / sqrt(mean(x^2) + epsilon). y may be x; weight NULL = ones. */
typedef void wisp_rmsnorm_fn(const float *x, const float *weight, uint32_t n, float epsilon, float *y);

/* y[c * stride + r] = M[r] . x[c] for rows r in [row_begin, row_end) and columns c < count. x: [count][cols]; row: [cols]
 * scratch of this thread; y points at row 0 of column 0. */
typedef void wisp_matmul_fn(const wisp_matrix *matrix, uint32_t row_begin, uint32_t row_end, const float *x, uint32_t count,
                            float *row, float *y, size_t stride);

/* Turns the pairs (x[2i], x[2i+1]), i < pairs, by the angles of one position: turns[pairs] of (cos, sin), in place. */
typedef void wisp_rope_fn(float *x, const float *turns, uint32_t pairs);

/* Stores one position's K and V: values[2 * kv_width], K first, as f16 (round to nearest even) or f32. */
typedef void wisp_kv_write_fn(const float *values, uint32_t kv_width, wisp_kv_type type, void *position);

/* One slot of the cache: positions in a row, each K[kv_width] then V[kv_width]; kv_width = kv_heads * head_size. */
typedef struct wisp_kv_slot {
  const void *positions;
  wisp_kv_type type;
  uint32_t kv_width;
} wisp_kv_slot;

/* out[head_size] = softmax(q K' / sqrt(head_size)) V for one query head over positions [0, kv_length), kv_length >= 1.
 * scores: [kv_length] scratch of this thread. */
typedef void wisp_attention_fn(const float *q, const wisp_kv_slot *slot, uint32_t kv_head, uint32_t head_size,
                               uint32_t kv_length, float *scores, float *out);

/* gate[n] = activation(gate) * up: silu(g) = g / (1 + exp(-g)); gelu(g) = g / 2 (1 + tanh(sqrt(2 / pi) (g + 0.044715 g^3))). */
typedef void wisp_activation_fn(float *gate, const float *up, uint32_t n);

/* What a matrix of a w8a8 model is multiplied with, made of x[n] in place: the Walsh-Hadamard transform of each 32 numbers, if
 * n is a multiple of 32, then rounded to 8 bits under one scale and zero point: (q - z) * s with q in [0, 255], s = (high -
 * low) / 255, z = -low / s, where [low, high] spans all n and 0; to the nearest, ties to even. */
typedef void wisp_round_int8_fn(float *x, uint32_t n);

typedef struct wisp_cpu_kernels {
  const char *name; /* "c" */
  wisp_embed_fn *embed;
  wisp_rmsnorm_fn *rmsnorm;
  wisp_matmul_fn *matmul;
  wisp_rope_fn *rope;
  wisp_kv_write_fn *kv_write;
  wisp_attention_fn *attention;
  wisp_activation_fn *silu_mul, *gelu_mul;
  wisp_round_int8_fn *round_int8;
} wisp_cpu_kernels;

static inline size_t wisp_kv_type_bytes(wisp_kv_type type) {
  return type == WISP_KV_F16 ? 2 : 4;
}

#endif
