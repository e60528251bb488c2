/* SPDX-License-Identifier: Apache-2.0
 * Sessions as wisp.h promises them, on the CPU and on Vulkan: each test runs on both. On the CPU the same computation gives the
 * same bits however it is cut; on a GPU batches and single tokens are different kernels, which round differently. */
#include <criterion/criterion.h>
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#include "unit/session_fixture.h"

#define ON_BOTH(name)                                                                                                          \
  static void name(const char *device);                                                                                        \
  Test(session_cpu, name) {                                                                                                    \
    name("cpu");                                                                                                               \
  }                                                                                                                            \
  Test(session_vulkan, name) {                                                                                                 \
    name("vulkan");                                                                                                            \
  }                                                                                                                            \
  static void name(const char *device)

enum { PROMPT = 20, MADE = 12, CONTEXT = 64 };

static void same_rows(const fixture *f, const char *device, const float *a, const float *b, uint32_t rows, const char *what) {
  for (uint32_t i = 0; i < rows; i++) {
    const float *x = a + (size_t)i * f->vocabulary, *y = b + (size_t)i * f->vocabulary;
    if (!strcmp(device, "cpu")) {
      cr_assert_arr_eq(x, y, f->vocabulary * sizeof *x, "%s: row %u", what, i);
    } else {
      const double nmse = fixture_nmse(x, y, f->vocabulary);
      cr_assert(nmse <= 1e-6, "%s: row %u: NMSE %g", what, i, nmse);
    }
  }
}

static void same_ids(const int32_t *a, const int32_t *b, uint32_t count, const char *what) {
  for (uint32_t i = 0; i < count; i++) cr_assert_eq(a[i], b[i], "%s: id %u is %d, expected %d", what, i, a[i], b[i]);
}

/* ---- Appending ------------------------------------------------------------------------------------------------------- */

ON_BOTH(pieces_are_the_whole) {
  enum { TOKENS = 150 }; /* more than two chunks or batches */
  static const uint32_t pieces[][5] = {{1, 1, 1, 100, 47}, {64, 64, 22}, {65, 84, 1}, {149, 1}};
  fixture f;
  int32_t ids[TOKENS];
  fixture_open(&f, device, "tiny");
  fixture_ids(&f, ids, TOKENS);
  float *whole = fixture_rows(&f, TOKENS), *parts = fixture_rows(&f, TOKENS);
  wisp_session *session = fixture_session(&f, TOKENS);
  fixture_append(session, ids, TOKENS, WISP_LOGITS_ALL, whole);
  for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++) {
    cr_assert_eq(wisp_session_truncate(session, 0), WISP_OK);
    for (uint32_t k = 0, done = 0; k < 5 && pieces[i][k]; done += pieces[i][k++])
      fixture_append(session, ids + done, pieces[i][k], WISP_LOGITS_ALL, parts + (size_t)done * f.vocabulary);
    same_rows(&f, device, parts, whole, TOKENS, "pieces");
  }
  wisp_session_destroy(&session);
  fixture_close(&f);
  free(whole), free(parts);
}

ON_BOTH(logits_asked_for) {
  fixture f;
  int32_t ids[PROMPT];
  fixture_open(&f, device, "tiny");
  fixture_ids(&f, ids, PROMPT);
  float *all = fixture_rows(&f, PROMPT), *last = fixture_rows(&f, 2), *none = fixture_rows(&f, 1),
        *untouched = fixture_rows(&f, 1);
  wisp_session *session = fixture_session(&f, CONTEXT);
  fixture_append(session, ids, PROMPT, WISP_LOGITS_ALL, all);
  cr_assert_eq(wisp_session_truncate(session, 0), WISP_OK);
  fixture_append(session, ids, PROMPT, WISP_LOGITS_LAST, last);
  same_rows(&f, device, last, all + (size_t)(PROMPT - 1) * f.vocabulary, 1, "the last one");
  cr_assert_arr_eq(last + f.vocabulary, untouched, f.vocabulary * sizeof *last, "LAST writes one row");
  cr_assert_eq(wisp_session_truncate(session, 0), WISP_OK);
  fixture_append(session, ids, PROMPT - 1, WISP_LOGITS_NONE, none);
  cr_assert_arr_eq(none, untouched, f.vocabulary * sizeof *none, "NONE writes nothing");
  fixture_append(session, ids + PROMPT - 1, 1, WISP_LOGITS_LAST, last);
  same_rows(&f, device, last, all + (size_t)(PROMPT - 1) * f.vocabulary, 1, "after NONE");
  fixture_append(session, ids, 0, WISP_LOGITS_NONE, NULL);
  fixture_append(session, ids, 1, WISP_LOGITS_NONE, NULL);
  cr_assert_eq(wisp_session_append(session, ids, 1, WISP_LOGITS_LAST, NULL), WISP_ERROR_ARGUMENT);
  fixture_said(&f, "logits");
  wisp_session_destroy(&session);
  fixture_close(&f);
  free(all), free(last), free(none), free(untouched);
}

