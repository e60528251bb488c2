/* SPDX-License-Identifier: Apache-2.0
 * Measures a model on one device: start-up, then each test at each depth. */
#ifndef WISP_BENCH_MEASURE_H
#define WISP_BENCH_MEASURE_H

#include <wisp/wisp.h>

#include "common/args.h"
#include "rows.h"

typedef struct measure_tests {
  args_numbers prompts, replies, depths; /* -p, -n, -d; a 0 among prompts or replies is no test */
  uint32_t repetitions;                  /* after one that warms up */
  uint32_t context;                      /* tokens of the session */
  wisp_kv_type kv_type;                  /* of its KV cache */
  uint32_t sessions;                     /* > 1: replies also by so many sessions at once */
} measure_tests;

/* What the device could do at best; NAN or 0 = unknown. */
typedef struct measure_limits {
  double copy_gb_per_s;
  wisp_cpu_limits cpu;
  char kernels[16];                /* of the CPU */
  char decode[200];                /* Vulkan: how a token is made, as in wisp_engine_stats */
  double token_bytes, token_gflop; /* of a token of a reply, nothing held before it */
  double prompt_gflop;             /* of a token of a prompt */
} measure_limits;

/* Adds a row to list for each test, in the order depth, prompts, replies. Errors as the session's calls. */
wisp_status measure_device(wisp_engine *engine, const measure_tests *tests, rows *list, measure_limits *limits);

#endif
