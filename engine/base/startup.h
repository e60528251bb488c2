/* SPDX-License-Identifier: Apache-2.0
 * What start-up takes, step by step. Steps may overlap, and be added by several threads. */
#ifndef WISP_BASE_STARTUP_H
#define WISP_BASE_STARTUP_H

#include <pthread.h>

#include "base/host.h"

enum { WISP_STARTUP_MAX = 32 }; /* further steps are not kept */

typedef struct wisp_startup {
  const wisp_host *host;
  pthread_mutex_t mutex;
  double origin; /* seconds on wisp_now_s's clock */
  wisp_startup_step steps[WISP_STARTUP_MAX];
  uint32_t count;
} wisp_startup;

void wisp_startup_begin(wisp_startup *startup, const wisp_host *host);
void wisp_startup_end(wisp_startup *startup);

/* A step from begin to end, seconds on wisp_now_s's clock; logged at DEBUG. name: a constant. startup NULL: nothing. */
void wisp_startup_add(wisp_startup *startup, const char *name, double begin, double end);

/* As wisp_engine_startup. */
uint32_t wisp_startup_get(wisp_startup *startup, wisp_startup_step *steps, uint32_t capacity);

#endif
