/* SPDX-License-Identifier: Apache-2.0
 * The checks of wisp-truth. What the library refuses ends the program with a line that says where. */
#ifndef WISP_TRUTH_CHECKS_H
#define WISP_TRUTH_CHECKS_H

#include <wisp/wisp.h>

#include "truth/findings.h"
#include "truth/vectors.h"

/* Two logits nearer than this are a near tie: rounding decides which is the larger one. */
#define NEAR_TIE 0.02
/* llama.cpp rounds activations to 8 bits, which moves logits more. */
#define NEAR_TIE_LLAMACPP 0.5
/* Tokens that the engines have room for. */
#define TRUTH_CONTEXT 2048

typedef struct truth {
  const truth_vectors *vectors;
  findings *findings;
  wisp_engine *engine;    /* the one under test */
  wisp_engine *reference; /* the CPU beside it; NULL where that is itself under test */
  uint32_t vocabulary;
  uint32_t prompts, tokens;                 /* how many prompts, how many tokens behind each */
  uint32_t decoded_prompts, decoded_tokens; /* of them token by token */
  uint32_t windows;
} truth;

/* The i-th of the count prompts that a run of so many takes: spread over all kinds. */
const truth_prompt *truth_prompt_of(const truth_vectors *vectors, uint32_t i, uint32_t count);

wisp_session *truth_session(wisp_engine *engine, wisp_kv_type type, uint32_t context);

/* Ends the program where status is not OK. */
void truth_must(wisp_status status, const char *what);

void check_text(const truth *t);    /* chat format and token ids */
void check_prompts(const truth *t); /* logits, choices, decoding */
void check_perplexity(const truth *t);
void check_depths(const truth *t, uint32_t greatest); /* a device behind up to so many tokens; there is a reference */
void check_threads(const truth *t, wisp_engine *other, uint32_t threads); /* other: the same with so many threads */

#endif
