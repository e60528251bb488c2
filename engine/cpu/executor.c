/* SPDX-License-Identifier: Apache-2.0
 * The CPU as an executor: memory of timelines, chunks of tokens, figures. */
#include "session/executor.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "cpu/cpu.h"
#include "cpu/forward.h"
#include "cpu/kernel_sets.h"
#include "cpu/limits.h"
#include "session/sampler.h"

typedef struct cpu_executor {
  wisp_executor base;
  const wisp_host *host;
  const wisp_plan *plan;
  wisp_threads *threads;
  wisp_cpu_kernels kernels;
  wisp_cpu_weights weights;
  atomic_ullong bytes, peak_bytes; /* of packed weights and all timelines */
} cpu_executor;

typedef struct cpu_timeline {
  wisp_timeline base;
  wisp_cpu_pass pass;
  uint64_t bytes;
  float *arena;         /* backing of pass's tables and scratch, and of last */
  float *last;          /* [vocabulary]: logits of the last token */
  uint32_t last_length; /* they belong to base.length == last_length; 0 = to none */
} cpu_timeline;

/* ---- Executor ----------------------------------------------------------------------------------------------------- */

static void cpu_destroy(wisp_executor *base) {
  cpu_executor *executor = (cpu_executor *)base;
  if (!executor) return;
  wisp_cpu_weights_close(&executor->weights);
  wisp_threads_destroy(&executor->threads);
  wisp_host_free(executor->host, executor);
}

static wisp_status cpu_create(wisp_executor **out, const wisp_executor_params *params) {
  *out = NULL;
  cpu_executor *executor = wisp_host_alloc(params->host, 1, sizeof *executor);
  if (!executor) return wisp_fail_memory(params->host, "CPU executor", sizeof *executor);
  executor->base.api = &wisp_cpu_executor;
  executor->host = params->host;
  executor->plan = params->plan;
  uint32_t cores = wisp_cpu_cores(), count = cores < WISP_THREADS_MAX ? cores : WISP_THREADS_MAX;
  wisp_status status = wisp_kernel_set_choose(params->host, getenv("WISP_CPU"), &executor->kernels);
  if (status == WISP_OK)
    status = wisp_threads_create(&executor->threads, params->host, params->threads ? params->threads : count);
  if (status == WISP_OK) status = wisp_cpu_weights_open(&executor->weights, params, &executor->kernels, executor->threads);
  if (status != WISP_OK) {
    cpu_destroy(&executor->base);
    return status;
  }
  executor->bytes = executor->peak_bytes = executor->weights.bytes;
  wisp_log(params->host, WISP_LOG_INFO, "CPU: %u threads, kernels \"%s\"", wisp_threads_count(executor->threads),
           executor->kernels.name);
  *out = &executor->base;
  return WISP_OK;
}

/* ---- Timelines ---------------------------------------------------------------------------------------------------- */

