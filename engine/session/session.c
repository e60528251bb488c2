/* SPDX-License-Identifier: Apache-2.0
 * Session: one timeline, the ids it holds, a sampler. */
#include <string.h>

#include "session/engine.h"
#include "session/sampler.h"
#include "session/state.h"

struct wisp_session {
  wisp_engine *engine;
  wisp_timeline *timeline;
  wisp_sampler sampler;
  int32_t *ids;      /* [context]: tokens held */
  float *logits;     /* [vocabulary]: scratch where the session samples */
  bool logits_known; /* the timeline knows the logits of the last token */
  atomic_int cancel;
  void (*progress)(void *user, size_t done, size_t count);
  void *progress_user;
  uint32_t append_from; /* length before the running append, and its tokens */
  size_t append_count;
};

static void on_progress(void *user, uint32_t length) {
  const wisp_session *s = user;
  s->progress(s->progress_user, length - s->append_from, s->append_count);
}

wisp_sampler_params wisp_sampler_params_defaults(void) {
  return (wisp_sampler_params){.top_p = 1, .repetition_penalty = 1};
}

wisp_session_params wisp_session_params_defaults(void) {
  return (wisp_session_params){.sampler = wisp_sampler_params_defaults()};
}

static wisp_status open_session(wisp_session *s, const wisp_session_params *params) {
  wisp_engine *e = s->engine;
  const wisp_host *host = &e->host;
  if (e->load != WISP_LOAD_ALL)
    return wisp_fail(host, WISP_ERROR_ARGUMENT, "a session needs an engine created with WISP_LOAD_ALL");
  const uint32_t context = params->context ? params->context : e->max_context < 4096 ? e->max_context : 4096;
  if (context > e->max_context)
    return wisp_fail(host, WISP_ERROR_ARGUMENT,
                     "a context of %u tokens passes the engine's maximum of %u (the model's own is %u)", context,
                     e->max_context, e->model.context_length);
  WISP_TRY(wisp_engine_check_kv(e, params->kv_type));
  WISP_TRY(wisp_sampler_open(&s->sampler, host, &params->sampler, e->model.vocabulary));
  WISP_TRY(e->executor->api->timeline_create(&s->timeline, e->executor, context, params->kv_type));
  s->timeline->cancel = &s->cancel;
  if (!wisp_sampler_needs_history(&s->sampler)) s->timeline->sampler = &s->sampler;
  s->timeline->progress_user = s;
  s->progress = params->progress;
  s->progress_user = params->progress_user;
  s->ids = wisp_host_alloc(host, context, sizeof *s->ids);
  s->logits = wisp_host_alloc(host, e->model.vocabulary, sizeof *s->logits);
  if (!s->ids || !s->logits) return wisp_fail_memory(host, "session", context * sizeof *s->ids);
  return WISP_OK;
}

wisp_status wisp_session_create(wisp_session **session, wisp_engine *engine, const wisp_session_params *params) {
  *session = NULL;
  wisp_session *s = wisp_host_alloc(&engine->host, 1, sizeof *s);
  if (!s) return wisp_fail_memory(&engine->host, "session", sizeof *s);
  s->engine = engine;
  const wisp_status status = open_session(s, params);
  if (status != WISP_OK) {
    wisp_session_destroy(&s);
    return status;
  }
  *session = s;
  return WISP_OK;
}

void wisp_session_destroy(wisp_session **session) {
  wisp_session *s = *session;
  if (!s) return;
  *session = NULL;
  const wisp_host *host = &s->engine->host;
  if (s->timeline) s->engine->executor->api->timeline_destroy(s->timeline);
  wisp_sampler_close(&s->sampler);
  wisp_host_free(host, s->ids);
  wisp_host_free(host, s->logits);
  wisp_host_free(host, s);
}

uint32_t wisp_session_length(const wisp_session *session) {
  return session->timeline->length;
}
uint32_t wisp_session_context(const wisp_session *session) {
  return session->timeline->context;
}
void wisp_session_cancel(wisp_session *session) {
  session->cancel = 1;
}

