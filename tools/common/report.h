/* SPDX-License-Identifier: Apache-2.0
 * What a command says on stderr. A failure is one line: what the library logs while it opens a model is held back until the
 * call has succeeded; when it fails, only the first error is printed. */
#ifndef WISP_TOOLS_REPORT_H
#define WISP_TOOLS_REPORT_H

#include <stdbool.h>

#include <wisp/wisp.h>

enum { REPORT_DONE = 0, REPORT_FAILED = 1, REPORT_USAGE = 2 }; /* exit codes */

#if defined(__GNUC__)
#define REPORT_PRINTF __attribute__((format(printf, 1, 2)))
#else
#define REPORT_PRINTF
#endif

/* program: "wisp", lives as long as the process. Call first. */
void report_init(const char *program);

/* Last: prints what is held (succeeded) or drops it. */
void report_finish(bool succeeded);

/* INFO lines too, and everything at once. */
void report_set_verbose(bool verbose);

/* A host for the library whose log comes here. Thread-safe. */
wisp_host report_host(void);

/* One "program: error: ..." line; drops what is held. Returns REPORT_FAILED. */
int report_error(const char *format, ...) REPORT_PRINTF;

/* A library call failed: prints its error line. Returns REPORT_FAILED, or REPORT_USAGE if a parameter was out of range. */
int report_status(wisp_status status);

/* Likewise, but the command goes on without: becomes a warning. */
void report_status_warning(wisp_status status);

/* A library call failed, and its failure is said elsewhere. */
void report_forget(void);

/* Prints what is held, and from now on warnings at once: for commands that stay. */
void report_settle(void);

/* A line that is rewritten in place, only on a terminal; NULL stage clears it. fraction in [0, 1]. As wisp_engine_params. */
void report_progress(void *user, const char *stage, float fraction);

#endif
