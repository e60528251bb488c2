/* SPDX-License-Identifier: Apache-2.0 */
#include "unit/session_fixture.h"

#include <criterion/criterion.h>
#include <math.h>

static void on_log(void *user, wisp_log_level level, const char *text) {
  witness *w = user;
  pthread_mutex_lock(&w->mutex);
  capture_log(&w->capture, level, text);
  pthread_mutex_unlock(&w->mutex);
}

static void *on_reallocate(void *user, void *pointer, size_t size) {
  witness *w = user;
  pthread_mutex_lock(&w->mutex);
  void *block = capture_reallocate(&w->capture, pointer, size);
  pthread_mutex_unlock(&w->mutex);
  return block;
}

wisp_host witness_of(witness *w) {
  memset(w, 0, sizeof *w);
  pthread_mutex_init(&w->mutex, NULL);
  return (wisp_host){.log = on_log, .log_user = w, .reallocate = on_reallocate, .memory_user = w};
}

wisp_engine_params fixture_params(fixture *f, const char *device, const char *synthetic) {
  *f = (fixture){.engine = NULL};
  wisp_engine_params params = wisp_engine_params_defaults();
  params.host = witness_of(&f->witness);
  params.source.synthetic = synthetic;
  params.source.synthetic_seed = 3;
  params.device = device;
  params.threads = 2;
  return params;
}

void fixture_create(fixture *f, const wisp_engine_params *params) {
  cr_assert_eq(wisp_engine_create(&f->engine, params), WISP_OK, "%s: %s", params->device, f->witness.capture.error);
  wisp_model_info info;
  wisp_engine_model_info(f->engine, &info);
  f->vocabulary = info.vocabulary;
}

void fixture_open(fixture *f, const char *device, const char *synthetic) {
  const wisp_engine_params params = fixture_params(f, device, synthetic);
  fixture_create(f, &params);
}

void fixture_close(fixture *f) {
  wisp_engine_destroy(&f->engine);
  cr_assert_null(f->engine);
  cr_assert_eq(f->witness.capture.errors, 0, "%u errors, the last: %s", f->witness.capture.errors, f->witness.capture.error);
  cr_assert_eq(f->witness.capture.live, 0, "%ld blocks were not freed", f->witness.capture.live);
}

static wisp_session *create(fixture *f, const wisp_session_params *params) {
  wisp_session *session;
  cr_assert_eq(wisp_session_create(&session, f->engine, params), WISP_OK, "%s", f->witness.capture.error);
  cr_assert_eq(wisp_session_length(session), 0);
  return session;
}

wisp_session *fixture_session(fixture *f, uint32_t context) {
  wisp_session_params params = wisp_session_params_defaults();
  params.context = context;
  wisp_session *session = create(f, &params);
  if (context) cr_assert_eq(wisp_session_context(session), context);
  return session;
}

wisp_session *fixture_sampling(fixture *f, const wisp_sampler_params *sampler) {
  wisp_session_params params = wisp_session_params_defaults();
  params.context = 128;
  params.sampler = *sampler;
  return create(f, &params);
}

void fixture_ids(const fixture *f, int32_t *ids, uint32_t count) {
  for (uint32_t i = 0; i < count; i++) ids[i] = (int32_t)((i * 7919u + i * i * 31u + 5) % f->vocabulary);
}

float *fixture_rows(const fixture *f, uint32_t rows) {
  float *logits = malloc((size_t)rows * f->vocabulary * sizeof *logits);
  cr_assert_not_null(logits);
  memset(logits, 0xff, (size_t)rows * f->vocabulary * sizeof *logits);
  return logits;
}

void fixture_append(wisp_session *session, const int32_t *ids, uint32_t count, wisp_logits which, float *logits) {
  const uint32_t before = wisp_session_length(session);
  cr_assert_eq(wisp_session_append(session, ids, count, which, logits), WISP_OK);
  cr_assert_eq(wisp_session_length(session), before + count);
}

void fixture_generate(wisp_session *session, int32_t *ids, uint32_t count) {
  const uint32_t before = wisp_session_length(session);
  const wisp_generate_params params = {.max_tokens = count, .ignore_end = true};
  uint32_t made = 0;
  cr_assert_eq(wisp_session_generate(session, &params, ids, &made), WISP_OK);
  cr_assert_eq(made, count);
  cr_assert_eq(wisp_session_length(session), before + count);
}

double fixture_nmse(const float *a, const float *b, uint32_t count) {
  double mean_a = 0, mean_b = 0, error = 0, power = 0;
  for (uint32_t i = 0; i < count; i++) mean_a += (double)a[i] / count, mean_b += (double)b[i] / count;
  for (uint32_t i = 0; i < count; i++) {
    const double x = (double)a[i] - mean_a, y = (double)b[i] - mean_b;
    error += (x - y) * (x - y);
    power += y * y;
  }
  return error == 0 ? 0 : error / power;
}

int32_t fixture_argmax(const float *logits, uint32_t count) {
  uint32_t best = 0;
  for (uint32_t i = 1; i < count; i++)
    if (logits[i] > logits[best]) best = i;
  return (int32_t)best;
}

void fixture_said(fixture *f, const char *words) {
  capture *said = &f->witness.capture;
  cr_assert_eq(said->errors, 1, "%u errors, one expected (%s), the last: %s", said->errors, words, said->error);
  cr_assert_not_null(strstr(said->error, words), "\"%s\" does not say \"%s\"", said->error, words);
  said->errors = 0;
}
