/* SPDX-License-Identifier: Apache-2.0
 * Several sessions of one engine at once. */
#ifndef WISP_BENCH_SESSIONS_H
#define WISP_BENCH_SESSIONS_H

#include <wisp/wisp.h>

/* *tok_per_s: count tokens by each of the sessions, on a thread each, all together, over the time that it took them. Errors as
 * the session's calls. */
wisp_status sessions_measure(wisp_engine *engine, uint32_t sessions, uint32_t count, wisp_kv_type kv_type, double *tok_per_s);

#endif
