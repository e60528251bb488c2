/* SPDX-License-Identifier: Apache-2.0 */
#include "cpu/limits.h"
#include "base/clock.h"

#include <string.h>

/* ---- Memory ----------------------------------------------------------------------------------------------------------- */

enum { COPY_BYTES = 128 << 20, COPY_PARTS = 64, PASSES = 4 };

typedef struct stretch {
  uint8_t *memory; /* 2 * COPY_BYTES */
  uint64_t sums[COPY_PARTS];
} stretch;

static void copy_part(void *argument, uint32_t part, uint32_t parts, uint32_t worker) {
  stretch *s = argument;
  const size_t begin = wisp_share(COPY_BYTES, part, parts), end = wisp_share(COPY_BYTES, part + 1, parts);
  memcpy(s->memory + COPY_BYTES + begin, s->memory + begin, end - begin);
}

/* A sum of vectors, which no compiler drops since it is stored. */
static void read_part(void *argument, uint32_t part, uint32_t parts, uint32_t worker) {
  typedef uint64_t wide __attribute__((vector_size(32), aligned(8)));
  stretch *s = argument;
  const size_t begin = wisp_share(COPY_BYTES, part, parts) & ~63u, end = wisp_share(COPY_BYTES, part + 1, parts) & ~63u;
  wide sums[2] = {{0}, {0}};
  for (size_t i = begin; i < end; i += 64) {
    wide lanes[2];
    memcpy(lanes, s->memory + i, sizeof lanes);
    sums[0] += lanes[0];
    sums[1] += lanes[1];
  }
  sums[0] += sums[1];
  s->sums[part] = sums[0][0] + sums[0][1] + sums[0][2] + sums[0][3];
}

/* bytes / 1e9 / the shortest time of a job. */
static double best_rate(wisp_threads *threads, wisp_task_fn task, void *argument, uint32_t parts, double bytes) {
  double best = 0;
  for (int i = 0; i < PASSES; i++) {
    const double start = wisp_now_s();
    wisp_threads_run(threads, task, argument, parts);
    const double rate = bytes / (wisp_now_s() - start) / 1e9;
    if (rate > best) best = rate;
  }
  return best;
}

static wisp_status measure_memory(const wisp_host *host, wisp_threads *threads, wisp_task_fn task, double bytes,
                                  double *gb_per_s) {
  stretch s = {.memory = wisp_host_alloc(host, 2, COPY_BYTES)};
  if (!s.memory) return wisp_fail_memory(host, "measuring memory", 2ull * COPY_BYTES);
  memset(s.memory, 1, COPY_BYTES); /* untouched pages would all be the same page of zeros */
  task(&s, 0, 1, 0);
  *gb_per_s = best_rate(threads, task, &s, COPY_PARTS, bytes);
  wisp_host_free(host, s.memory);
  return WISP_OK;
}

wisp_status wisp_cpu_copy_bandwidth(const wisp_host *host, wisp_threads *threads, double *gb_per_s) {
  return measure_memory(host, threads, copy_part, 2.0 * COPY_BYTES, gb_per_s);
}

/* ---- Arithmetic ------------------------------------------------------------------------------------------------------- */

enum { BATCH = 64, ROWS = 64, ROUNDS = 16 }; /* a few rows: they stay in the nearest cache */

typedef struct products {
  const wisp_matrix *matrix;
  const wisp_packed *packed;
  const wisp_cpu_kernels *kernels;
  uint32_t rows, count, times;
  float *x;         /* [BATCH][cols] */
  wisp_codes codes; /* of x */
  float *scratch;   /* [threads]: rows of the float kernel, then results */
  size_t scratch_floats;
} products;

static void multiply_part(void *argument, uint32_t part, uint32_t parts, uint32_t worker) {
  const products *p = argument;
  float *rows = p->scratch + worker * p->scratch_floats, *y = rows + (size_t)WISP_MATMUL_ROWS * p->matrix->cols;
  for (uint32_t i = 0; i < p->times; i++) {
    if (p->packed->format)
      p->kernels->packed_matmul(p->packed, 0, p->rows, &p->codes, p->count, y, p->rows);
    else
      p->kernels->matmul(p->matrix, 0, p->rows, p->x, p->count, rows, y, p->rows);
  }
}

static double multiply_rate(products *p, wisp_threads *threads, uint32_t count) {
  const uint32_t parts = wisp_threads_count(threads) * ROUNDS;
  p->count = count;
  p->times = 1 + 200000 / (p->rows * p->matrix->cols / 16 * count); /* some tenths of a millisecond a part */
  return best_rate(threads, multiply_part, p, parts, 2.0 * p->rows * p->matrix->cols * count * p->times * parts);
}

wisp_status wisp_cpu_measure_limits(const wisp_plan *plan, const wisp_cpu_kernels *kernels, const wisp_cpu_weights *weights,
                                    wisp_threads *threads, wisp_cpu_limits *limits) {
  products p = {.matrix = plan->ops[1].matrices[0], .packed = &weights->ops[1][0], .kernels = kernels};
  const size_t cols = p.matrix->cols, blocks = cols / WISP_CODE_BLOCK;
  p.rows = p.matrix->rows < ROWS ? p.matrix->rows : ROWS;
  p.scratch_floats = WISP_MATMUL_ROWS * cols + (size_t)p.rows * BATCH;
  WISP_TRY(measure_memory(plan->host, threads, read_part, COPY_BYTES, &limits->read_gb_per_s));
  p.x = wisp_host_alloc(plan->host, BATCH * cols, sizeof(float));
  p.codes.codes = wisp_host_alloc(plan->host, BATCH * cols, sizeof(int16_t));
  p.codes.scales = wisp_host_alloc(plan->host, BATCH * blocks + 1, sizeof(wisp_code_scale));
  p.scratch = wisp_host_alloc(plan->host, wisp_threads_count(threads) * p.scratch_floats, sizeof(float));
  const bool there = p.x && p.codes.codes && p.codes.scales && p.scratch;
  for (size_t i = 0; there && i < BATCH * cols; i++) p.x[i] = (float)(i % 17) - 8;
  for (size_t c = 0; there && p.packed->format && c < BATCH; c++)
    kernels->quantize(p.x + c * cols, (uint32_t)cols, 0, p.codes.codes + c * cols, p.codes.scales + c * blocks);
  if (there) {
    limits->token_gflops = multiply_rate(&p, threads, 1);
    limits->batch_gflops = multiply_rate(&p, threads, BATCH);
  }
  wisp_host_free(plan->host, p.x);
  wisp_host_free(plan->host, p.codes.codes);
  wisp_host_free(plan->host, p.codes.scales);
  wisp_host_free(plan->host, p.scratch);
  return there ? WISP_OK
               : wisp_fail_memory(plan->host, "measuring products", wisp_threads_count(threads) * p.scratch_floats * 4);
}