static void cut(wisp_session *s, uint32_t length) {
  if (length == s->timeline->length) return;
  s->engine->executor->api->truncate(s->timeline, length);
  s->logits_known = false;
}

wisp_status wisp_session_truncate(wisp_session *session, uint32_t length) {
  if (length > session->timeline->length)
    return wisp_fail(&session->engine->host, WISP_ERROR_ARGUMENT, "cannot truncate to %u: the session holds %u tokens", length,
                     session->timeline->length);
  cut(session, length);
  return WISP_OK;
}

static wisp_status context_full(const wisp_session *s, size_t wanted) {
  return wisp_fail(&s->engine->host, WISP_ERROR_CONTEXT_FULL,
                   "context full: it holds %u of %u tokens and %zu more do not fit; use a larger context (--ctx)",
                   s->timeline->length, s->timeline->context, wanted);
}

static wisp_status append(wisp_session *s, const int32_t *ids, size_t count, wisp_logits which, float *logits) {
  const uint32_t before = s->timeline->length;
  const wisp_status status = s->engine->executor->api->append(s->timeline, ids, count, which, logits);
  memmove(s->ids + before, ids, (s->timeline->length - before) * sizeof *ids);
  s->logits_known = status == WISP_OK;
  return status;
}

static wisp_status cancelled(wisp_session *s) {
  return wisp_fail(&s->engine->host, WISP_ERROR_CANCELLED, "cancelled");
}

static wisp_status check_ids(const wisp_session *s, const int32_t *ids, size_t count) {
  const uint32_t vocabulary = s->engine->model.vocabulary;
  for (size_t i = 0; i < count; i++)
    if (ids[i] < 0 || (uint32_t)ids[i] >= vocabulary)
      return wisp_fail(&s->engine->host, WISP_ERROR_ARGUMENT, "token id %d is outside the vocabulary of %u", ids[i],
                       vocabulary);
  return WISP_OK;
}

wisp_status wisp_session_append(wisp_session *session, const int32_t *ids, size_t count, wisp_logits which, float *logits) {
  const wisp_host *host = &session->engine->host;
  session->cancel = 0;
  WISP_TRY(check_ids(session, ids, count));
  if (which != WISP_LOGITS_NONE && !logits) return wisp_fail(host, WISP_ERROR_ARGUMENT, "no room given for the logits");
  if (count > session->timeline->context - session->timeline->length) return context_full(session, count);
  if (!count) return WISP_OK;
  session->append_from = session->timeline->length;
  session->append_count = count;
  session->timeline->progress = session->progress ? on_progress : NULL;
  const wisp_status status = append(session, ids, count, which, logits);
  session->timeline->progress = NULL;
  return status == WISP_ERROR_CANCELLED ? cancelled(session) : status;
}

wisp_status wisp_session_prompt(wisp_session *session, const int32_t *ids, size_t count, float *logits, uint32_t *reused) {
  const wisp_host *host = &session->engine->host;
  uint32_t same = 0;
  if (reused) *reused = 0;
  if (!count) return wisp_fail(host, WISP_ERROR_ARGUMENT, "a prompt needs at least one token");
  WISP_TRY(check_ids(session, ids, count));
  if (count > session->timeline->context)
    return wisp_fail(host, WISP_ERROR_CONTEXT_FULL,
                     "context full: the prompt has %zu tokens, there is room for %u; use a larger context (--ctx)", count,
                     session->timeline->context);
  while (same < session->timeline->length && same + 1 < count && session->ids[same] == ids[same]) same++;
  if (reused) *reused = same;
  cut(session, same);
  return wisp_session_append(session, ids + same, count - same, logits ? WISP_LOGITS_LAST : WISP_LOGITS_NONE, logits);
}

/* After a truncate the last token is evaluated again; its K and V stay what they are, so a failure leaves it held. */
static wisp_status know_logits(wisp_session *s) {
  if (s->logits_known) return WISP_OK;
  const uint32_t length = s->timeline->length;
  const int32_t last = s->ids[length - 1];
  s->engine->executor->api->truncate(s->timeline, length - 1);
  const wisp_status status = append(s, &last, 1, WISP_LOGITS_NONE, NULL);
  s->timeline->length = length;
  return status;
}

