/* SPDX-License-Identifier: Apache-2.0
 * A thread pool for many short jobs, some 150 a token. A job is a function over parts; threads take parts one by one, the
 * caller helps, and the call returns when all parts are done. No job takes a lock: a caller takes its turn once for many of
 * them. Idle workers spin for some ten microseconds, give way for as long, then sleep. */
#ifndef WISP_CPU_THREADS_H
#define WISP_CPU_THREADS_H

#include "base/host.h"

enum { WISP_THREADS_MAX = 256 };

typedef struct wisp_threads wisp_threads;

/* part < parts; worker < wisp_threads_count tells which scratch is free: no two calls of a job at a time have the same. */
typedef void (*wisp_task_fn)(void *argument, uint32_t part, uint32_t parts, uint32_t worker);

/* count in [1, WISP_THREADS_MAX], the caller of wisp_threads_run included; 1 makes no threads at all. They may use what
 * the creating thread may use, the fast cores of it where count is no more than these; a larger count works, without spinning.
 * MEMORY if the system gives no more threads; ARGUMENT. */
wisp_status wisp_threads_create(wisp_threads **threads, const wisp_host *host, uint32_t count);
void wisp_threads_destroy(wisp_threads **threads); /* no job may be running; accepts NULL */

uint32_t wisp_threads_count(const wisp_threads *threads);

/* A turn: no other thread's jobs run until it ends; turns are given in the order they are asked for. Any thread may ask, one
 * that has a turn may not. Does nothing where count is 1: then jobs run on the calling threads, side by side. */
void wisp_threads_begin(wisp_threads *threads);
void wisp_threads_end(wisp_threads *threads);

/* Inside a turn of the calling thread (not needed while no other thread has the pool), not from a task. One part runs on the
 * caller. What tasks wrote is visible to it after. */
void wisp_threads_run(wisp_threads *threads, wisp_task_fn task, void *argument, uint32_t parts);

/* The share of units that part p of parts has: from wisp_share(units, p, parts) up to wisp_share(units, p + 1, parts). */
static inline uint32_t wisp_share(uint32_t units, uint32_t part, uint32_t parts) {
  return (uint32_t)((uint64_t)units * part / parts);
}

#endif
