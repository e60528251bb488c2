/* SPDX-License-Identifier: Apache-2.0
 * The persistent path and the fused kernels, which are no op's variants: whole tokens, against those made with a dispatch for
 * each op. */
#ifndef WISP_CHECKER_WHOLE_TOKEN_H
#define WISP_CHECKER_WHOLE_TOKEN_H

#include "base/host.h"

enum { WHOLE_TOKEN_CASES = 21 };

typedef struct whole_token_row {
  const char *path;     /* "persistent", "fused" */
  const char *what;     /* model, type and what is special; NULL = not run */
  const char *expected; /* in decode */
  char decode[200];     /* how the tokens were made in the end, as wisp_engine_stats has it */
  bool taken;           /* the device takes the path for this model, where nothing is broken */
  uint32_t tokens;      /* compared one by one, up to the last position of a context over several splits */
  double worst;         /* NMSE of a token's logits */
  uint32_t others;      /* greedy tokens that differ */
} whole_token_row;

/* Random weights of every layout, blocks run twice, a deep and a wide model, biases, GELU, an f32 cache; and two faults, after
 * which dispatches must have made the tokens: a workgroup whose mail never comes, results that the check at start must find
 * wrong. Only those whose path or what contains filter (NULL = all), and no more of a path after one that the device does not
 * take. Fails where the device does. */
wisp_status whole_token_check(const wisp_host *host, uint32_t device, const char *filter,
                              whole_token_row rows[WHOLE_TOKEN_CASES]);

#endif
