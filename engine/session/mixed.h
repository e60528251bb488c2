/* SPDX-License-Identifier: Apache-2.0
 * An executor made of two: prompts on one device, replies on the other, the KV cache handed over in between. */
#ifndef WISP_SESSION_MIXED_H
#define WISP_SESSION_MIXED_H

#include "session/executor.h"

enum { WISP_MIXED_PROMPT = 8 }; /* tokens in an append from which it counts as a prompt */

/* Takes both over, also on failure. Their plans are the same; both keep weights of their own. */
wisp_status wisp_mixed_create(wisp_executor **executor, const wisp_host *host, const wisp_plan *plan, wisp_executor *prompt,
                              wisp_executor *reply);

#endif