/* UINT64_MAX where the result does not fit: no memory is that large. */
static uint64_t times(uint64_t a, uint64_t b) {
  return b && a > UINT64_MAX / b ? UINT64_MAX : a * b;
}
static uint64_t plus(uint64_t a, uint64_t b) {
  return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

static uint64_t max_u64(uint64_t a, uint64_t b) {
  return a > b ? a : b;
}

static void timeline_free(cpu_timeline *t) {
  const wisp_host *host = ((cpu_executor *)t->base.executor)->host;
  wisp_host_free(host, t->pass.cache);
  wisp_host_free(host, t->arena);
  wisp_host_free(host, t);
}

static void cpu_timeline_destroy(wisp_timeline *base) {
  if (!base) return;
  cpu_timeline *t = (cpu_timeline *)base;
  atomic_fetch_sub(&((cpu_executor *)base->executor)->bytes, t->bytes);
  timeline_free(t);
}

/* Allocates the cache, tables and scratch of t->pass. */
static wisp_status allocate(cpu_timeline *t, const cpu_executor *executor) {
  const wisp_model *m = executor->plan->model;
  wisp_cpu_pass *pass = &t->pass;
  const uint64_t context = pass->context, chunk = context < WISP_CPU_CHUNK ? context : WISP_CPU_CHUNK;
  const uint64_t threads = wisp_threads_count(executor->threads);
  const uint64_t q_width = (uint64_t)m->heads * m->head_size, kv_width = (uint64_t)m->kv_heads * m->head_size;
  const uint64_t longest = max_u64(max_u64(m->width, m->ffn_width), q_width);
  pass->row_floats = (size_t)(WISP_MATMUL_ROWS * longest);
  pass->score_floats = m->heads / m->kv_heads * wisp_scores_stride(pass->context);
  if (executor->kernels.prompt_attention)
    pass->score_floats = max_u64(pass->score_floats, wisp_prompt_scratch(m->head_size, pass->context));
  /* Codes take half a float a column; their scales are three floats a block. */
  float *codes, *code_scales;
  const struct {
    float **pointer;
    uint64_t floats;
  } parts[] = {
      {&pass->x, times(chunk, m->width)},
      {&pass->normed, times(chunk, m->width)},
      {&pass->q, times(chunk, q_width)},
      {&pass->kv, times(chunk, 2 * kv_width)},
      {&pass->attended, times(chunk, q_width)},
      {&pass->projected, times(chunk, m->width)},
      {&pass->gate, times(chunk, m->ffn_width)},
      {&pass->up, times(chunk, m->ffn_width)},
      {&pass->rows, times(threads, pass->row_floats)},
      {&pass->steps, chunk},
      {&codes, times(chunk, (longest + 1) / 2)},
      {&code_scales, times(chunk, longest / WISP_CODE_BLOCK * sizeof(wisp_code_scale) / sizeof(float))},
      {&pass->scores, times(threads, pass->score_floats)},
      {&pass->turns, times(context, (uint64_t)m->head_size * wisp_rope_tables(m))},
      {&t->last, m->vocabulary},
  };
  enum { PARTS = sizeof parts / sizeof *parts };
  uint64_t floats = 0;
  for (uint32_t i = 0; i < PARTS; i++) floats = plus(floats, parts[i].floats);

  const uint64_t row_bytes = wisp_plan_kv_row_bytes(executor->plan, pass->kv_type);
  const uint64_t cache_bytes = times(times(executor->plan->kv_slots, context), row_bytes);
  t->bytes = plus(cache_bytes, times(floats, sizeof(float)));
  /* Asked before the system is: it would promise more than there is, and kill the process when it is used. */
  if (t->bytes > wisp_cpu_memory() || t->bytes > SIZE_MAX) {
    return wisp_fail(executor->host, WISP_ERROR_MEMORY,
                     "out of memory: a context of %u tokens needs %" PRIu64 " bytes, this machine has %" PRIu64
                     "; ask for a smaller context",
                     pass->context, t->bytes, wisp_cpu_memory());
  }
  pass->cache = wisp_host_alloc(executor->host, (size_t)cache_bytes, 1);
  if (!pass->cache) return wisp_fail_memory(executor->host, "KV cache", cache_bytes);
  t->arena = wisp_host_alloc(executor->host, (size_t)floats, sizeof(float));
  if (!t->arena) return wisp_fail_memory(executor->host, "activations", floats * sizeof(float));
  float *next = t->arena;
  for (uint32_t i = 0; i < PARTS; i++) {
    *parts[i].pointer = next;
    next += parts[i].floats;
  }
  pass->codes = (wisp_codes){(int16_t *)(void *)codes, (wisp_code_scale *)(void *)code_scales};
  return WISP_OK;
}

static wisp_status cpu_timeline_create(wisp_timeline **out, wisp_executor *base, uint32_t context, wisp_kv_type kv_type) {
  *out = NULL;
  cpu_executor *executor = (cpu_executor *)base;
  if (context == 0) return wisp_fail(executor->host, WISP_ERROR_ARGUMENT, "context: 0 tokens, at least 1 is needed");
  cpu_timeline *t = wisp_host_alloc(executor->host, 1, sizeof *t);
  if (!t) return wisp_fail_memory(executor->host, "timeline", sizeof *t);
  t->base = (wisp_timeline){.executor = base, .context = context, .kv_type = kv_type};
  t->pass = (wisp_cpu_pass){.plan = executor->plan,
                            .kernels = &executor->kernels,
                            .weights = &executor->weights,
                            .threads = executor->threads,
                            .kv_type = kv_type,
                            .context = context};
  wisp_status status = allocate(t, executor);
  if (status != WISP_OK) {
    timeline_free(t);
    return status;
  }
  wisp_rope_table(executor->plan->model, context, t->pass.turns);
  unsigned long long bytes = atomic_fetch_add(&executor->bytes, t->bytes) + t->bytes, peak = atomic_load(&executor->peak_bytes);
  while (bytes > peak && !atomic_compare_exchange_weak(&executor->peak_bytes, &peak, bytes)) {
  }
  *out = &t->base;
  return WISP_OK;
}

/* ---- Tokens ------------------------------------------------------------------------------------------------------- */

static wisp_status cpu_append(wisp_timeline *base, const int32_t *ids, size_t count, wisp_logits which, float *logits) {
  cpu_timeline *t = (cpu_timeline *)base;
  wisp_cpu_pass *pass = &t->pass;
  const size_t vocabulary = pass->plan->model->vocabulary;
  float *all = which == WISP_LOGITS_ALL ? logits : NULL; /* of the next chunk */
  pass->cancel = base->cancel;
  pass->observe = base->observe;
  pass->observe_user = base->observe_user;
  while (count > 0) {
    uint32_t chunk = count < WISP_CPU_CHUNK ? (uint32_t)count : WISP_CPU_CHUNK;
    pass->ids = ids;
    pass->count = chunk;
    pass->position = base->length;
    /* The last token's logits are always known afterwards; those of the others only where asked for. */
    pass->wanted = all ? 0 : count == chunk ? chunk - 1 : chunk;
    pass->logits = all ? all : t->last;
    wisp_threads_begin(pass->threads);
    const wisp_status status = wisp_cpu_forward(pass);
    wisp_threads_end(pass->threads);
    if (status != WISP_OK) return status;
    base->length += chunk;
    t->last_length = 0;
    if (base->progress) base->progress(base->progress_user, base->length);
    ids += chunk;
    count -= chunk;
    if (all) {
      all += chunk * vocabulary;
      if (count == 0) memcpy(t->last, all - vocabulary, vocabulary * sizeof(float));
    }
  }
  t->last_length = base->length;
  if (which == WISP_LOGITS_LAST) memcpy(logits, t->last, vocabulary * sizeof(float));
  return WISP_OK;
}

static wisp_status check_last(const cpu_timeline *t) {
  if (t->last_length && t->last_length == t->base.length) return WISP_OK;
  return wisp_fail(((cpu_executor *)t->base.executor)->host, WISP_ERROR_ARGUMENT,
                   "the last token's logits are not known: append a token first");
}

static wisp_status cpu_last_logits(wisp_timeline *base, float *logits) {
  cpu_timeline *t = (cpu_timeline *)base;
  WISP_TRY(check_last(t));
  memcpy(logits, t->last, t->pass.plan->model->vocabulary * sizeof(float));
  return WISP_OK;
}

/* One token a call: a CPU has no queue to keep filled, and the caller may look at it at once. */
static wisp_status cpu_generate(wisp_timeline *base, uint32_t count, int32_t *ids, uint32_t *made) {
  cpu_timeline *t = (cpu_timeline *)base;
  *made = 0;
  WISP_TRY(check_last(t));
  if (count == 0) return WISP_OK;
  wisp_sampler *sampler = base->sampler;
  const uint64_t drawn = sampler ? sampler->drawn : 0;
  ids[0] = sampler ? wisp_sampler_pick(sampler, t->last, NULL, 0) : wisp_argmax(t->last, t->pass.plan->model->vocabulary);
  const wisp_status status = cpu_append(base, ids, 1, WISP_LOGITS_NONE, NULL);
  if (status == WISP_OK)
    *made = 1;
  else if (sampler)
    sampler->drawn = drawn;
  return status;
}

static void cpu_truncate(wisp_timeline *base, uint32_t length) {
  if (length < base->length) base->length = length;
}

/* The rows of a slot's first length tokens, and how many bytes they are. */
static uint8_t *slot_rows(const cpu_timeline *t, uint32_t slot, uint32_t length, size_t *bytes) {
  const wisp_cpu_pass *pass = &t->pass;
  const size_t row = (size_t)wisp_plan_kv_row_bytes(pass->plan, pass->kv_type);
  *bytes = length * row;
  return pass->cache + (size_t)slot * pass->context * row;
}

static wisp_status cpu_kv_read(wisp_timeline *base, wisp_output_fn write, void *user) {
  const cpu_timeline *t = (const cpu_timeline *)base;
  for (uint32_t slot = 0; slot < t->pass.plan->kv_slots; slot++) {
    size_t bytes;
    const uint8_t *rows = slot_rows(t, slot, base->length, &bytes);
    if (!write(user, rows, bytes)) return WISP_ERROR_IO;
  }
  return WISP_OK;
}

static wisp_status cpu_kv_write(wisp_timeline *base, uint32_t length, const uint8_t *rows) {
  cpu_timeline *t = (cpu_timeline *)base;
  for (uint32_t slot = 0; slot < t->pass.plan->kv_slots; slot++) {
    size_t bytes;
    uint8_t *to = slot_rows(t, slot, length, &bytes);
    memcpy(to, rows, bytes);
    rows += bytes;
  }
  base->length = length;
  t->last_length = 0;
  return WISP_OK;
}

/* ---- Figures ------------------------------------------------------------------------------------------------------ */

static void cpu_get_stats(wisp_executor *base, wisp_engine_stats *stats) {
  cpu_executor *executor = (cpu_executor *)base;
  wisp_cpu_device_info(&stats->device);
  stats->threads = wisp_threads_count(executor->threads);
  stats->decode = "";
  stats->kernels = executor->kernels.name;
  stats->device_bytes = atomic_load(&executor->bytes);
  stats->peak_device_bytes = atomic_load(&executor->peak_bytes);
  stats->pipelines_built = stats->descriptor_writes = stats->allocations = 0;
  stats->dispatches = stats->barriers = stats->submits = 0;
}

static uint32_t cpu_pipelines(wisp_executor *executor, wisp_pipeline_info *infos, uint32_t capacity) {
  return 0;
}

static wisp_status cpu_copy_bandwidth(wisp_executor *base, double *gb_per_s) {
  cpu_executor *executor = (cpu_executor *)base;
  wisp_threads_begin(executor->threads);
  const wisp_status status = wisp_cpu_copy_bandwidth(executor->host, executor->threads, gb_per_s);
  wisp_threads_end(executor->threads);
  return status;
}

static wisp_status cpu_limits(wisp_executor *base, wisp_cpu_limits *limits) {
  cpu_executor *executor = (cpu_executor *)base;
  wisp_threads_begin(executor->threads);
  const wisp_status status = wisp_cpu_measure_limits(executor->plan, &executor->kernels, &executor->weights, executor->threads,
                                                     limits);
  wisp_threads_end(executor->threads);
  return status;
}

const wisp_executor_api wisp_cpu_executor = {
    .backend = "cpu",
    .create = cpu_create,
    .destroy = cpu_destroy,
    .timeline_create = cpu_timeline_create,
    .timeline_destroy = cpu_timeline_destroy,
    .append = cpu_append,
    .last_logits = cpu_last_logits,
    .generate = cpu_generate,
    .truncate = cpu_truncate,
    .kv_read = cpu_kv_read,
    .kv_write = cpu_kv_write,
    .get_stats = cpu_get_stats,
    .pipelines = cpu_pipelines,
    .copy_bandwidth = cpu_copy_bandwidth,
    .limits = cpu_limits,
};
