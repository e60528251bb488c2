/* SPDX-License-Identifier: Apache-2.0
 * The thread pool: every part once, several callers, sleeping workers, clean ends. */
#include <criterion/criterion.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "cpu/cpu.h"
#include "cpu/threads.h"
#include "unit/capture.h"

enum { MAX_PARTS = 1000 };

typedef struct tally {
  uint32_t threads;
  uint32_t runs[MAX_PARTS];           /* plain: each part belongs to one call */
  atomic_uint busy[WISP_THREADS_MAX]; /* calls that have this worker number now */
  atomic_uint wrong;
} tally;

static void count_part(void *argument, uint32_t part, uint32_t parts, uint32_t worker) {
  tally *t = argument;
  if (part >= parts || worker >= t->threads || atomic_fetch_add(&t->busy[worker], 1) != 0) atomic_fetch_add(&t->wrong, 1);
  t->runs[part]++;
  atomic_fetch_sub(&t->busy[worker], 1);
}

static void run_and_check(wisp_threads *threads, tally *t, uint32_t parts) {
  memset(t->runs, 0, sizeof t->runs);
  t->threads = wisp_threads_count(threads);
  wisp_threads_run(threads, count_part, t, parts);
  for (uint32_t i = 0; i < MAX_PARTS; i++) {
    cr_assert_eq(t->runs[i], i < parts, "part %u of %u ran %u times", i, parts, t->runs[i]);
  }
  cr_assert_eq(atomic_load(&t->wrong), 0);
}

static void pause_ms(long ms) {
  nanosleep(&(struct timespec){.tv_nsec = ms * 1000000}, NULL);
}

Test(threads, every_part_once) {
  const uint32_t counts[] = {1, 2, 3, 8}, parts[] = {0, 1, 2, 3, 7, 64, MAX_PARTS};
  for (int c = 0; c < 4; c++) {
    capture said;
    wisp_host host = capture_host(&said);
    wisp_threads *threads;
    cr_assert_eq(wisp_threads_create(&threads, &host, counts[c]), WISP_OK);
    cr_assert_eq(wisp_threads_count(threads), counts[c]);
    static tally t;
    for (int round = 0; round < 50; round++) {
      for (int p = 0; p < 7; p++) run_and_check(threads, &t, parts[p]);
      if (round % 10 == 0) pause_ms(3); /* long enough for the workers to fall asleep */
    }
    wisp_threads_destroy(&threads);
    cr_assert_null(threads);
    wisp_threads_destroy(&threads);
    cr_assert_eq(said.live, 0);
  }
}

/* What one job writes the next one reads, in other parts: a part that starts early or ends late shows. */
static void shift_part(void *argument, uint32_t part, uint32_t parts, uint32_t worker) {
  uint32_t(*cells)[64] = argument;
  cells[1][part] = cells[0][(part + 1) % parts] + 1;
}

static void copy_part(void *argument, uint32_t part, uint32_t parts, uint32_t worker) {
  uint32_t(*cells)[64] = argument;
  cells[0][part] = cells[1][part];
}

Test(threads, jobs_follow_one_another) {
  wisp_threads *threads;
  cr_assert_eq(wisp_threads_create(&threads, NULL, 4), WISP_OK);
  uint32_t cells[2][64] = {0};
  for (uint32_t i = 0; i < 2000; i++) {
    wisp_threads_run(threads, shift_part, cells, 64);
    wisp_threads_run(threads, copy_part, cells, 64);
  }
  for (int i = 0; i < 64; i++) cr_assert_eq(cells[0][i], 2000);
  wisp_threads_destroy(&threads);
}

typedef struct caller {
  wisp_threads *threads;
  uint32_t sum;
} caller;

static void add_part(void *argument, uint32_t part, uint32_t parts, uint32_t worker) {
  uint32_t *cells = argument;
  cells[part] += part;
}

static void *call_often(void *argument) {
  caller *self = argument;
  uint32_t cells[16] = {0};
  for (int i = 0; i < 500; i++) {
    wisp_threads_begin(self->threads);
    wisp_threads_run(self->threads, add_part, cells, i % 16 + 1);
    wisp_threads_end(self->threads);
  }
  for (int i = 0; i < 16; i++) self->sum += cells[i];
  return NULL;
}

