/* SPDX-License-Identifier: Apache-2.0 */
#include "base/crew.h"

#include <stdatomic.h>

void wisp_crew_open(wisp_crew *crew) {
  *crew = (wisp_crew){.count = 0};
  pthread_mutex_init(&crew->mutex, NULL);
  pthread_cond_init(&crew->idle, NULL);
}

static void join(wisp_crew *crew) {
  for (uint32_t i = 0; i < crew->count; i++) pthread_join(crew->members[i].thread, NULL);
  crew->count = 0;
}

void wisp_crew_close(wisp_crew *crew) {
  join(crew);
  pthread_cond_destroy(&crew->idle);
  pthread_mutex_destroy(&crew->mutex);
}

static void leave(wisp_crew *crew) {
  pthread_mutex_lock(&crew->mutex);
  if (--crew->running == 0) pthread_cond_signal(&crew->idle);
  pthread_mutex_unlock(&crew->mutex);
}

static void *work(void *user) {
  wisp_crew_member *member = user;
  member->work(member->argument);
  leave(member->crew);
  return NULL;
}

bool wisp_crew_begin(wisp_crew *crew, void (*task)(void *argument), void *argument) {
  if (crew->count == WISP_CREW_MAX) return false;
  wisp_crew_member *member = &crew->members[crew->count];
  *member = (wisp_crew_member){.crew = crew, .work = task, .argument = argument};
  pthread_mutex_lock(&crew->mutex);
  crew->running++;
  pthread_mutex_unlock(&crew->mutex);
  if (pthread_create(&member->thread, NULL, work, member) != 0) {
    leave(crew);
    return false;
  }
  crew->count++;
  return true;
}

bool wisp_crew_busy(wisp_crew *crew) {
  pthread_mutex_lock(&crew->mutex);
  const bool busy = crew->running > 0;
  pthread_mutex_unlock(&crew->mutex);
  return busy;
}

void wisp_crew_wait(wisp_crew *crew) {
  pthread_mutex_lock(&crew->mutex);
  while (crew->running) pthread_cond_wait(&crew->idle, &crew->mutex);
  pthread_mutex_unlock(&crew->mutex);
}

/* ---- Parts ---- */

typedef struct job {
  wisp_part_fn task;
  void *argument;
  uint32_t parts;
  atomic_uint next, workers;
  atomic_int status; /* the first failure */
} job;

static void take_parts(job *j, uint32_t worker) {
  for (uint32_t part; atomic_load(&j->status) == WISP_OK && (part = atomic_fetch_add(&j->next, 1)) < j->parts;) {
    int expected = WISP_OK;
    const wisp_status status = j->task(j->argument, part, worker);
    if (status != WISP_OK) atomic_compare_exchange_strong(&j->status, &expected, (int)status);
  }
}

static void take_parts_as_worker(void *argument) {
  job *j = argument;
  take_parts(j, atomic_fetch_add(&j->workers, 1));
}

wisp_status wisp_crew_run(wisp_crew *crew, wisp_part_fn task, void *argument, uint32_t parts, uint32_t threads) {
  job j = {.task = task, .argument = argument, .parts = parts};
  atomic_init(&j.next, 0);
  atomic_init(&j.workers, 1);
  atomic_init(&j.status, WISP_OK);
  join(crew);
  for (uint32_t i = 1; i < threads && i < parts && i < WISP_CREW_MAX; i++)
    if (!wisp_crew_begin(crew, take_parts_as_worker, &j)) break;
  take_parts(&j, 0);
  wisp_crew_wait(crew);
  return (wisp_status)atomic_load(&j.status);
}