ON_BOTH(ids_outside_the_vocabulary) {
  fixture f;
  fixture_open(&f, device, "tiny");
  wisp_session *session = fixture_session(&f, CONTEXT);
  const int32_t bad[][3] = {{1, 2, -1}, {1, (int32_t)f.vocabulary, 2}, {INT32_MAX, 1, 1}, {INT32_MIN, 1, 1}};
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    cr_assert_eq(wisp_session_append(session, bad[i], 3, WISP_LOGITS_NONE, NULL), WISP_ERROR_ARGUMENT);
    fixture_said(&f, "outside the vocabulary of 300");
    cr_assert_eq(wisp_session_length(session), 0);
  }
  const int32_t ends[] = {0, (int32_t)f.vocabulary - 1};
  fixture_append(session, ends, 2, WISP_LOGITS_NONE, NULL);
  wisp_session_destroy(&session);
  fixture_close(&f);
}

/* ---- Generating ------------------------------------------------------------------------------------------------------ */

/* The reference: argmax of the logits, appended, and so on. */
static void by_hand(fixture *f, const int32_t *prompt, int32_t *ids, uint32_t count) {
  wisp_session *session = fixture_session(f, CONTEXT);
  float *logits = fixture_rows(f, 1);
  fixture_append(session, prompt, PROMPT, WISP_LOGITS_LAST, logits);
  for (uint32_t i = 0; i < count; i++) {
    ids[i] = fixture_argmax(logits, f->vocabulary);
    fixture_append(session, &ids[i], 1, WISP_LOGITS_LAST, logits);
  }
  wisp_session_destroy(&session);
  free(logits);
}

ON_BOTH(greedy_is_the_argmax) {
  static const char *const shapes[] = {"tiny", "tiny-ls"};
  for (int i = 0; i < 2; i++) {
    fixture f;
    int32_t prompt[PROMPT], expected[MADE], made[MADE];
    fixture_open(&f, device, shapes[i]);
    fixture_ids(&f, prompt, PROMPT);
    by_hand(&f, prompt, expected, MADE);
    wisp_session *session = fixture_session(&f, CONTEXT);
    fixture_append(session, prompt, PROMPT, WISP_LOGITS_NONE, NULL);
    fixture_generate(session, made, MADE);
    same_ids(made, expected, MADE, shapes[i]);
    wisp_session_destroy(&session);
    fixture_close(&f);
  }
}

static void sample(fixture *f, const wisp_sampler_params *sampler, int32_t *ids, uint32_t count) {
  int32_t prompt[PROMPT];
  fixture_ids(f, prompt, PROMPT);
  wisp_session *session = fixture_sampling(f, sampler);
  fixture_append(session, prompt, PROMPT, WISP_LOGITS_NONE, NULL);
  fixture_generate(session, ids, count);
  wisp_session_destroy(&session);
}

