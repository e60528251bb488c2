/* SPDX-License-Identifier: Apache-2.0
 * config.json of a Hugging Face folder: which family a model belongs to, and its figures under GGUF's keys. What tells the
 * families apart is a row of a table each. */
#ifndef WISP_MODEL_HF_CONFIG_H
#define WISP_MODEL_HF_CONFIG_H

#include "base/arena.h"
#include "base/json.h"
#include "model/gguf_fields.h"

typedef enum wisp_hf_trait {
  WISP_HF_MLP = 1,            /* matrices of the feed-forward network are mlp.* */
  WISP_HF_FEED_FORWARD = 2,   /* or feed_forward.* */
  WISP_HF_TWO_NORMS = 4,      /* before attention and before the network */
  WISP_HF_FOUR_NORMS = 8,     /* and behind each */
  WISP_HF_QK_NORM = 16,       /* weights that normalise each head of q and k */
  WISP_HF_QKV_BIAS = 32,      /* biases of q, k and v */
  WISP_HF_NORM_PLUS_ONE = 64, /* stored norm weights are w of (1 + w) */
  WISP_HF_HALVES = 128 /* RoPE pairs are (i, i + d/2) as stored, but (2i, 2i + 1) in GGUF: rows of q and k change places */
} wisp_hf_trait;

typedef struct wisp_hf_config {
  char architecture[32]; /* GGUF general.architecture */
  unsigned traits;       /* of wisp_hf_trait */
  uint32_t width, blocks, heads, kv_heads, head_size, vocabulary;
  bool head_shared;    /* the config wants the embedding as head */
  int quantized_bits;  /* ParetoQ's w_bits: 1, 0 = ternary, 2, 3, 4; -1 = weights are used as they are */
  float *rope_factors; /* [head_size / 2] divisors of the frequencies, in the arena, or NULL */
} wisp_hf_config;

/* Reads json into config, and writes the keys general.architecture and ARCHITECTURE.* to fields. A missing key or what Wisp
 * does not run: one line with file and key. */
wisp_status wisp_hf_config_read(wisp_hf_config *config, const wisp_json *json, wisp_arena *arena, wisp_gguf_fields *fields);

#endif
