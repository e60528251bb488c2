/* SPDX-License-Identifier: Apache-2.0 */
#include "cpu/threads.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <time.h>

#include "cpu/cpu.h"

/* Idle threads spin so long, which is longer than the steps of a token are apart, then give way so long, then sleep. */
enum { SPIN_NS = 30000, YIELD_NS = 30000 };

typedef struct worker {
  wisp_threads *threads;
  uint32_t index;
  pthread_t thread;
} worker;

struct wisp_threads {
  const wisp_host *host;
  uint32_t count; /* workers and the caller */
  uint32_t started;
  bool spins;      /* and stay on fast cores; not where threads have to share processors */
  worker *workers; /* [count - 1] */

  pthread_mutex_t turn;
  pthread_cond_t turned;
  unsigned long long turns_asked, turns_ended;

  /* The job. A worker reads it before it takes a part and may be late for it: its compare-and-swap of the ticket then fails, so
   * the fields are only used while they hold. */
  _Atomic(wisp_task_fn) task;
  _Atomic(void *) argument;
  atomic_uint parts;
  atomic_ullong ticket; /* job number << 32 | next part */
  atomic_uint done;     /* parts finished */

  /* Whoever wants to sleep says so before looking once more; whoever has news looks for sleepers after publishing it. */
  pthread_mutex_t sleep;
  pthread_cond_t wake, finished;
  atomic_uint sleepers; /* workers */
  atomic_bool waiting;  /* the caller */
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
  const unsigned long long ticket = atomic_load(&threads->ticket);
  return next_part(ticket) < atomic_load(&threads->parts) || atomic_load(&threads->stop);
}

static bool is_finished(wisp_threads *threads) {
  return atomic_load(&threads->done) == atomic_load(&threads->parts);
}

static int64_t now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* Waits until ready says so; false if that took too long for anything but sleep. */
static bool spin(wisp_threads *threads, bool (*ready)(wisp_threads *threads)) {
  if (!threads->spins) return ready(threads);
  const int64_t start = now_ns();
  for (int64_t waited = 0; waited < SPIN_NS + YIELD_NS; waited = now_ns() - start) {
    for (int i = 0; i < 32; i++) {
      if (ready(threads)) return true;
      pause_processor();
    }
    if (waited > SPIN_NS) sched_yield();
  }
  return ready(threads);
}

static void finish_part(wisp_threads *threads, uint32_t parts) {
  if (atomic_fetch_add(&threads->done, 1) + 1 < parts || !atomic_load(&threads->waiting)) return;
  pthread_mutex_lock(&threads->sleep);
  pthread_cond_signal(&threads->finished);
  pthread_mutex_unlock(&threads->sleep);
}

/* Takes and runs parts until none is left. */
static void work(wisp_threads *threads, uint32_t index) {
  unsigned long long ticket = atomic_load(&threads->ticket);
  for (;;) {
    wisp_task_fn task = atomic_load_explicit(&threads->task, memory_order_acquire);
    void *argument = atomic_load_explicit(&threads->argument, memory_order_acquire);
    const uint32_t parts = atomic_load_explicit(&threads->parts, memory_order_acquire);
    if (next_part(ticket) >= parts) {
      const unsigned long long now = atomic_load(&threads->ticket);
      if (now == ticket) return;
      ticket = now;
    } else if (atomic_compare_exchange_strong(&threads->ticket, &ticket, ticket + 1)) {
      task(argument, next_part(ticket), parts, index);
      finish_part(threads, parts);
      ticket = atomic_load(&threads->ticket);
    }
  }
}

static void wait_for_parts(wisp_threads *threads) {
  if (spin(threads, has_parts)) return;
  pthread_mutex_lock(&threads->sleep);
  atomic_fetch_add(&threads->sleepers, 1);
  while (!has_parts(threads)) pthread_cond_wait(&threads->wake, &threads->sleep);
  atomic_fetch_sub(&threads->sleepers, 1);
  pthread_mutex_unlock(&threads->sleep);
}

static void wake_sleepers(wisp_threads *threads) {
  if (atomic_load(&threads->sleepers) == 0) return;
  pthread_mutex_lock(&threads->sleep);
  pthread_cond_broadcast(&threads->wake);
  pthread_mutex_unlock(&threads->sleep);
}

static void wait_until_finished(wisp_threads *threads) {
  if (spin(threads, is_finished)) return;
  pthread_mutex_lock(&threads->sleep);
  atomic_store(&threads->waiting, true);
  while (!is_finished(threads)) pthread_cond_wait(&threads->finished, &threads->sleep);
  atomic_store(&threads->waiting, false);
  pthread_mutex_unlock(&threads->sleep);
}

static void *worker_main(void *argument) {
  worker *self = argument;
  if (self->threads->spins) wisp_cpu_prefer_fast();
  while (!atomic_load(&self->threads->stop)) {
    work(self->threads, self->index);
    wait_for_parts(self->threads);
  }
  return NULL;
}

void wisp_threads_begin(wisp_threads *threads) {
  if (threads->count == 1) return;
  pthread_mutex_lock(&threads->turn);
  const unsigned long long mine = threads->turns_asked++;
  while (threads->turns_ended != mine) pthread_cond_wait(&threads->turned, &threads->turn);
  pthread_mutex_unlock(&threads->turn);
}

void wisp_threads_end(wisp_threads *threads) {
  if (threads->count == 1) return;
  pthread_mutex_lock(&threads->turn);
  threads->turns_ended++;
  pthread_cond_broadcast(&threads->turned);
  pthread_mutex_unlock(&threads->turn);
}

void wisp_threads_run(wisp_threads *threads, wisp_task_fn task, void *argument, uint32_t parts) {
  if (threads->count == 1 || parts <= 1) {
    for (uint32_t part = 0; part < parts; part++) task(argument, part, parts, 0);
    return;
  }
  /* All parts of the last job are taken and done. The ticket says "none left" while the fields change, and opens the job last.
   */
  const unsigned long long job = (atomic_load_explicit(&threads->ticket, memory_order_relaxed) >> 32) + 1;
  atomic_store_explicit(&threads->ticket, job << 32 | UINT32_MAX, memory_order_relaxed);
  atomic_store_explicit(&threads->task, task, memory_order_release);
  atomic_store_explicit(&threads->argument, argument, memory_order_release);
  atomic_store_explicit(&threads->parts, parts, memory_order_release);
  atomic_store_explicit(&threads->done, 0, memory_order_release);
  atomic_store(&threads->ticket, job << 32);
  wake_sleepers(threads);
  work(threads, 0);
  wait_until_finished(threads);
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
  threads->spins = count <= wisp_cpu_cores();
  pthread_mutex_init(&threads->turn, NULL);
  pthread_cond_init(&threads->turned, NULL);
  pthread_mutex_init(&threads->sleep, NULL);
  pthread_cond_init(&threads->wake, NULL);
  pthread_cond_init(&threads->finished, NULL);
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
  pthread_cond_destroy(&threads->finished);
  pthread_cond_destroy(&threads->wake);
  pthread_mutex_destroy(&threads->sleep);
  pthread_cond_destroy(&threads->turned);
  pthread_mutex_destroy(&threads->turn);
  wisp_host_free(threads->host, threads->workers);
  wisp_host_free(threads->host, threads);
}

uint32_t wisp_threads_count(const wisp_threads *threads) {
  return threads->count;
}