ON_BOTH(sampling_follows_its_seed) {
  enum { TOKENS = 40 };
  fixture f;
  int32_t greedy[TOKENS], first[TOKENS], again[TOKENS], other[TOKENS];
  fixture_open(&f, device, "tiny");
  wisp_sampler_params sampler = wisp_sampler_params_defaults();
  sample(&f, &sampler, greedy, TOKENS);
  sampler.temperature = 40; /* random weights give far larger logits than trained ones */
  sampler.seed = 5;
  sample(&f, &sampler, first, TOKENS);
  sample(&f, &sampler, again, TOKENS);
  same_ids(again, first, TOKENS, "the same seed");
  cr_assert(memcmp(first, greedy, sizeof first), "temperature 40 is greedy");
  sampler.seed = 6;
  sample(&f, &sampler, other, TOKENS);
  cr_assert(memcmp(first, other, sizeof first), "another seed, the same tokens");
  sampler.top_k = 1;
  sample(&f, &sampler, other, TOKENS);
  same_ids(other, greedy, TOKENS, "top-k 1");
  fixture_close(&f);
}

ON_BOTH(a_penalty_ends_repetition) {
  enum { TOKENS = 40 };
  fixture f;
  int32_t ids[TOKENS], prompt[PROMPT];
  fixture_open(&f, device, "tiny");
  fixture_ids(&f, prompt, PROMPT);
  wisp_sampler_params sampler = wisp_sampler_params_defaults();
  sampler.repetition_penalty = 1e6f;
  sample(&f, &sampler, ids, TOKENS);
  for (int i = 0; i < TOKENS; i++) {
    for (int k = 0; k < i; k++) cr_assert_neq(ids[i], ids[k], "token %d came again", ids[i]);
    for (int k = 0; k < PROMPT; k++) cr_assert_neq(ids[i], prompt[k], "token %d of the prompt came again", ids[i]);
  }
  fixture_close(&f);
}

typedef struct stop {
  uint32_t after, seen;
  int32_t ids[CONTEXT];
} stop;

static bool on_token(void *user, int32_t id) {
  stop *s = user;
  s->ids[s->seen++] = id;
  return s->seen < s->after;
}

ON_BOTH(a_callback_stops) {
  fixture f;
  int32_t prompt[PROMPT], whole[MADE], made[MADE];
  fixture_open(&f, device, "tiny");
  fixture_ids(&f, prompt, PROMPT);
  wisp_session *session = fixture_session(&f, CONTEXT);
  fixture_append(session, prompt, PROMPT, WISP_LOGITS_NONE, NULL);
  fixture_generate(session, whole, MADE);
  for (uint32_t after = 1; after < MADE; after += 3) { /* every place in what a submit may make at once */
    stop s = {.after = after};
    const wisp_generate_params params = {.max_tokens = MADE, .ignore_end = true, .on_token = on_token, .user = &s};
    uint32_t count;
    cr_assert_eq(wisp_session_truncate(session, PROMPT), WISP_OK);
    cr_assert_eq(wisp_session_generate(session, &params, made, &count), WISP_OK);
    cr_assert(count == after && s.seen == after && wisp_session_length(session) == PROMPT + after);
    same_ids(made, whole, after, "until stopped");
    same_ids(s.ids, whole, after, "told");
    fixture_generate(session, made, MADE - after);
    same_ids(made, whole + after, MADE - after, "gone on");
  }
  wisp_session_destroy(&session);
  fixture_close(&f);
}

ON_BOTH(nothing_to_continue) {
  fixture f;
  int32_t id;
  uint32_t count = 7;
  fixture_open(&f, device, "tiny");
  wisp_session *session = fixture_session(&f, CONTEXT);
  const wisp_generate_params params = {.max_tokens = 1};
  cr_assert_eq(wisp_session_generate(session, &params, &id, &count), WISP_ERROR_ARGUMENT);
  cr_assert_eq(count, 0);
  fixture_said(&f, "append a prompt first");
  wisp_session_destroy(&session);
  fixture_close(&f);
}

/* ---- Truncating ------------------------------------------------------------------------------------------------------ */

