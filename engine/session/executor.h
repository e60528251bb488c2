/* SPDX-License-Identifier: Apache-2.0
 * What a session asks of a device: an executor holds the weights, a timeline holds one KV cache. CPU and GPU give the same
 * table, and both walk the plan's op list. An executor may serve several timelines from several threads; a timeline one at a
 * time. */
#ifndef WISP_SESSION_EXECUTOR_H
#define WISP_SESSION_EXECUTOR_H

#include <stdatomic.h>

#include "plan/plan.h"
#include "session/sampler.h"

typedef struct wisp_executor {
  const struct wisp_executor_api *api;
} wisp_executor;               /* first member of the real one */
typedef struct wisp_timeline { /* likewise */
  wisp_executor *executor;
  uint32_t context;         /* tokens there is room for */
  wisp_kv_type kv_type;     /* of the cache */
  uint32_t length;          /* tokens evaluated: their K and V are in the cache */
  wisp_sampler *sampler;    /* of generate, none that needs history; NULL = argmax. Set before the first token or never */
  const atomic_int *cancel; /* set to 1 by another thread: stop soon with CANCELLED; checked between steps */
  void (*progress)(void *user, uint32_t length); /* NULL, or called by append after each batch */
  void *progress_user;
  wisp_observe_fn *observe; /* NULL = nobody looks; the CPU only */
  void *observe_user;
} wisp_timeline;

typedef struct wisp_executor_params {
  const wisp_host *host;
  const wisp_plan *plan;             /* must outlive the executor */
  int32_t device_index;              /* Vulkan: -1 = best */
  struct wisp_gpu_opening **opening; /* Vulkan: the device that is being opened; taken. NULL or NULL there: create opens it */
  uint32_t threads;                  /* CPU: 0 = one for each fast core */
  uint32_t max_context;              /* longest timeline that will be asked for */
  bool validate;
  bool compile_only;            /* build pipelines with statistics, put no weights on the device, execute nothing */
  wisp_cache cache;             /* kept until destroy */
  struct wisp_startup *startup; /* told of steps until destroy; NULL = nobody asks */
  void (*progress)(void *user, const char *stage, float fraction);
  void *progress_user;
  /* Told of matrices that the executor keeps in a layout of its own: their bytes in the file are hardly read again. May be
   * NULL. */
  void (*release)(void *user, const void *data, uint64_t size);
  void *release_user;
} wisp_executor_params;

typedef struct wisp_executor_api {
  const char *backend; /* "cpu", "vulkan" */

  wisp_status (*create)(wisp_executor **executor, const wisp_executor_params *params);
  void (*destroy)(wisp_executor *executor);

  wisp_status (*timeline_create)(wisp_timeline **timeline, wisp_executor *executor, uint32_t context, wisp_kv_type kv_type);
  void (*timeline_destroy)(wisp_timeline *timeline);

  /* Evaluates count >= 1 tokens behind those held (the caller has checked room and ids); logits as wisp_session_append.
   * Afterwards the logits of the last token are known to the timeline. On CANCELLED length says how far it came. */
  wisp_status (*append)(wisp_timeline *timeline, const int32_t *ids, size_t count, wisp_logits which, float *logits);

  /* Logits of the last evaluated token, [vocabulary]. Not after truncate. */
  wisp_status (*last_logits)(wisp_timeline *timeline, float *logits);

  /* Takes the sampler's choice from the last logits as the next token, evaluates it, and so on, up to count times (fewer as it
   * likes, at least once); *made tells how often, ids which; the sampler's drawn grows by as many where it draws. Needs valid
   * last logits and room for count tokens, of which it may evaluate some that it does not yet tell: the next generate does,
   * every other call forgets them. */
  wisp_status (*generate)(wisp_timeline *timeline, uint32_t count, int32_t *ids, uint32_t *made);

  /* As wisp_session_profile; needs valid last logits and room. NULL: not offered. */
  wisp_status (*profile)(wisp_timeline *timeline, uint32_t tokens, double *op_ns);

  /* Forgets tokens from length on; the last logits are unknown then (the caller appends next). */
  void (*truncate)(wisp_timeline *timeline, uint32_t length);

  /* Hands over the rows of the tokens held, [kv_slots][length][K: kv_width | V: kv_width] in the timeline's KV type, in order
   * and in pieces of any size. Where write says false: IO, not logged. */
  wisp_status (*kv_read)(wisp_timeline *timeline, wisp_output_fn write, void *user);

  /* Replaces all that is held by length <= context tokens with these rows, as kv_read gives them; the last logits are unknown
   * then. On failure nothing is held. */
  wisp_status (*kv_write)(wisp_timeline *timeline, uint32_t length, const uint8_t *rows);

  /* As wisp_engine_settle. NULL: nothing goes on. */
  void (*settle)(wisp_executor *executor);

  /* Fills device, threads, counters and byte counts of stats. */
  void (*get_stats)(wisp_executor *executor, wisp_engine_stats *stats);
  uint32_t (*pipelines)(wisp_executor *executor, wisp_pipeline_info *infos, uint32_t capacity);
  wisp_status (*copy_bandwidth)(wisp_executor *executor, double *gb_per_s);
  wisp_status (*tune)(wisp_executor *executor, const wisp_tune_params *params, wisp_tune_result *result); /* or NULL */
  wisp_status (*limits)(wisp_executor *executor, wisp_cpu_limits *limits); /* NULL: not offered */
} wisp_executor_api;

extern const wisp_executor_api wisp_cpu_executor; /* engine/cpu/executor.c */
extern const wisp_executor_api wisp_gpu_executor; /* engine/gpu/executor.c */

#endif