Test(threads, several_callers_at_once) {
  wisp_threads *threads;
  cr_assert_eq(wisp_threads_create(&threads, NULL, 3), WISP_OK);
  uint32_t expected = 0;
  for (uint32_t i = 0; i < 500; i++) {
    for (uint32_t part = 0; part < i % 16 + 1; part++) expected += part;
  }
  caller callers[4];
  pthread_t ids[4];
  for (int i = 0; i < 4; i++) {
    callers[i] = (caller){.threads = threads};
    cr_assert_eq(pthread_create(&ids[i], NULL, call_often, &callers[i]), 0);
  }
  for (int i = 0; i < 4; i++) {
    pthread_join(ids[i], NULL);
    cr_assert_eq(callers[i].sum, expected);
  }
  wisp_threads_destroy(&threads);
}

Test(threads, refuses) {
  capture said;
  wisp_host host = capture_host(&said);
  wisp_threads *threads;
  const uint32_t counts[] = {0, WISP_THREADS_MAX + 1, UINT32_MAX};
  for (unsigned i = 0; i < 3; i++) {
    cr_assert_eq(wisp_threads_create(&threads, &host, counts[i]), WISP_ERROR_ARGUMENT);
    cr_assert_null(threads);
    cr_assert_eq(said.errors, i + 1);
  }
  for (unsigned fail_at = 1; fail_at <= 2; fail_at++) {
    host = capture_host(&said);
    said.fail_at = fail_at;
    cr_assert_eq(wisp_threads_create(&threads, &host, 2), WISP_ERROR_MEMORY);
    cr_assert_null(threads);
    cr_assert(said.live == 0 && said.errors == 1);
  }
}

Test(threads, shares_cover_all_units) {
  for (uint32_t units = 1; units < 50; units++) {
    for (uint32_t parts = 1; parts <= units; parts++) {
      cr_assert_eq(wisp_share(units, 0, parts), 0);
      cr_assert_eq(wisp_share(units, parts, parts), units);
      for (uint32_t p = 0; p < parts; p++) cr_assert_lt(wisp_share(units, p, parts), wisp_share(units, p + 1, parts));
    }
  }
  cr_assert_eq(wisp_share(UINT32_MAX, 255, 256), (uint32_t)(UINT32_MAX * 255ull / 256));
}

Test(cpu, device) {
  wisp_device_info info;
  wisp_cpu_device_info(&info);
  cr_assert_str_eq(info.backend, "cpu");
  cr_assert_str_eq(info.selector, "cpu");
  cr_assert_str_eq(info.kind, "cpu");
  cr_assert(info.usable && info.unified_memory && info.name[0]);
  cr_assert_null(strchr(info.name, '\n'));
  cr_assert_gt(info.memory, 64u << 20);
  cr_assert_geq(wisp_cpu_cores(), 1);
  cr_assert_leq(wisp_cpu_cores(), 4096);
}

/* cpuN/name of a made-up /sys/devices/system/cpu. */
static void write_speed(const char *folder, int processor, const char *name, int value) {
  char path[256];
  snprintf(path, sizeof path, "%s/cpu%d", folder, processor);
  mkdir(path, 0700);
  snprintf(path, sizeof path, "%s/cpu%d/cpufreq", folder, processor);
  mkdir(path, 0700);
  snprintf(path, sizeof path, "%s/cpu%d/%s", folder, processor, name);
  FILE *file = fopen(path, "w");
  cr_assert_not_null(file);
  fprintf(file, "%d\n", value);
  fclose(file);
}

static uint64_t fast_of(const char *folder, uint64_t allowed) {
  const wisp_cpu_mask mask = {{allowed}};
  wisp_cpu_mask fast;
  wisp_cpu_fast(folder, &mask, &fast);
  return fast.words[0];
}

Test(cpu, fast_processors) {
  char folder[] = "/tmp/wisp-cpu-XXXXXX", command[64];
  cr_assert_not_null(mkdtemp(folder));
  cr_assert_eq(fast_of(folder, 0xff), 0xff, "nothing is known");
  const int capacities[] = {250, 250, 250, 250, 760, 760, 760, 1024}, rates[] = {1800000, 1800000, 2800000, 3000000};
  for (int i = 0; i < 4; i++) write_speed(folder, 8 + i, "cpufreq/cpuinfo_max_freq", rates[i]);
  for (int i = 0; i < 8; i++) write_speed(folder, i, "cpu_capacity", capacities[i]);
  cr_assert_eq(fast_of(folder, 0xff), 0xf0);
  cr_assert_eq(fast_of(folder, 0x0f), 0x0f, "only slow ones are allowed");
  cr_assert_eq(fast_of(folder, 0x81), 0x80);
  cr_assert_eq(fast_of(folder, 0xf00), 0xc00, "clock rates");
  snprintf(command, sizeof command, "rm -r %s", folder);
  cr_assert_eq(system(command), 0);
}
