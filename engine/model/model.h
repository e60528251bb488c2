/* SPDX-License-Identifier: Apache-2.0
 * Model description: hyper-parameters and tensors by role. The data stays in the file's mapping (or in the synthetic model's
 * memory); copied are only vectors, to float, and q and k where their rows have to change places. */
#ifndef WISP_MODEL_MODEL_H
#define WISP_MODEL_MODEL_H

#include "base/arena.h"
#include "model/gguf.h"

/* rows x cols weights, row-major, cols = input features: y[rows] = M x[cols]. */
typedef struct wisp_matrix {
  const wisp_dtype_info *type;
  uint32_t rows, cols;
  const uint8_t *data;            /* rows * wisp_matrix_row_bytes */
  const wisp_gguf_tensor *tensor; /* that it is in the file, where rows may have another order; NULL if synthetic */
} wisp_matrix;

static inline uint64_t wisp_matrix_row_bytes(const wisp_matrix *matrix) {
  return (uint64_t)(matrix->cols / matrix->type->block_weights) * matrix->type->block_bytes;
}
static inline uint64_t wisp_matrix_bytes(const wisp_matrix *matrix) {
  return matrix->rows * wisp_matrix_row_bytes(matrix);
}

/* How the names of matrices end. Transformed ones have another name, so that a program that does not know the transform refuses
 * the file instead of computing with the wrong weights. */
#define WISP_PLAIN_SUFFIX ".weight"
#define WISP_HADAMARD_SUFFIX ".hadamard"
enum { WISP_HADAMARD_GROUP = 32 };

typedef struct wisp_block {
  const float *attn_norm; /* [width] */
  wisp_matrix q;          /* [heads * head_size][width]; rows 2i, 2i+1 of a head are one RoPE pair */
  wisp_matrix k;          /* [kv_heads * head_size][width]; likewise */
  wisp_matrix v;          /* [kv_heads * head_size][width] */
  wisp_matrix attn_out;   /* [width][heads * head_size] */
  const float *ffn_norm;  /* [width] */
  wisp_matrix gate, up;   /* [ffn_width][width] */
  wisp_matrix down;       /* [width][ffn_width] */
  /* What only some architectures have; NULL or 0 elsewhere. */
  const float *q_bias, *k_bias, *v_bias;       /* [rows of the matrix], in the order of its rows */
  const float *q_norm, *k_norm;                /* [head_size]: rmsnorm of each head before RoPE, in the order of the rows */
  const float *attn_post_norm, *ffn_post_norm; /* [width]: rmsnorm of what attn_out and down add */
  uint32_t window;                             /* positions that a token sees, itself included; 0 = all */
} wisp_block;

typedef struct wisp_model {
  const wisp_host *host;
  char name[128];
  char architecture[32]; /* GGUF general.architecture */
  uint32_t width, heads, kv_heads, head_size, ffn_width, vocabulary;
  uint32_t context_length; /* tokens the model was trained for */
  uint32_t weight_blocks;  /* blocks with weights of their own */
  uint32_t block_repeat;   /* each is run so many times in a row */
  float norm_epsilon;
  float rope_theta;
  bool int8_activations;     /* w8a8: what a block's matrix is multiplied with is transformed and rounded to 8 bits, a scale a
                              * token:     wisp_round_int8_fn; rows of a multiple of 32 are transformed likewise */
  const float *rope_factors; /* [head_size / 2] divisors of the frequencies, or NULL */
  float rope_divisor;        /* of all frequencies; 1 = none */
  float rope_theta_windowed; /* of blocks with a window; 0 = rope_theta, without factors or divisor otherwise */
  float attention_scale;     /* of q . k */
  float embedding_scale;
  bool gelu;               /* tanh-approximated GELU for SiLU */
  bool qk_norm_plain;      /* rmsnorm of each head of q and k, without weights, behind RoPE */
  wisp_block *blocks;      /* [weight_blocks] */
  wisp_matrix embedding;   /* [vocabulary][width] */
  const float *final_norm; /* [width] */
  wisp_matrix head;        /* [vocabulary][width]; the embedding itself if head_shared */
  bool head_shared;
  wisp_arena arena; /* private: what is not in the file's mapping */
} wisp_model;

/* From a GGUF file; gguf and its bytes must outlive the model. A missing key or tensor, a wrong shape or type, an unknown
 * architecture: one line with what was expected and what was found. */
wisp_status wisp_model_from_gguf(wisp_model *model, const wisp_host *host, const wisp_gguf *gguf);

/* Random weights of a named shape (wisp_synthetic_names) in memory; type by name, NULL = "q4_0". Same seed, same weights. */
wisp_status wisp_model_synthesize(wisp_model *model, const wisp_host *host, const char *shape, const char *type, uint64_t seed);

void wisp_model_close(wisp_model *model); /* accepts a zeroed struct */

/* A hash of all that decides what the model computes: hyper-parameters, vectors, and every byte of every matrix, of which it
 * reads all (base/hash.h). The name and the context length do not count. */
uint64_t wisp_model_fingerprint(const wisp_model *model);

uint64_t wisp_model_parameters(const wisp_model *model);
uint64_t wisp_model_weight_bytes(const wisp_model *model);
/* "w8a8" with int8 activations, otherwise the most frequent dtype among the matrices, by weights. */
const char *wisp_model_type_name(const wisp_model *model);

#endif
