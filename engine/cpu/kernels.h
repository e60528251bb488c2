/* SPDX-License-Identifier: Apache-2.0
 * The CPU's kernels as one table: filled with the plain C reference, then overwritten by what the processor has. All are pure:
 * no threads, no allocation, no state; outputs do not overlap inputs unless said. Every kernel treats a token alone as it
 * treats it in a batch, bit for bit. */
#ifndef WISP_CPU_KERNELS_H
#define WISP_CPU_KERNELS_H

#include "cpu/pack.h"
#include "model/kv.h"
#include "model/model.h"

/* x[cols] = row id < rows of the matrix. */
typedef void wisp_embed_fn(const wisp_matrix *matrix, uint32_t id, float *x);

/* y[n] = x * weight / sqrt(mean(x^2) + epsilon). y may be x; weight NULL = ones. */
typedef void wisp_rmsnorm_fn(const float *x, const float *weight, uint32_t n, float epsilon, float *y);

/* y[c * stride + r] = M[r] . x[c] for rows r in [row_begin, row_end) and columns c < count, in float. x: [count][cols]; rows:
 * [WISP_MATMUL_ROWS][cols] scratch of this thread; y points at row 0 of column 0. */
typedef void wisp_matmul_fn(const wisp_matrix *matrix, uint32_t row_begin, uint32_t row_end, const float *x, uint32_t count,
                            float *rows, float *y, size_t stride);
enum { WISP_MATMUL_ROWS = 8 };

/* Vectors rounded for integer dot products: in each block of 32, x = code * scale with 16-bit codes, the largest of them
 * +-WISP_CODE_MAX. Columns are a multiple of 32. A kernel set lays codes out as it likes: two bytes a column. */
enum { WISP_CODE_BLOCK = 32, WISP_CODE_MAX = 32512 }; /* 127 * 256: high bytes stay within a signed byte when rounded */
typedef struct wisp_code_scale {
  float scale;
  float shift; /* scale * sum: what a weight of 1 would give */
  int32_t sum; /* of the codes */
} wisp_code_scale;
typedef struct wisp_codes {
  int16_t *codes;          /* [count][cols] */
  wisp_code_scale *scales; /* [count][cols / 32] */
} wisp_codes;

/* Rounds x[n] to codes[n] and scales[n / 32]; to nearest, ties to even. step > 0: x are whole multiples of it, up to
 * WISP_CODE_MAX of them, which become the codes, exactly. */
typedef void wisp_quantize_fn(const float *x, uint32_t n, float step, int16_t *codes, wisp_code_scale *scales);

/* As wisp_matmul_fn, from packed weights and codes of the inputs. row_begin is a multiple of the packing's rows; x points at
 * column 0. Integer sums within a block are exact; blocks are added in float, in order. */
typedef void wisp_packed_matmul_fn(const wisp_packed *matrix, uint32_t row_begin, uint32_t row_end, const wisp_codes *x,
                                   uint32_t count, float *y, size_t stride);

/* Turns the pairs (x[2i], x[2i+1]), i < pairs, by the angles of one position: turns[pairs] of (cos, sin), in place. */
typedef void wisp_rope_fn(float *x, const float *turns, uint32_t pairs);

/* Stores one position's K and V, values[2 * kv_width], as a row of the cache (model/kv.h); to nearest, ties to even. */
typedef void wisp_kv_write_fn(const float *values, uint32_t kv_width, wisp_kv_type type, void *position);

/* One slot of the cache: positions one behind the other, each a row of model/kv.h; kv_width = kv_heads * head_size. */
typedef struct wisp_kv_slot {
  const void *positions;
  wisp_kv_type type;
  uint32_t kv_width;
} wisp_kv_slot;

/* out[queries][head_size] = softmax(q K' / sqrt(head_size)) V for the query heads q[queries][head_size] that share a head of K
 * and V, over positions [0, kv_length), kv_length >= 1. scores: [queries][wisp_scores_stride(kv_length)] scratch. */
typedef void wisp_attention_fn(const float *q, uint32_t queries, const wisp_kv_slot *slot, uint32_t kv_head, uint32_t head_size,
                               uint32_t kv_length, float *scores, float *out);

static inline size_t wisp_scores_stride(uint32_t kv_length) {
  return ((size_t)kv_length + 7) / 8 * 8;
}

/* Tokens of a prompt, one behind the other, and their query heads that share a head of K and V. */
typedef struct wisp_prompt {
  wisp_kv_slot slot; /* from position 0 on */
  uint32_t kv_head, head_size;
  uint32_t queries;  /* of a token; tokens * queries <= WISP_PROMPT_QUERIES */
  uint32_t tokens;   /* >= 1 */
  uint32_t position; /* of the first token */
  uint32_t window;   /* positions that a token sees, itself included; 0 = all */
  const float *q;    /* [tokens][stride], the first queries * head_size of each */
  float *out;        /* likewise */
  size_t stride;     /* floats */
} wisp_prompt;

enum { WISP_PROMPT_QUERIES = 32, WISP_PROMPT_TILE = 64 /* positions that are in the cache at a time */ };

/* As wisp_attention_fn for each token, bit for bit, with K and V read once for all of them. head_size is a multiple of 8.
 * scratch: wisp_prompt_scratch floats. */
typedef void wisp_prompt_attention_fn(const wisp_prompt *prompt, float *scratch);

/* kv_length: of the last token. */
static inline size_t wisp_prompt_scratch(uint32_t head_size, uint32_t kv_length) {
  return WISP_PROMPT_TILE * (size_t)head_size + WISP_PROMPT_QUERIES * (wisp_scores_stride(kv_length) + 8);
}

/* The first position that the token at position sees. */
static inline uint32_t wisp_first_seen(uint32_t position, uint32_t window) {
  return window && position >= window ? position + 1 - window : 0;
}

/* gate[n] = activation(gate) * up: silu(g) = g / (1 + exp(-g)); gelu(g) = g / 2 (1 + tanh(sqrt(2 / pi) (g + 0.044715 g^3))). */
typedef void wisp_activation_fn(float *gate, const float *up, uint32_t n);

/* What a matrix of a w8a8 model is multiplied with, made of x[n] in place: the Walsh-Hadamard transform of each 32 numbers, if
 * n is a multiple of 32, then rounded to 8 bits under one scale and zero point: (q - z) * s with q in [0, 255], s = (high -
 * low) / 255, z = -low / s, where [low, high] spans all n and 0; to the nearest, ties to even. Returns s. */
typedef float wisp_round_int8_fn(float *x, uint32_t n);

typedef struct wisp_cpu_kernels {
  const char *name;     /* "c", "avx2", ... */
  wisp_packing packing; /* of packed_matmul */
  wisp_embed_fn *embed;
  wisp_rmsnorm_fn *rmsnorm;
  wisp_matmul_fn *matmul;
  wisp_quantize_fn *quantize; /* NULL: nothing is packed, all weights go through matmul */
  wisp_packed_matmul_fn *packed_matmul;
  wisp_rope_fn *rope;
  wisp_kv_write_fn *kv_write;
  wisp_attention_fn *attention;
  wisp_prompt_attention_fn *prompt_attention; /* NULL: tokens go through attention one by one */
  wisp_activation_fn *silu_mul, *gelu_mul;
  wisp_round_int8_fn *round_int8;
} wisp_cpu_kernels;

#endif
