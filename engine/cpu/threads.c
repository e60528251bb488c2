/* SPDX-License-Identifier: Apache-2.0 */
#include "cpu/threads.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

#include "cpu/cpu.h"

/* Iterations before a waiting thread gives way: tens of microseconds, longer than the steps of a token are apart. */
enum { SPINS = 2000 };

typedef struct worker {
  wisp_threads *threads;
  uint32_t index;
  pthread_t thread;
} worker;

struct wisp_threads {
  const wisp_host *host;
  uint32_t count; /* workers and the caller */
  uint32_t started;
  uint32_t spins;  /* 0 where threads have to share processors */
  worker *workers; /* [count - 1] */

  pthread_mutex_t job; /* held by the caller whose job is running */
  /* The job. A worker reads it before it takes a part and may be late for it: its compare-and-swap of the ticket then fails, so
   * the fields are only used while they hold. */
  _Atomic(wisp_task_fn) task;
  _Atomic(void *) argument;
  atomic_uint parts;
  atomic_ullong ticket; /* job number << 32 | next part */
  atomic_uint done;     /* parts finished */

  pthread_mutex_t sleep;
  pthread_cond_t wake;
  atomic_uint sleepers;
  atomic_bool stop;
};

static inline void pause_processor(void) {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__) || defined(__arm__)
  __asm__ volatile("yield");
#endif
}

static inline uint32_t next_part(unsigned long long ticket) {
  return (uint32_t)ticket;
}

static bool has_parts(wisp_threads *threads) {
  unsigned long long ticket = atomic_load(&threads->ticket);
  return next_part(ticket) < atomic_load(&threads->parts);
}

/* Takes and runs parts until none is left. */
static void work(wisp_threads *threads, uint32_t index) {
  unsigned long long ticket = atomic_load(&threads->ticket);
  for (;;) {
    wisp_task_fn task = atomic_load(&threads->task);
    void *argument = atomic_load(&threads->argument);
    uint32_t parts = atomic_load(&threads->parts);
    if (next_part(ticket) >= parts) {
      unsigned long long now = atomic_load(&threads->ticket);
      if (now == ticket) return;
      ticket = now;
    } else if (atomic_compare_exchange_strong(&threads->ticket, &ticket, ticket + 1)) {
      task(argument, next_part(ticket), parts, index);
      atomic_fetch_add(&threads->done, 1);
      ticket = atomic_load(&threads->ticket);
    }
  }
}

static void wait_for_parts(wisp_threads *threads) {
  for (uint32_t i = 0; i < threads->spins; i++) {
    if (has_parts(threads) || atomic_load(&threads->stop)) return;
    pause_processor();
  }
  pthread_mutex_lock(&threads->sleep);
  atomic_fetch_add(&threads->sleepers, 1); /* before looking once more: a caller publishes first and looks for sleepers then */
  while (!has_parts(threads) && !atomic_load(&threads->stop)) pthread_cond_wait(&threads->wake, &threads->sleep);
  atomic_fetch_sub(&threads->sleepers, 1);
  pthread_mutex_unlock(&threads->sleep);
}

static void wake_sleepers(wisp_threads *threads) {
  if (atomic_load(&threads->sleepers) == 0) return;
  pthread_mutex_lock(&threads->sleep);
  pthread_cond_broadcast(&threads->wake);
  pthread_mutex_unlock(&threads->sleep);
}

static void *worker_main(void *argument) {
  worker *self = argument;
  while (!atomic_load(&self->threads->stop)) {
    work(self->threads, self->index);
    wait_for_parts(self->threads);
  }
  return NULL;
}

void wisp_threads_run(wisp_threads *threads, wisp_task_fn task, void *argument, uint32_t parts) {
  if (threads->count == 1 || parts <= 1) {
    for (uint32_t part = 0; part < parts; part++) task(argument, part, parts, 0);
    return;
  }
  pthread_mutex_lock(&threads->job);
  /* All parts of the last job are taken and done. The ticket says "none left" while the fields change, and opens the job last.
   */
  unsigned long long job = (atomic_load(&threads->ticket) >> 32) + 1;
  atomic_store(&threads->ticket, job << 32 | UINT32_MAX);
  atomic_store(&threads->task, task);
  atomic_store(&threads->argument, argument);
  atomic_store(&threads->parts, parts);
  atomic_store(&threads->done, 0);
  atomic_store(&threads->ticket, job << 32);
  wake_sleepers(threads);
  work(threads, 0);
  for (uint32_t i = 0; atomic_load(&threads->done) < parts; i++) {
    if (i < threads->spins)
      pause_processor();
    else
      sched_yield();
  }
  pthread_mutex_unlock(&threads->job);
}

wisp_status wisp_threads_create(wisp_threads **out, const wisp_host *host, uint32_t count) {
  *out = NULL;
  if (count < 1 || count > WISP_THREADS_MAX) {
    return wisp_fail(host, WISP_ERROR_ARGUMENT, "threads: %u asked for, 1 to %d are possible", count, WISP_THREADS_MAX);
  }
  wisp_threads *threads = wisp_host_alloc(host, 1, sizeof *threads);
  worker *workers = wisp_host_alloc(host, count - 1, sizeof *workers);
  if (!threads || !workers) {
    wisp_host_free(host, threads);
    wisp_host_free(host, workers);
    return wisp_fail_memory(host, "thread pool", sizeof *threads + (count - 1) * sizeof *workers);
  }
  *threads = (wisp_threads){.host = host, .count = count, .workers = workers};
  threads->spins = count <= wisp_cpu_cores() ? SPINS : 0;
  pthread_mutex_init(&threads->job, NULL);
  pthread_mutex_init(&threads->sleep, NULL);
  pthread_cond_init(&threads->wake, NULL);
  for (; threads->started < count - 1; threads->started++) {
    worker *w = &workers[threads->started];
    *w = (worker){.threads = threads, .index = threads->started + 1};
    if (pthread_create(&w->thread, NULL, worker_main, w) != 0) {
      uint32_t started = threads->started + 1;
      wisp_threads_destroy(&threads);
      return wisp_fail(host, WISP_ERROR_MEMORY, "threads: the system gives only %u of %u; ask for fewer", started, count);
    }
  }
  *out = threads;
  return WISP_OK;
}

void wisp_threads_destroy(wisp_threads **out) {
  wisp_threads *threads = *out;
  if (!threads) return;
  *out = NULL;
  pthread_mutex_lock(&threads->sleep);
  atomic_store(&threads->stop, true);
  pthread_cond_broadcast(&threads->wake);
  pthread_mutex_unlock(&threads->sleep);
  for (uint32_t i = 0; i < threads->started; i++) pthread_join(threads->workers[i].thread, NULL);
  pthread_cond_destroy(&threads->wake);
  pthread_mutex_destroy(&threads->sleep);
  pthread_mutex_destroy(&threads->job);
  wisp_host_free(threads->host, threads->workers);
  wisp_host_free(threads->host, threads);
}

uint32_t wisp_threads_count(const wisp_threads *threads) {
  return threads->count;
}
