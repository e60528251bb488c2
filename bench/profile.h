/* SPDX-License-Identifier: Apache-2.0
 * What a token's time goes to: one line an op, and a trace for chrome://tracing or ui.perfetto.dev. */
#ifndef WISP_BENCH_PROFILE_H
#define WISP_BENCH_PROFILE_H

#include <stdio.h>

#include <wisp/wisp.h>

enum { PROFILE_TOKENS = 21 }; /* timed; the context has room for them behind depth + 1 */

typedef struct profile_options {
  uint32_t context, depth; /* tokens of the session, tokens held before those that are timed */
  wisp_kv_type kv_type;
  double gb_per_s;   /* the device's bandwidth, for the floors; NAN = unknown */
  const char *trace; /* file for the trace, NULL = none */
} profile_options;

/* Times a few tokens of decode, a dispatch for each op, and prints the table to file. A device without timestamps is said so
 * and is no error. REPORT_DONE, or the exit code after an error line. */
int profile_print(wisp_engine *engine, const profile_options *options, FILE *file);

#endif