ON_BOTH(truncated_and_continued) {
  fixture f;
  int32_t prompt[PROMPT], whole[MADE], made[MADE];
  fixture_open(&f, device, "tiny-ls");
  fixture_ids(&f, prompt, PROMPT);
  wisp_session *session = fixture_session(&f, CONTEXT);
  fixture_append(session, prompt, PROMPT, WISP_LOGITS_NONE, NULL);
  fixture_generate(session, whole, MADE);
  for (uint32_t kept = 0; kept < MADE; kept += 5) {
    cr_assert_eq(wisp_session_truncate(session, PROMPT + kept), WISP_OK);
    fixture_generate(session, made, MADE - kept);
    same_ids(made, whole + kept, MADE - kept, "generated again");
  }
  /* Another text behind the same beginning leaves no trace of the first. */
  float *fresh = fixture_rows(&f, 1), *reused = fixture_rows(&f, 1);
  cr_assert_eq(wisp_session_truncate(session, 3), WISP_OK);
  fixture_append(session, prompt + 10, 10, WISP_LOGITS_LAST, reused);
  wisp_session *other = fixture_session(&f, CONTEXT);
  fixture_append(other, prompt, 3, WISP_LOGITS_NONE, NULL);
  fixture_append(other, prompt + 10, 10, WISP_LOGITS_LAST, fresh);
  cr_assert_arr_eq(reused, fresh, f.vocabulary * sizeof *fresh);
  cr_assert_eq(wisp_session_truncate(session, 14), WISP_ERROR_ARGUMENT);
  fixture_said(&f, "cannot truncate to 14");
  cr_assert_eq(wisp_session_length(session), 13);
  wisp_session_destroy(&session);
  wisp_session_destroy(&other);
  fixture_close(&f);
  free(fresh), free(reused);
}

/* ---- Room ------------------------------------------------------------------------------------------------------------ */

ON_BOTH(context_full) {
  enum { ROOM = 16 };
  fixture f;
  int32_t ids[ROOM + 1], expected[MADE], made[MADE];
  uint32_t count;
  fixture_open(&f, device, "tiny");
  fixture_ids(&f, ids, ROOM + 1);
  wisp_session *session = fixture_session(&f, ROOM), *roomy = fixture_session(&f, CONTEXT);
  cr_assert_eq(wisp_session_append(session, ids, ROOM + 1, WISP_LOGITS_NONE, NULL), WISP_ERROR_CONTEXT_FULL);
  fixture_said(&f, "0 of 16 tokens and 17 more");
  cr_assert_eq(wisp_session_length(session), 0);

  fixture_append(roomy, ids, ROOM - 6, WISP_LOGITS_NONE, NULL);
  fixture_generate(roomy, expected, 6);
  fixture_append(session, ids, ROOM - 6, WISP_LOGITS_NONE, NULL);
  const wisp_generate_params params = {.max_tokens = MADE, .ignore_end = true};
  cr_assert_eq(wisp_session_generate(session, &params, made, &count), WISP_ERROR_CONTEXT_FULL);
  fixture_said(&f, "context full");
  cr_assert_eq(count, 6);
  same_ids(made, expected, 6, "until full");
  cr_assert_eq(wisp_session_length(session), ROOM);
  cr_assert_eq(wisp_session_generate(session, &params, made, &count), WISP_ERROR_CONTEXT_FULL);
  fixture_said(&f, "context full");
  cr_assert_eq(count, 0);
  cr_assert_eq(wisp_session_append(session, ids, 1, WISP_LOGITS_NONE, NULL), WISP_ERROR_CONTEXT_FULL);
  fixture_said(&f, "16 of 16");

  /* To the last token, and on after a truncate. */
  cr_assert_eq(wisp_session_truncate(session, ROOM - 6), WISP_OK);
  fixture_generate(session, made, 6);
  same_ids(made, expected, 6, "after a truncate");
  cr_assert_eq(wisp_session_truncate(session, 0), WISP_OK);
  fixture_append(session, ids, ROOM, WISP_LOGITS_NONE, NULL);
  wisp_session_destroy(&session);
  wisp_session_destroy(&roomy);
  fixture_close(&f);
}

