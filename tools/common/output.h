/* SPDX-License-Identifier: Apache-2.0
 * A large file that appears whole or not at all: written under a temporary name in the same folder, renamed when complete.
 * While it is open, Ctrl-C only sets a flag, so that the temporary file can be removed. One at a time. */
#ifndef WISP_TOOLS_OUTPUT_H
#define WISP_TOOLS_OUTPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include <wisp/wisp.h>

typedef struct output {
  const char *path;
  char temporary[4096];
  FILE *file;
  int problem; /* errno of the write that failed */
} output;

/* path must stay. REPORT_DONE, or the exit code after an error line. */
int output_open(output *out, const char *path);

/* As wisp_output_fn; user is the output. */
bool output_write(void *user, const void *data, size_t size);

/* As wisp_continue_fn: shows the progress (user: name of what is done), and stops after Ctrl-C. */
bool output_continue(void *user, float fraction);

/* Ends it. status: of what has written; only with OK the file appears, otherwise what was at path stays. REPORT_DONE, or the
 * exit code after an error line. */
int output_close(output *out, wisp_status status);

#endif
