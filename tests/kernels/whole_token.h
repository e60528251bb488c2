/* SPDX-License-Identifier: Apache-2.0
 * The persistent path, which is no op's variant: whole tokens, against those made with a dispatch for each op. */
#ifndef WISP_CHECKER_WHOLE_TOKEN_H
#define WISP_CHECKER_WHOLE_TOKEN_H

#include "base/host.h"

enum { WHOLE_TOKEN_MODELS = 8 };

typedef struct whole_token_row {
  const char *model, *type;
  char decode[200]; /* as wisp_engine_stats has it */
  bool taken;       /* the device takes the path for this model */
  uint32_t tokens;  /* compared one by one, up to the last position of a context over several splits */
  double worst;     /* NMSE of a token's logits */
  uint32_t others;  /* greedy tokens that differ */
} whole_token_row;

/* Random weights of every layout, blocks run twice, a deep model; only the first where the device does not take it. Fails where
 * the device does. */
wisp_status whole_token_check(const wisp_host *host, uint32_t device, whole_token_row rows[WHOLE_TOKEN_MODELS]);

#endif
