/* SPDX-License-Identifier: Apache-2.0
 * The tiny models that the kernels are checked on, and their random weights. */
#ifndef WISP_CHECKER_SHAPES_H
#define WISP_CHECKER_SHAPES_H

#include "plan/plan.h"

enum { SHAPE_BLOCKS = 2 }; /* the last one is checked: its windows do not start at 0 */

typedef struct shape {
  const char *name;
  uint32_t width, heads, kv_heads, head_size, ffn_width, vocabulary;
  uint32_t context;
  uint32_t columns;  /* batches go up to so many tokens */
  const char *types; /* of q k v attn_out gate up down embedding head; the last one stands for those not said */
  wisp_kv_type kv;
  bool split;      /* the device is said to bind so little that the vocabulary takes several windows and buffers */
  bool rounded;    /* K types with any scale, which their layout rounds to f16; else with scales that it keeps */
  const char *ops; /* checked here, by their initials: Embed Qkv Attention attn_Out Gate_up Down Head Sample */
  /* Of the architecture: b biases, n norms of heads, p plain norms of heads, P post norms, g GELU, s scales of embedding and
   * attention, w a window with angles of its own, W one of 970 in each block, r RoPE factors and divisor, 8 activations
   * transformed and rounded to 8 bits.
   */
  const char *traits;
} shape;

extern const shape shapes[]; /* the first one: f32, for the self-check */
extern const uint32_t shape_count;

/* Random weights; the later half of the head's rows repeats the first, so that the best logit has a twin. blocks: weight
 * blocks. Close it with wisp_model_close. */
wisp_status shape_model(wisp_model *model, const wisp_host *host, const shape *s, uint32_t blocks, uint64_t *random);

bool shape_has(const shape *s, wisp_op_kind kind);
bool shape_is(const shape *s, char trait);
bool shape_is_k_type(const wisp_dtype_info *type);

#endif
