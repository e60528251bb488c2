/* SPDX-License-Identifier: Apache-2.0
 * How long each kernel takes on the shapes of MobileLLM-125M. */
#ifndef WISP_CHECKER_BENCH_H
#define WISP_CHECKER_BENCH_H

#include "check.h"

typedef struct bench_row {
  const wisp_shader *shader;
  wisp_op_kind op;
  char type[8];
  uint32_t columns, kv_length;
  double microseconds, gb_per_s; /* GB/s of what the op must at least move (wisp_op_bytes) */
  bool timestamps;               /* timed by the device; else by the wall */
} bench_row;

/* Calls row with each measurement. */
wisp_status bench_kernels(const check_params *params, void (*row)(void *user, const bench_row *row), void *user);

#endif
