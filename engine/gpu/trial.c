/* SPDX-License-Identifier: Apache-2.0 */
#include "gpu/trial.h"

#include <math.h>

#include "base/clock.h"
#include "gpu/fused.h"
#include "gpu/tune.h"

#define HOPELESS 1.1         /* times the best one's: not timed again */
#define SUBMIT_SECONDS 0.025 /* tokens timed together take about so long at most */
#define WARM_SECONDS 0.02    /* of work before times count: clock rates rise, */
#define MOST_WARM_SECONDS 1  /* slowly behind a pause for the compiler: so long, while what was timed before takes */
#define COLD 1.05            /* times as long as then */

void wisp_trial_close(wisp_trial *r) {
  wvk_commands_destroy(&r->commands);
  if (r->timeline) wisp_gpu_timeline_destroy(&r->timeline->base);
  *r = (wisp_trial){0};
}

wisp_status wisp_trial_record(wisp_trial *r, uint32_t count) {
  gpu_timeline *t = r->timeline;
  r->count = count;
  t->persistent.active = r->persistent;
  if (!r->commands) WISP_GPU_TRY(wvk_commands_create(&r->commands, t->executor->device, 2));
  WISP_GPU_TRY(wvk_commands_begin(r->commands));
  wvk_cmd_timestamp(r->commands, 0);
  for (uint32_t i = 0; i < count; i++) WISP_TRY(wisp_gpu_record_token(t, r->commands));
  wvk_cmd_timestamp(r->commands, 1);
  return wisp_gpu_status(wvk_commands_end(r->commands));
}

wisp_status wisp_trial_run(wisp_trial *r) {
  gpu_timeline *t = r->timeline;
  double ns[2];
  wisp_gpu_write_step(t, WISP_TUNE_POSITIONS, 1, 0);
  const double begin = wisp_now_s();
  WISP_TRY(wisp_gpu_run(t, r->commands));
  const double wall = wisp_now_s() - begin;
  const double seconds = (wvk_commands_times(r->commands, ns) ? 1e-9 * ns[1] : wall) / r->count;
  if (r->seconds <= 0 || seconds < r->seconds) r->seconds = seconds;
  t->persistent.active = r->persistent;
  if (r->persistent) wisp_persistent_failed(t);
  return WISP_OK;
}

wisp_status wisp_trial_fill(gpu_timeline *t) {
  t->batch_columns = 0;
  WISP_GPU_TRY(wvk_commands_begin(t->batch));
  wvk_cmd_fill(t->batch, t->kv, 0, wvk_buffer_size(t->kv), 0);
  wvk_cmd_transfer_barrier(t->batch);
  WISP_GPU_TRY(wvk_commands_end(t->batch));
  return wisp_gpu_run(t, t->batch);
}

wisp_status wisp_trial_choose_count(wisp_trial *r, uint32_t *count) {
  WISP_TRY(wisp_trial_record(r, 1));
  WISP_TRY(wisp_trial_run(r));
  r->seconds = 0;
  WISP_TRY(wisp_trial_run(r));
  const double most = SUBMIT_SECONDS / fmax(r->seconds, 1e-9);
  *count = most >= WISP_TUNE_TOKENS ? WISP_TUNE_TOKENS : most < 1 ? 1 : (uint32_t)most;
  return WISP_OK;
}

static double median(const double *values, int count) {
  double sorted[WISP_TRIAL_REPEATS];
  for (int i = 0; i < count; i++) {
    int at = i;
    for (; at > 0 && sorted[at - 1] > values[i]; at--) sorted[at] = sorted[at - 1];
    sorted[at] = values[i];
  }
  return count % 2 ? sorted[count / 2] : 0.5 * (sorted[count / 2 - 1] + sorted[count / 2]);
}

/* Until whoever was timed before takes about as long as then. */
static wisp_status warm_up(wisp_trial *a, wisp_trial *b, double until) {
  const double begin = wisp_now_s(), known_a = a->seconds, known_b = b->seconds;
  double spent;
  bool cold;
  do {
    a->seconds = b->seconds = 0;
    WISP_TRY(wisp_trial_run(a));
    WISP_TRY(wisp_trial_run(b));
    cold = (known_a > 0 && a->seconds > COLD * known_a) || (known_b > 0 && b->seconds > COLD * known_b);
    spent = wisp_now_s() - begin;
  } while (spent < WARM_SECONDS || (cold && spent < MOST_WARM_SECONDS && wisp_now_s() < until));
  return WISP_OK;
}

