/* SPDX-License-Identifier: Apache-2.0
 * A few long pieces of work on threads of their own: start-up. The many short jobs of a token have a pool of theirs
 * (engine/cpu/threads.h). Waiting ends with the work, not with the threads: the end of a thread that has called a driver can
 * take it ten milliseconds. */
#ifndef WISP_BASE_CREW_H
#define WISP_BASE_CREW_H

#include <pthread.h>
#include <wisp/wisp.h>

enum { WISP_CREW_MAX = 16 }; /* threads, the caller's of wisp_crew_run included */

typedef struct wisp_crew_member {
  struct wisp_crew *crew;
  void (*work)(void *argument);
  void *argument;
  pthread_t thread;
} wisp_crew_member;

typedef struct wisp_crew { /* used by one thread at a time; does not move */
  pthread_mutex_t mutex;   /* guards running */
  pthread_cond_t idle;
  wisp_crew_member members[WISP_CREW_MAX];
  uint32_t count, running; /* members not joined yet; those at work */
} wisp_crew;

void wisp_crew_open(wisp_crew *crew);
void wisp_crew_close(wisp_crew *crew); /* waits for its threads */

/* Begins work(argument) on one more thread; false where there is none to be had. */
bool wisp_crew_begin(wisp_crew *crew, void (*work)(void *argument), void *argument);

/* Whether something that was begun is not done. */
bool wisp_crew_busy(wisp_crew *crew);

/* Returns when all that was begun is done. */
void wisp_crew_wait(wisp_crew *crew);

/* worker < threads; worker 0 is the caller's thread. */
typedef wisp_status (*wisp_part_fn)(void *argument, uint32_t part, uint32_t worker);

/* Calls task for each part < parts on up to threads threads (at most WISP_CREW_MAX; fewer where the system gives no more), each
 * taking the next part. Returns when all are done; after a failure no further part is begun, and its status comes back. The
 * crew must be idle. */
wisp_status wisp_crew_run(wisp_crew *crew, wisp_part_fn task, void *argument, uint32_t parts, uint32_t threads);

#endif
