/* SPDX-License-Identifier: Apache-2.0
 * The options of run and chat that choose tokens. */
#ifndef WISP_TOOLS_SAMPLING_H
#define WISP_TOOLS_SAMPLING_H

#include <wisp/wisp.h>

#include "common/args.h"

/* p: wisp_session_params */
#define SAMPLING_OPTIONS(p)                                                                                                    \
  ARG_FLOAT("--temp", NULL, &(p).sampler.temperature, "T", 0, 100, "temperature; 0 (default) is greedy"),                      \
      ARG_U32("--top-k", NULL, &(p).sampler.top_k, 0, UINT32_MAX, "only the K likeliest tokens; 0 (default) = all"),           \
      ARG_FLOAT("--top-p", NULL, &(p).sampler.top_p, "P", 1e-6, 1, "only the likeliest tokens that sum to P; default 1"),      \
      ARG_FLOAT("--min-p", NULL, &(p).sampler.min_p, "P", 0, 1, "only tokens P times as likely as the likeliest; default 0"),  \
      ARG_FLOAT("--repeat-penalty", NULL, &(p).sampler.repetition_penalty, "P", 1e-3, 1e3,                                     \
                "divides the odds of tokens that were there; default 1"),                                                      \
      ARG_U32("--repeat-window", NULL, &(p).sampler.repetition_window, 0, UINT32_MAX, "last tokens that count; 0 = all"),      \
      ARG_U64("--seed", NULL, &(p).sampler.seed, "same seed, same tokens")

#endif
