/* SPDX-License-Identifier: Apache-2.0
 * Engines and sessions for tests of behaviour, through wisp.h only. Whatever is not expected to fail fails the test. */
#ifndef WISP_TESTS_SESSION_FIXTURE_H
#define WISP_TESTS_SESSION_FIXTURE_H

#include <pthread.h>

#include "unit/capture.h"

/* Sanitizers look at the host's code, which takes fewer sizes and types, and at what it does when memory fails, in more places.
 */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define FIXTURE_SANITIZED 1
#else
#define FIXTURE_SANITIZED 0
#endif

/* A capture that may be called by several threads. */
typedef struct witness {
  pthread_mutex_t mutex;
  capture capture;
} witness;

wisp_host witness_of(witness *w); /* starts it anew */

typedef struct fixture {
  witness witness;
  wisp_engine *engine;
  uint32_t vocabulary;
} fixture;

/* Params for a synthetic model on device, logging to f. */
wisp_engine_params fixture_params(fixture *f, const char *device, const char *synthetic);
void fixture_create(fixture *f, const wisp_engine_params *params);
void fixture_open(fixture *f, const char *device, const char *synthetic);
void fixture_close(fixture *f); /* nothing must be left */

wisp_session *fixture_session(fixture *f, uint32_t context);
wisp_session *fixture_sampling(fixture *f, const wisp_sampler_params *sampler);

/* Deterministic ids in [0, vocabulary). */
void fixture_ids(const fixture *f, int32_t *ids, uint32_t count);

/* [rows][vocabulary] of NaN; the caller frees it. */
float *fixture_rows(const fixture *f, uint32_t rows);

void fixture_append(wisp_session *session, const int32_t *ids, uint32_t count, wisp_logits which, float *logits);

/* Exactly count tokens behind those held. */
void fixture_generate(wisp_session *session, int32_t *ids, uint32_t count);

/* sum (a - b)^2 / sum b^2, each less its mean; b without any spread gives infinity unless both are the same. */
double fixture_nmse(const float *a, const float *b, uint32_t count);

int32_t fixture_argmax(const float *logits, uint32_t count);

/* The last call failed with one line that holds words; forgets it. */
void fixture_said(fixture *f, const char *words);

#endif
