/* SPDX-License-Identifier: Apache-2.0
 * What tells the architectures apart, a row of a table each: nothing else in Wisp knows their names. */
#ifndef WISP_MODEL_ARCHITECTURE_H
#define WISP_MODEL_ARCHITECTURE_H

#include "model/gguf.h"

typedef enum wisp_trait {
  WISP_TRAIT_HALF_PAIRS = 1,    /* RoPE pairs are stored as (i, i + head_size / 2); rows are put side by side at load */
  WISP_TRAIT_QKV_BIAS = 2,      /* attn_{q,k,v}.bias */
  WISP_TRAIT_QK_NORM = 4,       /* attn_{q,k}_norm.weight: rmsnorm of each head before RoPE */
  WISP_TRAIT_QK_NORM_PLAIN = 8, /* rmsnorm of each head without weights behind RoPE, unless ARCH.attention.qk_norm is false */
  WISP_TRAIT_POST_NORMS = 16,   /* post_attention_norm, post_ffw_norm: rmsnorm of what a block adds */
  WISP_TRAIT_GELU = 32,         /* tanh-approximated GELU for SiLU */
  WISP_TRAIT_SCALED_EMBEDDING = 64, /* embedding * sqrt(width) */
  WISP_TRAIT_WINDOWS = 128, /* ARCH.attention.sliding_window with its pattern; windowed blocks have a RoPE base of their own
                               where ARCH.rope.freq_base_swa is there */
  WISP_TRAIT_REPEAT = 256   /* ARCH.block_repeat_count */
} wisp_trait;

typedef struct wisp_architecture {
  const char *name;     /* GGUF general.architecture */
  unsigned traits;      /* of wisp_trait */
  uint32_t full_period; /* windows: every so manieth block sees everything where the file has no pattern; 0 = the file must */
} wisp_architecture;

const wisp_architecture *wisp_architecture_find(wisp_text name); /* NULL if unknown */
const char *wisp_architecture_list(void);                        /* "llama, mobilellm, ..." for messages */

#endif
