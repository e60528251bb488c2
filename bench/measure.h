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
} measure_tests;

/* Adds a row to list for each test, in the order depth, prompts, replies; *copy_gb_per_s: the device's measured copy bandwidth,
 * NAN if it could not be measured. Errors as the session's calls. */
wisp_status measure_device(wisp_engine *engine, const measure_tests *tests, rows *list, double *copy_gb_per_s);

#endif
