/* SPDX-License-Identifier: Apache-2.0
 * A host that keeps what the library says and counts what it allocates. One thread at a time. */
#ifndef WISP_TESTS_CAPTURE_H
#define WISP_TESTS_CAPTURE_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "wisp/wisp.h"

typedef struct capture {
  char error[1024]; /* the last line at ERROR */
  char warning[1024];
  unsigned errors, warnings;
  unsigned replaced;    /* warnings that a kernel gave way to its plain variant: not those of a device that takes long */
  unsigned allocations; /* asked for, resizes included */
  unsigned fail_at;     /* the allocation that fails, from 1 on; 0 = none */
  size_t largest;       /* allocation, in bytes */
  long live;            /* blocks not freed */
} capture;

static inline void capture_log(void *user, wisp_log_level level, const char *text) {
  capture *c = user;
  if (level == WISP_LOG_WARN) {
    c->warnings++;
    snprintf(c->warning, sizeof c->warning, "%s", text);
    c->replaced += strstr(text, "using the plain") != NULL;
  }
  if (level != WISP_LOG_ERROR) return;
  c->errors++;
  snprintf(c->error, sizeof c->error, "%s", text);
}

static inline void *capture_reallocate(void *user, void *pointer, size_t size) {
  capture *c = user;
  if (size == 0) {
    if (pointer) c->live--;
    free(pointer);
    return NULL;
  }
  if (size > c->largest) c->largest = size;
  if (++c->allocations == c->fail_at || size > (size_t)-1 / 4) return NULL; /* sanitizers abort at absurd sizes */
  void *block = realloc(pointer, size);
  if (block && !pointer) c->live++;
  return block;
}

static inline wisp_host capture_host(capture *c) {
  *c = (capture){0};
  return (wisp_host){.log = capture_log, .log_user = c, .reallocate = capture_reallocate, .memory_user = c};
}

#endif
