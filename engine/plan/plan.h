/* SPDX-License-Identifier: Apache-2.0
 * Block plan and op list: what both executors walk. Block sharing is data here and nowhere else. */
#ifndef WISP_PLAN_PLAN_H
#define WISP_PLAN_PLAN_H

#include "model/kv.h"
#include "model/model.h"

typedef enum wisp_op_kind {
  WISP_OP_EMBED,     /* x = embedding[token] */
  WISP_OP_QKV,       /* q, k, v = M rmsnorm(x) + bias; norm and RoPE on heads of q and k; k, v into the KV slot */
  WISP_OP_ATTENTION, /* a = softmax(q K' * attention_scale) V, grouped-query, causal, within the block's window */
  WISP_OP_ATTN_OUT,  /* x += post_norm(M a) */
  WISP_OP_GATE_UP,   /* h = silu(G rmsnorm(x)) * (U rmsnorm(x)); or gelu */
  WISP_OP_DOWN,      /* x += post_norm(M h) */
  WISP_OP_HEAD,      /* logits = M rmsnorm(x) */
  WISP_OP_SAMPLE     /* next token = argmax(logits), ties to the lowest id, or drawn; position moves on */
} wisp_op_kind;

typedef struct wisp_op {
  wisp_op_kind kind;
  int32_t executed_block;         /* -1 outside blocks */
  uint32_t weight_block, kv_slot; /* inside blocks */
  const wisp_block *block;        /* NULL outside blocks */
  const float *norm;              /* of the input: [width], or NULL */
  const float *post_norm;         /* of what is added to x: [width], or NULL */
  const wisp_matrix *matrices[3]; /* q, k, v | attn_out | gate, up | down | embedding | head */
  uint32_t matrix_count;
} wisp_op;

typedef struct wisp_plan {
  const wisp_host *host;
  const wisp_model *model;
  uint32_t executed_blocks; /* weight_blocks * block_repeat */
  uint32_t kv_slots;        /* one for each executed block */
  wisp_kv_type kv_type;     /* whose bytes wisp_op_bytes counts; f16 until it is set */
  wisp_op *ops;             /* embed, 5 for each executed block, head, sample */
  uint32_t op_count;
} wisp_plan;

/* Sees what a matrix is about to be multiplied with: x[count][cols], count >= 1. From the thread that evaluates. */
typedef void wisp_observe_fn(void *user, const wisp_matrix *matrix, const float *x, uint32_t count);

/* model must outlive the plan. The phases differ in what executors make of an op, not in the ops. */
wisp_status wisp_plan_create(wisp_plan *plan, const wisp_host *host, const wisp_model *model);
void wisp_plan_close(wisp_plan *plan);

const char *wisp_op_name(wisp_op_kind kind); /* "embed", "qkv", "attention", "attn_out", "gate_up", "down", "head", "sample" */

/* For tokens tokens from position on: weights read once, KV rows and activations (float) read and written. */
uint64_t wisp_op_bytes(const wisp_plan *plan, const wisp_op *op, uint32_t tokens, uint32_t position);
uint64_t wisp_op_flops(const wisp_plan *plan, const wisp_op *op, uint32_t tokens, uint32_t position);

/* Bytes of one token's K and V in one slot. */
uint64_t wisp_plan_kv_row_bytes(const wisp_plan *plan, wisp_kv_type type);

/* RoPE: table[position][tables][head_size / 2] of (cos, sin), computed in double: angle = position * theta^(-2i / head_size) /
 * (factor[i] * divisor). The second table, where there is one, is for blocks with a window: rope_theta_windowed alone. */
uint32_t wisp_rope_tables(const wisp_model *model);
void wisp_rope_table(const wisp_model *model, uint32_t positions, float *table);

#endif