/* Tokens made that the session does not hold are not drawn: the next ones take their random numbers. */
static void undo_draws(wisp_session *s, uint32_t count) {
  if (wisp_sampler_draws(&s->sampler)) s->sampler.drawn -= count;
}

/* Up to room next tokens into ids, evaluated and held. */
static wisp_status next_tokens(wisp_session *s, uint32_t room, int32_t *ids, uint32_t *made) {
  const wisp_executor_api *api = s->engine->executor->api;
  WISP_TRY(know_logits(s));
  if (s->timeline->sampler) {
    const uint32_t before = s->timeline->length;
    WISP_TRY(api->generate(s->timeline, room, ids, made));
    memcpy(s->ids + before, ids, *made * sizeof *ids);
    return WISP_OK;
  }
  WISP_TRY(api->last_logits(s->timeline, s->logits));
  ids[0] = wisp_sampler_pick(&s->sampler, s->logits, s->ids, s->timeline->length);
  *made = 1;
  const wisp_status status = append(s, ids, 1, WISP_LOGITS_NONE, NULL);
  if (status != WISP_OK) undo_draws(s, 1);
  return status;
}

wisp_status wisp_session_profile(wisp_session *session, uint32_t tokens, double *op_ns) {
  wisp_session *s = session;
  const wisp_host *host = &s->engine->host;
  const wisp_executor_api *api = s->engine->executor->api;
  if (!api->profile) return wisp_fail(host, WISP_ERROR_UNSUPPORTED, "the %s executor has no per-op timing", api->backend);
  if (!tokens || !s->timeline->length) return wisp_fail(host, WISP_ERROR_ARGUMENT, "nothing to time: append a prompt first");
  if (tokens > s->timeline->context - s->timeline->length) return context_full(s, tokens);
  const uint32_t before = s->timeline->length;
  WISP_TRY(know_logits(s));
  const wisp_status status = api->profile(s->timeline, tokens, op_ns);
  cut(s, before); /* the timed tokens are not known to the session */
  return status;
}

wisp_status wisp_session_generate(wisp_session *session, const wisp_generate_params *params, int32_t *ids, uint32_t *count) {
  wisp_session *s = session;
  *count = 0;
  s->cancel = 0;
  if (!s->timeline->length)
    return wisp_fail(&s->engine->host, WISP_ERROR_ARGUMENT, "nothing to continue: append a prompt first");
  while (*count < params->max_tokens) {
    if (s->cancel) return cancelled(s);
    const uint32_t free_tokens = s->timeline->context - s->timeline->length, left = params->max_tokens - *count;
    if (!free_tokens) return context_full(s, 1);
    const uint32_t before = s->timeline->length;
    uint32_t made = 0;
    const wisp_status status = next_tokens(s, left < free_tokens ? left : free_tokens, ids + *count, &made);
    if (status != WISP_OK) return status == WISP_ERROR_CANCELLED ? cancelled(s) : status;
    for (uint32_t i = 0; i < made; i++) {
      const int32_t id = ids[(*count)++];
      const bool more = !params->on_token || params->on_token(params->user, id);
      if (!more || s->cancel || (!params->ignore_end && wisp_token_is_end(s->engine, id))) {
        cut(s, before + i + 1); /* what the executor made beyond it is forgotten */
        undo_draws(s, made - (i + 1));
        return s->cancel ? cancelled(s) : WISP_OK;
      }
    }
  }
  return WISP_OK;
}

wisp_status wisp_session_save(wisp_session *session, wisp_output_fn write, void *user) {
  return wisp_state_save(session->engine, session->timeline, session->ids, write, user);
}

wisp_status wisp_session_load(wisp_session *session, const wisp_model_source *source) {
  wisp_state state;
  WISP_TRY(wisp_state_open(&state, session->engine, session->timeline, source));
  session->logits_known = false;
  const wisp_status status = session->engine->executor->api->kv_write(session->timeline, state.length, state.rows);
  for (uint32_t i = 0; i < session->timeline->length; i++) session->ids[i] = wisp_state_id(&state, i);
  wisp_state_close(&state, &session->engine->host);
  return status;
}
