/* SPDX-License-Identifier: Apache-2.0 */
#include "session/mixed.h"

#include <string.h>

#include "session/sampler.h"

enum { PROMPT, REPLY, SIDES };

typedef struct mixed_executor {
  wisp_executor base;
  const wisp_host *host;
  const wisp_plan *plan;
  wisp_executor *sides[SIDES];
} mixed_executor;

typedef struct mixed_timeline {
  wisp_timeline base;
  wisp_timeline *sides[SIDES]; /* each holds a prefix of what is held, one of them all of it */
  int last;                    /* the side that evaluated the last token: it knows the logits */
} mixed_timeline;

static const wisp_executor_api mixed_api;

static const wisp_executor_api *api_of(const mixed_timeline *t, int side) {
  return t->sides[side]->executor->api;
}

/* ---- Creation ---- */

static void mixed_destroy(wisp_executor *base) {
  mixed_executor *e = (mixed_executor *)base;
  for (int i = 0; i < SIDES; i++) e->sides[i]->api->destroy(e->sides[i]);
  wisp_host_free(e->host, e);
}

wisp_status wisp_mixed_create(wisp_executor **executor, const wisp_host *host, const wisp_plan *plan, wisp_executor *prompt,
                              wisp_executor *reply) {
  *executor = NULL;
  mixed_executor *e = wisp_host_alloc(host, 1, sizeof *e);
  if (!e) {
    prompt->api->destroy(prompt);
    reply->api->destroy(reply);
    return wisp_fail_memory(host, "executor", sizeof *e);
  }
  *e = (mixed_executor){.base.api = &mixed_api, .host = host, .plan = plan, .sides = {prompt, reply}};
  *executor = &e->base;
  return WISP_OK;
}

static void mixed_timeline_destroy(wisp_timeline *base) {
  if (!base) return;
  mixed_timeline *t = (mixed_timeline *)base;
  for (int i = 0; i < SIDES; i++)
    if (t->sides[i]) api_of(t, i)->timeline_destroy(t->sides[i]);
  wisp_host_free(((mixed_executor *)base->executor)->host, t);
}

static wisp_status mixed_timeline_create(wisp_timeline **out, wisp_executor *base, uint32_t context, wisp_kv_type kv_type) {
  mixed_executor *e = (mixed_executor *)base;
  *out = NULL;
  mixed_timeline *t = wisp_host_alloc(e->host, 1, sizeof *t);
  if (!t) return wisp_fail_memory(e->host, "timeline", sizeof *t);
  t->base = (wisp_timeline){.executor = base, .context = context, .kv_type = kv_type};
  for (int i = 0; i < SIDES; i++) {
    const wisp_status status = e->sides[i]->api->timeline_create(&t->sides[i], e->sides[i], context, kv_type);
    if (status != WISP_OK) {
      mixed_timeline_destroy(&t->base);
      return status;
    }
  }
  *out = &t->base;
  return WISP_OK;
}

/* ---- Handing over ---- */

typedef struct rows {
  uint8_t *bytes;
  size_t size, filled;
} rows;

static bool take_rows(void *user, const void *data, size_t size) {
  rows *r = user;
  if (size > r->size - r->filled) return false;
  memcpy(r->bytes + r->filled, data, size);
  r->filled += size;
  return true;
}

/* The side holds what the timeline holds. */
static wisp_status bring_up(mixed_timeline *t, int side) {
  const mixed_executor *e = (mixed_executor *)t->base.executor;
  wisp_timeline *to = t->sides[side], *from = t->sides[!side];
  if (to->length == t->base.length) return WISP_OK;
  const uint64_t token = wisp_plan_kv_row_bytes(e->plan, t->base.kv_type) * e->plan->kv_slots;
  rows r = {.size = (size_t)(token * t->base.length)};
  r.bytes = wisp_host_alloc(e->host, r.size ? r.size : 1, 1);
  if (!r.bytes) return wisp_fail_memory(e->host, "rows of K and V", r.size);
  wisp_status status = api_of(t, !side)->kv_read(from, take_rows, &r);
  if (status == WISP_OK) status = api_of(t, side)->kv_write(to, t->base.length, r.bytes);
  wisp_host_free(e->host, r.bytes);
  return status;
}

/* The session's wishes reach the side that works. */
static void lend_hooks(const mixed_timeline *t, wisp_timeline *side) {
  side->sampler = t->base.sampler;
  side->cancel = t->base.cancel;
  side->progress = t->base.progress;
  side->progress_user = t->base.progress_user;
  side->observe = t->base.observe;
  side->observe_user = t->base.observe_user;
}

/* ---- Tokens ---- */

static wisp_status append_on(mixed_timeline *t, int side, const int32_t *ids, size_t count, wisp_logits which, float *logits) {
  WISP_TRY(bring_up(t, side));
  lend_hooks(t, t->sides[side]);
  const wisp_status status = api_of(t, side)->append(t->sides[side], ids, count, which, logits);
  t->base.length = t->sides[side]->length;
  t->last = side;
  return status;
}

static wisp_status mixed_append(wisp_timeline *base, const int32_t *ids, size_t count, wisp_logits which, float *logits) {
  return append_on((mixed_timeline *)base, count >= WISP_MIXED_PROMPT ? PROMPT : REPLY, ids, count, which, logits);
}