ON_BOTH(contexts_that_are_refused) {
  fixture f;
  wisp_engine_params params = fixture_params(&f, device, "tiny");
  params.max_context = 100;
  fixture_create(&f, &params);
  wisp_session *session = fixture_session(&f, 0);
  cr_assert_eq(wisp_session_context(session), 100);
  wisp_session_destroy(&session);
  wisp_session_params wanted = wisp_session_params_defaults();
  wanted.context = 101;
  session = (wisp_session *)&f;
  cr_assert_eq(wisp_session_create(&session, f.engine, &wanted), WISP_ERROR_ARGUMENT);
  cr_assert_null(session);
  fixture_said(&f, "101");
  wanted.context = 10;
  wanted.sampler.temperature = -1;
  cr_assert_eq(wisp_session_create(&session, f.engine, &wanted), WISP_ERROR_ARGUMENT);
  fixture_said(&f, "temperature");
  fixture_close(&f);

  params = fixture_params(&f, device, "tiny");
  params.max_context = 4000000000u;
  fixture_create(&f, &params);
  wanted = wisp_session_params_defaults();
  wanted.context = params.max_context;
  cr_assert_eq(wisp_session_create(&session, f.engine, &wanted), WISP_ERROR_MEMORY);
  fixture_said(&f, "4000000000 tokens");
  fixture_close(&f);
}

/* ---- Cancelling ------------------------------------------------------------------------------------------------------ */

static void *cancel_once(void *session) {
  wisp_session_cancel(session);
  return NULL;
}

typedef struct canceller {
  wisp_session *session;
  uint32_t after, seen;
} canceller;

static bool cancel_on_token(void *user, int32_t id) {
  canceller *c = user;
  if (++c->seen == c->after) {
    pthread_t thread;
    cr_assert_eq(pthread_create(&thread, NULL, cancel_once, c->session), 0);
    pthread_join(thread, NULL);
  }
  return true;
}

ON_BOTH(cancelled_at_a_token) {
  fixture f;
  int32_t prompt[PROMPT], whole[MADE], made[MADE];
  uint32_t count;
  fixture_open(&f, device, "tiny");
  fixture_ids(&f, prompt, PROMPT);
  wisp_session *session = fixture_session(&f, CONTEXT);
  fixture_append(session, prompt, PROMPT, WISP_LOGITS_NONE, NULL);
  fixture_generate(session, whole, MADE);
  for (uint32_t after = 1; after < MADE; after += 4) {
    canceller c = {.session = session, .after = after};
    const wisp_generate_params params = {.max_tokens = MADE, .ignore_end = true, .on_token = cancel_on_token, .user = &c};
    cr_assert_eq(wisp_session_truncate(session, PROMPT), WISP_OK);
    cr_assert_eq(wisp_session_generate(session, &params, made, &count), WISP_ERROR_CANCELLED);
    fixture_said(&f, "cancelled");
    cr_assert(count == after && wisp_session_length(session) == PROMPT + after);
    fixture_generate(session, made, MADE - after);
    same_ids(made, whole + after, MADE - after, "gone on");
  }
  wisp_session_cancel(session); /* nothing runs: nothing is cancelled */
  cr_assert_eq(wisp_session_truncate(session, PROMPT), WISP_OK);
  fixture_generate(session, made, MADE);
  same_ids(made, whole, MADE, "a cancel before");
  wisp_session_destroy(&session);
  fixture_close(&f);
}

typedef struct nuisance {
  wisp_session *session;
  atomic_bool done;
} nuisance;

static void *cancel_often(void *user) {
  nuisance *n = user;
  while (!atomic_load(&n->done)) {
    wisp_session_cancel(n->session);
    nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
  }
  return NULL;
}

