/* SPDX-License-Identifier: Apache-2.0 */
#include "report.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "platform.h"

enum { LINE_SIZE = 1024, HELD_LIMIT = 64 << 10 };

static struct {
  const char *program;
  bool verbose, terminal;
  bool settled;          /* the model is open: warnings need not wait any more */
  bool progress;         /* a progress line stands on the terminal */
  char error[LINE_SIZE]; /* first error since the last settle, "" = none */
  char *held;            /* whole lines, held_size bytes and a NUL; or NULL */
  size_t held_size;
  pthread_mutex_t mutex;
} report = {.program = "wisp", .mutex = PTHREAD_MUTEX_INITIALIZER};

void report_init(const char *program) {
  report.program = program;
  report.terminal = platform_is_terminal(stderr);
}

void report_set_verbose(bool verbose) {
  report.verbose = verbose;
}

static void clear_progress(void) { /* mutex held */
  if (report.progress) fputs("\r\033[K", stderr);
  report.progress = false;
}

static void print_line(const char *kind, const char *text) { /* mutex held */
  clear_progress();
  fprintf(stderr, "%s: %s: %s\n", report.program, kind, text);
}

/* The same line is held once: a bench opens its model several times. */
static void hold_line(const char *kind, const char *text) { /* mutex held */
  char line[LINE_SIZE + 64];
  int length = snprintf(line, sizeof line, "%s: %s: %s\n", report.program, kind, text);
  if (length < 0 || report.held_size + (size_t)length > HELD_LIMIT) return;
  if (report.held && strstr(report.held, line)) return;
  char *held = realloc(report.held, report.held_size + (size_t)length + 1);
  if (!held) return;
  memcpy(held + report.held_size, line, (size_t)length + 1);
  report.held = held;
  report.held_size += (size_t)length;
}

static void drop_held(void) { /* mutex held */
  free(report.held);
  report.held = NULL;
  report.held_size = 0;
  report.error[0] = '\0';
}

static void log_line(void *user, wisp_log_level level, const char *text) {
  pthread_mutex_lock(&report.mutex);
  if (level == WISP_LOG_ERROR) {
    if (!report.error[0]) snprintf(report.error, sizeof report.error, "%s", text);
    hold_line("error", text);
  } else if (level == WISP_LOG_WARN) {
    (report.settled || report.verbose ? print_line : hold_line)("warning", text);
  } else if (level == WISP_LOG_INFO && report.verbose) {
    print_line("info", text);
  }
  pthread_mutex_unlock(&report.mutex);
}

wisp_host report_host(void) {
  return (wisp_host){.log = log_line};
}

int report_error(const char *format, ...) {
  char text[LINE_SIZE];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  pthread_mutex_lock(&report.mutex);
  print_line("error", text);
  drop_held();
  pthread_mutex_unlock(&report.mutex);
  return REPORT_FAILED;
}

int report_status(wisp_status status) {
  pthread_mutex_lock(&report.mutex);
  print_line("error", report.error[0] ? report.error : wisp_status_name(status));
  drop_held();
  pthread_mutex_unlock(&report.mutex);
  return status == WISP_ERROR_ARGUMENT ? REPORT_USAGE : REPORT_FAILED;
}

void report_status_warning(wisp_status status) {
  pthread_mutex_lock(&report.mutex);
  char text[LINE_SIZE];
  snprintf(text, sizeof text, "%s", report.error[0] ? report.error : wisp_status_name(status));
  drop_held();
  hold_line("warning", text);
  pthread_mutex_unlock(&report.mutex);
}

void report_settle(void) {
  pthread_mutex_lock(&report.mutex);
  clear_progress();
  if (report.held) fputs(report.held, stderr);
  drop_held();
  report.settled = true;
  pthread_mutex_unlock(&report.mutex);
}

void report_forget(void) {
  pthread_mutex_lock(&report.mutex);
  drop_held();
  pthread_mutex_unlock(&report.mutex);
}

void report_finish(bool succeeded) {
  if (succeeded) report_settle();
  report_forget();
}

void report_progress(void *user, const char *stage, float fraction) {
  if (!report.terminal) return;
  pthread_mutex_lock(&report.mutex);
  if (stage) {
    fprintf(stderr, "\r\033[K%s %3.0f %%", stage, 100.0 * (double)fraction);
    report.progress = true;
  } else {
    clear_progress();
  }
  fflush(stderr);
  pthread_mutex_unlock(&report.mutex);
}