static wisp_status mixed_last_logits(wisp_timeline *base, float *logits) {
  mixed_timeline *t = (mixed_timeline *)base;
  return api_of(t, t->last)->last_logits(t->sides[t->last], logits);
}

/* The first token behind a prompt is chosen where its logits are. */
static wisp_status hand_over_choice(mixed_timeline *t, int32_t *id) {
  const mixed_executor *e = (mixed_executor *)t->base.executor;
  const uint32_t vocabulary = e->plan->model->vocabulary;
  float *logits = wisp_host_alloc(e->host, vocabulary, sizeof *logits);
  if (!logits) return wisp_fail_memory(e->host, "logits", vocabulary * sizeof *logits);
  const wisp_status status = mixed_last_logits(&t->base, logits);
  wisp_sampler *sampler = t->base.sampler;
  if (status == WISP_OK) *id = sampler ? wisp_sampler_pick(sampler, logits, NULL, 0) : wisp_argmax(logits, vocabulary);
  wisp_host_free(e->host, logits);
  return status;
}

static wisp_status mixed_generate(wisp_timeline *base, uint32_t count, int32_t *ids, uint32_t *made) {
  mixed_timeline *t = (mixed_timeline *)base;
  *made = 0;
  if (count == 0) return WISP_OK;
  if (t->last == PROMPT) {
    const uint64_t drawn = base->sampler ? base->sampler->drawn : 0;
    WISP_TRY(hand_over_choice(t, &ids[0]));
    const wisp_status status = append_on(t, REPLY, ids, 1, WISP_LOGITS_NONE, NULL);
    if (status == WISP_OK)
      *made = 1;
    else if (base->sampler)
      base->sampler->drawn = drawn;
    return status;
  }
  lend_hooks(t, t->sides[REPLY]);
  const wisp_status status = api_of(t, REPLY)->generate(t->sides[REPLY], count, ids, made);
  base->length = t->sides[REPLY]->length;
  return status;
}

static void mixed_truncate(wisp_timeline *base, uint32_t length) {
  mixed_timeline *t = (mixed_timeline *)base;
  for (int i = 0; i < SIDES; i++)
    if (t->sides[i]->length > length) api_of(t, i)->truncate(t->sides[i], length);
  if (base->length > length) base->length = length;
}

static wisp_status mixed_kv_read(wisp_timeline *base, wisp_output_fn write, void *user) {
  mixed_timeline *t = (mixed_timeline *)base;
  return api_of(t, t->last)->kv_read(t->sides[t->last], write, user);
}

static wisp_status mixed_kv_write(wisp_timeline *base, uint32_t length, const uint8_t *held) {
  mixed_timeline *t = (mixed_timeline *)base;
  mixed_truncate(base, 0);
  const wisp_status status = api_of(t, REPLY)->kv_write(t->sides[REPLY], length, held);
  base->length = t->sides[REPLY]->length;
  t->last = REPLY;
  return status;
}

/* ---- Figures: of both together ---- */

static void mixed_settle(wisp_executor *base) {
  const mixed_executor *e = (mixed_executor *)base;
  for (int i = 0; i < SIDES; i++)
    if (e->sides[i]->api->settle) e->sides[i]->api->settle(e->sides[i]);
}

static void mixed_get_stats(wisp_executor *base, wisp_engine_stats *stats) {
  const mixed_executor *e = (mixed_executor *)base;
  wisp_engine_stats other = *stats;
  e->sides[REPLY]->api->get_stats(e->sides[REPLY], &other);
  e->sides[PROMPT]->api->get_stats(e->sides[PROMPT], stats);
  if (!stats->threads) stats->threads = other.threads;
  if (!*stats->kernels) stats->kernels = other.kernels;
  if (!*stats->decode) stats->decode = other.decode;
  stats->driver_ms += other.driver_ms;
  stats->device_bytes += other.device_bytes;
  stats->peak_device_bytes += other.peak_device_bytes;
  stats->pipelines_built += other.pipelines_built;
  stats->descriptor_writes += other.descriptor_writes;
  stats->allocations += other.allocations;
  stats->dispatches += other.dispatches;
  stats->barriers += other.barriers;
  stats->submits += other.submits;
}

static uint32_t mixed_pipelines(wisp_executor *base, wisp_pipeline_info *infos, uint32_t capacity) {
  const mixed_executor *e = (mixed_executor *)base;
  const uint32_t count = e->sides[PROMPT]->api->pipelines(e->sides[PROMPT], infos, capacity);
  return count ? count : e->sides[REPLY]->api->pipelines(e->sides[REPLY], infos, capacity);
}

static wisp_status mixed_copy_bandwidth(wisp_executor *base, double *gb_per_s) {
  const mixed_executor *e = (mixed_executor *)base;
  return e->sides[REPLY]->api->copy_bandwidth(e->sides[REPLY], gb_per_s);
}

static const wisp_executor_api mixed_api = {
    .backend = "mixed",
    .destroy = mixed_destroy,
    .timeline_create = mixed_timeline_create,
    .timeline_destroy = mixed_timeline_destroy,
    .append = mixed_append,
    .last_logits = mixed_last_logits,
    .generate = mixed_generate,
    .truncate = mixed_truncate,
    .kv_read = mixed_kv_read,
    .kv_write = mixed_kv_write,
    .settle = mixed_settle,
    .get_stats = mixed_get_stats,
    .pipelines = mixed_pipelines,
    .copy_bandwidth = mixed_copy_bandwidth,
};