wisp_status wisp_trial_race(wisp_trial *a, wisp_trial *b, double until) {
  wisp_trial *both[] = {a, b};
  double ratios[WISP_TRIAL_REPEATS], best = HUGE_VAL;
  WISP_TRY(warm_up(a, b, until));
  for (int i = 0; i < WISP_TRIAL_REPEATS; i++) {
    a->seconds = b->seconds = 0;
    WISP_TRY(wisp_trial_run(both[i % 2]));
    WISP_TRY(wisp_trial_run(both[1 - i % 2]));
    best = fmin(best, a->seconds);
    ratios[i] = b->seconds / fmax(a->seconds, 1e-12);
    a->seconds = best;
    b->seconds = best * median(ratios, i + 1);
    if (wisp_now_s() > until || (i >= 2 && b->seconds > HOPELESS * a->seconds)) break;
  }
  return WISP_OK;
}

/* Builds those kernels of decode that are not there yet, without holding the lock while the driver compiles; *built: none was
 * refused. */
static wisp_status add_kernels(gpu_executor *e, const wisp_kernel_context *context, bool *built) {
  *built = true;
  for (uint32_t i = 0; i < e->plan->op_count && *built; i++)
    for (uint32_t part = 0; part < wisp_kernel_parts(context, &e->plan->ops[i], false) && *built; part++) {
      const wisp_kernel kernel = wisp_kernel_for(context, &e->plan->ops[i], part, false).kernel;
      if (wisp_gpu_pipeline(e, &kernel)) continue;
      const wvk_host host = wisp_gpu_host(e->host);
      wvk_pipeline *pipeline;
      wvk_pipeline_params params;
      uint32_t *compiled = wisp_gpu_pipeline_params(e, &kernel, &params);
      params.passing = true;
      const wvk_status status = wvk_pipeline_create(&pipeline, e->layout, &params);
      wvk_glsl_free(&host, compiled);
      if (status == WVK_ERROR_MEMORY || status == WVK_ERROR_LOST) return wisp_gpu_status(status);
      pthread_mutex_lock(&e->mutex);
      *built = status == WVK_OK && e->pipeline_count < WISP_GPU_MAX_PIPELINES;
      if (*built) {
        e->kernels[e->pipeline_count] = kernel;
        e->pipelines[e->pipeline_count++] = pipeline;
      }
      pthread_mutex_unlock(&e->mutex);
      if (!*built) wvk_pipeline_destroy(&pipeline);
    }
  return WISP_OK;
}

void wisp_trial_drop_kernels(gpu_executor *e, uint32_t first) {
  pthread_mutex_lock(&e->mutex);
  wisp_gpu_drop_pipelines(e, first);
  pthread_mutex_unlock(&e->mutex);
}

wisp_kernel_context wisp_trial_context(const gpu_executor *e, const wisp_choice *choice) {
  wisp_kernel_context context = e->context;
  context.kv_type = e->plan->kv_type;
  context.choice = *choice;
  wisp_activations_plan(&context, context.activations.columns);
  context.fused = wisp_fused_fits(&context);
  return context;
}

wisp_status wisp_trial_open(wisp_trial *r, gpu_executor *e, const wisp_kernel_context *context) {
  bool built;
  *r = (wisp_trial){0};
  WISP_TRY(add_kernels(e, context, &built));
  if (!built) return WISP_OK;
  WISP_TRY(wisp_gpu_timeline_create_as(&r->timeline, e, context, WISP_TUNE_CONTEXT, e->plan->kv_slots));
  wisp_persistent_bar(r->timeline);
  return wisp_trial_fill(r->timeline);
}

wisp_status wisp_trial_open_persistent(wisp_trial *r, gpu_executor *e, const wisp_kernel_context *context) {
  *r = (wisp_trial){.persistent = true};
  WISP_TRY(wisp_gpu_timeline_create_as(&r->timeline, e, context, WISP_TUNE_CONTEXT, e->plan->kv_slots));
  if (r->timeline->persistent.active) return wisp_trial_fill(r->timeline);
  wisp_trial_close(r); /* the kernel for this KV type is still being compiled */
  return WISP_OK;
}