/* At whatever moment it comes: the session stays usable, and what it holds is what was told. */
ON_BOTH(cancelled_at_any_time) {
  enum { ROOM = 400 };
  fixture f;
  int32_t prompt[ROOM], whole[ROOM], made[ROOM];
  fixture_open(&f, device, "tiny");
  fixture_ids(&f, prompt, ROOM);
  wisp_session *session = fixture_session(&f, ROOM);
  fixture_append(session, prompt, PROMPT, WISP_LOGITS_NONE, NULL);
  fixture_generate(session, whole, 60);

  nuisance n = {.session = session};
  pthread_t thread;
  cr_assert_eq(pthread_create(&thread, NULL, cancel_often, &n), 0);
  uint32_t generated = 0, appended = 0;
  for (int i = 0; i < 2000 && (generated < 5 || appended < 5); i++) {
    wisp_status status;
    if (i % 2) {
      const wisp_generate_params params = {.max_tokens = 60, .ignore_end = true};
      uint32_t count;
      cr_assert_eq(wisp_session_truncate(session, PROMPT), WISP_OK);
      status = wisp_session_generate(session, &params, made, &count);
      cr_assert_eq(wisp_session_length(session), PROMPT + count);
      same_ids(made, whole, count, "until cancelled");
      generated += status == WISP_ERROR_CANCELLED;
    } else {
      cr_assert_eq(wisp_session_truncate(session, PROMPT), WISP_OK);
      status = wisp_session_append(session, prompt, ROOM - PROMPT, WISP_LOGITS_NONE, NULL);
      cr_assert(wisp_session_length(session) >= PROMPT && wisp_session_length(session) <= ROOM);
      appended += status == WISP_ERROR_CANCELLED;
    }
    cr_assert(status == WISP_OK || status == WISP_ERROR_CANCELLED, "%s", wisp_status_name(status));
  }
  atomic_store(&n.done, true);
  pthread_join(thread, NULL);
  cr_assert(generated >= 5 && appended >= 5, "%u generates and %u appends were cancelled", generated, appended);
  f.witness.capture.errors = 0; /* as many as were cancelled */

  cr_assert_eq(wisp_session_truncate(session, 0), WISP_OK);
  fixture_append(session, prompt, PROMPT, WISP_LOGITS_NONE, NULL);
  fixture_generate(session, made, 60);
  same_ids(made, whole, 60, "afterwards");
  wisp_session_destroy(&session);
  fixture_close(&f);
}

/* ---- Several sessions ------------------------------------------------------------------------------------------------ */

ON_BOTH(sessions_do_not_disturb_each_other) {
  fixture f;
  int32_t prompt[PROMPT], alone[2][MADE], made[2][MADE];
  fixture_open(&f, device, "tiny-ls");
  fixture_ids(&f, prompt, PROMPT);
  wisp_session *sessions[2];
  for (int i = 0; i < 2; i++) {
    sessions[i] = fixture_session(&f, CONTEXT - 7 * (uint32_t)i);
    fixture_append(sessions[i], prompt + i, PROMPT - 5 * i, WISP_LOGITS_NONE, NULL);
    fixture_generate(sessions[i], alone[i], MADE);
    cr_assert_eq(wisp_session_truncate(sessions[i], 0), WISP_OK);
  }
  for (int i = 0; i < 2; i++) fixture_append(sessions[i], prompt + i, PROMPT - 5 * i, WISP_LOGITS_NONE, NULL);
  for (uint32_t done = 0; done < MADE; done += 3)
    for (int i = 0; i < 2; i++) fixture_generate(sessions[i], made[i] + done, 3);
  for (int i = 0; i < 2; i++) same_ids(made[i], alone[i], MADE, "interleaved");
  cr_assert(memcmp(alone[0], alone[1], sizeof alone[0]), "two prompts, the same tokens: nothing was shown");
  for (int i = 0; i < 2; i++) wisp_session_destroy(&sessions[i]);
  fixture_close(&f);
}

typedef struct worker {
  wisp_session *session;
  const int32_t *prompt;
  int32_t made[MADE];
  wisp_status status;
} worker;

static void *work(void *user) {
  worker *w = user;
  for (int round = 0; round < 3; round++) {
    const wisp_generate_params params = {.max_tokens = MADE, .ignore_end = true};
    uint32_t count = 0;
    w->status = wisp_session_truncate(w->session, 0);
    if (w->status == WISP_OK) w->status = wisp_session_append(w->session, w->prompt, PROMPT, WISP_LOGITS_NONE, NULL);
    if (w->status == WISP_OK) w->status = wisp_session_generate(w->session, &params, w->made, &count);
    if (w->status != WISP_OK) break;
  }
  return NULL;
}

