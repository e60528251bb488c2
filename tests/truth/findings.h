/* SPDX-License-Identifier: Apache-2.0
 * What was measured: each check is a number with the limit it must not pass, so that the report shows how near it came. */
#ifndef WISP_TRUTH_FINDINGS_H
#define WISP_TRUTH_FINDINGS_H

#include <stdbool.h>
#include <stddef.h>

typedef struct finding {
  char subject[40], name[40]; /* "story", "nmse_llamacpp" */
  double value, limit;        /* limit: INFINITY = a figure, which is reported and not judged */
} finding;

typedef struct findings {
  finding *items; /* [count] */
  size_t count, capacity, shown;
  char **notes; /* [note_count] */
  size_t note_count;
  unsigned passed, failed;
} findings;

/* Passes where value <= limit; NaN fails. */
void findings_check(findings *f, const char *subject, const char *name, double value, double limit);
void findings_figure(findings *f, const char *subject, const char *name, double value);

/* A line that is printed and kept for the JSON file. */
#if defined(__GNUC__)
__attribute__((format(printf, 2, 3)))
#endif
void findings_note(findings *f, const char *format, ...);

/* Prints what came since the last call, a line for each subject. */
void findings_show(findings *f);

/* Prints the worst value of each name. */
void findings_show_worst(const findings *f);

/* title: what was run, pairs of key and text, the last key being NULL. False where the file cannot be written. */
bool findings_write_json(const findings *f, const char *path, const char *const *title);

void findings_free(findings *f);

#endif