/* So many sessions of one engine, whose CPU side has so many threads. */
static void work_side_by_side(const char *device, int count, uint32_t engine_threads) {
  enum { WORKERS = 4 };
  fixture f;
  int32_t prompt[PROMPT + WORKERS], alone[WORKERS][MADE];
  worker workers[WORKERS];
  pthread_t threads[WORKERS];
  wisp_engine_params params = fixture_params(&f, device, "tiny");
  params.threads = engine_threads;
  fixture_create(&f, &params);
  fixture_ids(&f, prompt, PROMPT + WORKERS);
  for (int i = 0; i < count; i++) {
    workers[i] = (worker){.session = fixture_session(&f, CONTEXT), .prompt = prompt + i};
    work(&workers[i]);
    memcpy(alone[i], workers[i].made, sizeof alone[i]);
  }
  for (int i = 0; i < count; i++) cr_assert_eq(pthread_create(&threads[i], NULL, work, &workers[i]), 0);
  for (int i = 0; i < count; i++) pthread_join(threads[i], NULL);
  for (int i = 0; i < count; i++) {
    cr_assert_eq(workers[i].status, WISP_OK, "%s", f.witness.capture.error);
    same_ids(workers[i].made, alone[i], MADE, "beside others");
    wisp_session_destroy(&workers[i].session);
  }
  fixture_close(&f);
}

ON_BOTH(sessions_on_threads_of_their_own) {
  work_side_by_side(device, 2, 2);
  work_side_by_side(device, 3, 1);
  work_side_by_side(device, 4, 4);
}

/* ---- Numbers --------------------------------------------------------------------------------------------------------- */

ON_BOTH(kv_cache_of_floats) {
  fixture f;
  int32_t ids[PROMPT];
  fixture_open(&f, device, "tiny");
  fixture_ids(&f, ids, PROMPT);
  float *rows[2];
  for (int i = 0; i < 2; i++) {
    wisp_session_params params = wisp_session_params_defaults();
    params.context = CONTEXT;
    params.kv_type = i ? WISP_KV_F32 : WISP_KV_F16;
    wisp_session *session;
    cr_assert_eq(wisp_session_create(&session, f.engine, &params), WISP_OK);
    rows[i] = fixture_rows(&f, PROMPT);
    fixture_append(session, ids, PROMPT, WISP_LOGITS_ALL, rows[i]);
    wisp_session_destroy(&session);
  }
  const double nmse = fixture_nmse(rows[0], rows[1], PROMPT * f.vocabulary);
  cr_assert(nmse > 0 && nmse < 1e-5, "f16 against f32: NMSE %g", nmse);
  fixture_close(&f);
  free(rows[0]), free(rows[1]);
}

/* Half the memory; heads of 32 only. Token by token and in a batch, which store K and V in different kernels. */
ON_BOTH(kv_cache_of_8_bits) {
  fixture f;
  int32_t ids[PROMPT];
  fixture_open(&f, device, "tiny-32");
  fixture_ids(&f, ids, PROMPT);
  float *rows[3];
  for (int i = 0; i < 3; i++) {
    wisp_session_params params = wisp_session_params_defaults();
    params.context = CONTEXT;
    params.kv_type = i ? WISP_KV_Q8_0 : WISP_KV_F32;
    wisp_session *session;
    cr_assert_eq(wisp_session_create(&session, f.engine, &params), WISP_OK);
    rows[i] = fixture_rows(&f, PROMPT);
    for (uint32_t at = 0, count = i < 2 ? PROMPT : 1; at < PROMPT; at += count)
      fixture_append(session, ids + at, count, WISP_LOGITS_ALL, rows[i] + (size_t)at * f.vocabulary);
    wisp_session_destroy(&session);
  }
  const double rounding = fixture_nmse(rows[1], rows[0], PROMPT * f.vocabulary);
  const double steps = fixture_nmse(rows[2], rows[1], PROMPT * f.vocabulary);
  cr_assert(rounding > 1e-8 && rounding < 1e-4, "q8_0 against f32: NMSE %g", rounding);
  cr_assert(steps < rounding, "token by token: NMSE %g of %g", steps, rounding);
  fixture_close(&f);
  free(rows[0]), free(rows[1]), free(rows[2]);
}

ON_BOTH(kv_cache_of_8_bits_refuses_other_heads) {
  fixture f;
  fixture_open(&f, device, "tiny");
  wisp_session_params params = wisp_session_params_defaults();
  params.kv_type = WISP_KV_Q8_0;
  wisp_session *session;
  cr_assert_eq(wisp_session_create(&session, f.engine, &params), WISP_ERROR_UNSUPPORTED);
  fixture_said(&f, "blocks of 32, which heads of 16 are no multiple of");
  cr_assert_null(session);
  params.kv_type = (wisp_kv_type)77;
  cr_assert_eq(wisp_session_create(&session, f.engine, &params), WISP_ERROR_ARGUMENT);
  fixture_said(&f, "there is no type 77");
  fixture_close(&f);
  wisp_engine_params engine = fixture_params(&f, device, "tiny");
  engine.kv_type = WISP_KV_Q8_0;
  cr_assert_eq(wisp_engine_create(&f.engine, &engine), WISP_ERROR_UNSUPPORTED);
}

Test(session_vulkan, logits_are_the_cpus) {
  enum { TOKENS = 150 };
  static const char *const shapes[] = {"tiny", "tiny-ls"}, *const types[] = {"q4_0", "q4_1", "q5_0", "q5_1",
                                                                             "q8_0", "f16",  "bf16", "f32"};
  for (size_t shape = 0; shape < 2; shape++)
    for (size_t type = 0; type < sizeof types / sizeof *types; type += 1 + shape) {
      float *rows[2];
      uint32_t vocabulary = 0;
      for (int i = 0; i < 2; i++) {
        fixture f;
        int32_t ids[TOKENS];
        wisp_engine_params params = fixture_params(&f, i ? "vulkan" : "cpu", shapes[shape]);
        params.source.synthetic_type = types[type];
        fixture_create(&f, &params);
        fixture_ids(&f, ids, TOKENS);
        rows[i] = fixture_rows(&f, 2 * TOKENS);
        vocabulary = f.vocabulary;
        wisp_session *session = fixture_session(&f, TOKENS);
        fixture_append(session, ids, TOKENS, WISP_LOGITS_ALL, rows[i]);
        cr_assert_eq(wisp_session_truncate(session, 0), WISP_OK);
        for (uint32_t k = 0; k < TOKENS; k++) /* one by one, through the cache */
          fixture_append(session, ids + k, 1, WISP_LOGITS_LAST, rows[i] + (size_t)(TOKENS + k) * vocabulary);
        wisp_session_destroy(&session);
        fixture_close(&f);
      }
      for (uint32_t k = 0; k < 2 * TOKENS; k++) {
        const double nmse = fixture_nmse(rows[1] + (size_t)k * vocabulary, rows[0] + (size_t)k * vocabulary, vocabulary);
        cr_assert(nmse <= 1e-5, "%s %s, %s %u: NMSE %g", shapes[shape], types[type], k < TOKENS ? "row" : "token", k % TOKENS,
                  nmse);
      }
      free(rows[0]), free(rows[1]);
    }
}

Test(session_cpu, threads_change_nothing) {
  float *rows[3];
  fixture f;
  for (uint32_t i = 0; i < 3; i++) {
    int32_t ids[PROMPT];
    wisp_engine_params params = fixture_params(&f, "cpu", "tiny");
    params.threads = i + 1;
    fixture_create(&f, &params);
    fixture_ids(&f, ids, PROMPT);
    rows[i] = fixture_rows(&f, PROMPT);
    wisp_session *session = fixture_session(&f, CONTEXT);
    fixture_append(session, ids, PROMPT, WISP_LOGITS_ALL, rows[i]);
    wisp_session_destroy(&session);
    fixture_close(&f);
    cr_assert_arr_eq(rows[i], rows[0], PROMPT * f.vocabulary * sizeof(float), "%u threads", i + 1);
  }
  for (int i = 0; i < 3; i++) free(rows[i]);
}
