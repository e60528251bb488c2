/* SPDX-License-Identifier: Apache-2.0 */
#include "gpu/tune.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "gpu/fused.h"
#include "gpu/token_check.h"
#include "gpu/trial.h"

enum { ROUNDS = 2, MOST_TRIED = 256 };

#define MARGIN 0.97    /* of the default's time: what a choice must stay under, or a candidate of another route */
#define STEP 0.99      /* of the best one's: what another value of a knob must stay under */
#define PROMISING 1.25 /* times the best one's: the other route is tuned too */
#define PASSING_SECONDS 0.3
#define HALF_NMSE 1e-4 /* of logits by f16 arithmetic; those that do not round it are compared by token_check.h */

/* ---- In passing -------------------------------------------------------------------------------------------------------- */

static bool is(const char *text, const char *other) {
  return text && !strcmp(text, other);
}

wisp_status wisp_tune_open(gpu_executor *e) {
  const char *text = getenv("WISP_TUNE");
  char chosen[WISP_CHOICE_TEXT_BYTES];
  wisp_choice choice = {0};
  e->choice_key = wisp_choice_key_of(e->device, e->plan);
  e->choice_asked = text && *text && !is(text, "0") && !is(text, "passing");
  if (e->choice_asked && !wisp_choice_parse(&choice, text))
    return wisp_fail(e->host, WISP_ERROR_ARGUMENT,
                     "WISP_TUNE=%.80s is not understood: 0, passing, or a choice as wisp tune prints it", text);
  if (!e->choice_asked && !is(text, "0")) {
    e->kept = wisp_choice_load(&e->cache, &e->choice_key);
    choice = e->kept.choice;
  }
  wisp_gpu_set_choice(e, &choice);
  wisp_choice_text(&choice, chosen);
  if (*chosen)
    wisp_log(e->host, WISP_LOG_INFO, "decode: %s: %s", e->choice_asked ? "as WISP_TUNE says" : "as found earlier", chosen);
  const wvk_caps *caps = wvk_device_caps(e->device);
  if (choice.knobs[WISP_KNOB_ARITHMETIC] == WISP_ARITHMETIC_F16 && (!caps->float16 || caps->wrong_float16))
    wisp_log(e->host, WISP_LOG_WARN, "%s: f16 arithmetic %s; decode computes in f32", caps->name,
             caps->float16 ? "is known to give wrong results there" : "is not offered");
  return WISP_OK;
}

void wisp_tune_save(gpu_executor *e) {
  pthread_mutex_lock(&e->mutex);
  const wisp_choice_kept kept = e->kept;
  const bool changed = e->choice_changed;
  e->choice_changed = false;
  pthread_mutex_unlock(&e->mutex);
  if (changed) wisp_choice_save(&e->cache, &e->choice_key, &kept);
}

static void keep(gpu_executor *e, const wisp_choice_kept *kept) {
  pthread_mutex_lock(&e->mutex);
  e->kept = *kept;
  e->choice_changed = true;
  pthread_mutex_unlock(&e->mutex);
}

/* Whoever said in the environment how decode is to go, has no cache or a software device wants no trial. */
static bool may_learn(gpu_executor *e) {
  const char *const said[] = {"WISP_FUSED", "WISP_PERSISTENT", "WISP_SHADER_DIR"};
  for (size_t i = 0; i < sizeof said / sizeof *said; i++)
    if (getenv(said[i])) return false;
  const char *text = getenv("WISP_TUNE");
  if (is(text, "0") || e->choice_asked || e->compile_only || !e->cache.get || !e->cache.put) return false;
  return e->kept.origin == WISP_CHOICE_NONE && (wvk_device_caps(e->device)->kind != WVK_KIND_SOFTWARE || is(text, "passing"));
}

static bool closing(gpu_executor *e) {
  pthread_mutex_lock(&e->mutex);
  const bool yes = e->closing;
  pthread_mutex_unlock(&e->mutex);
  return yes;
}

/* b wins by the margin: keeps the knob's value, else other. */
static void keep_winner(gpu_executor *e, const wisp_trial *a, const wisp_trial *b, wisp_knob knob, wisp_switch value,
                        wisp_switch other) {
  const bool wins = b->seconds < MARGIN * a->seconds;
  wisp_choice_kept kept = {
      .origin = WISP_CHOICE_PASSING, .default_us = 1e6 * a->seconds, .us = 1e6 * (wins ? b->seconds : a->seconds)};
  kept.choice.knobs[knob] = wins ? value : other;
  keep(e, &kept);
}

static wisp_status compare_fused(gpu_executor *e, const wisp_kernel_context *fused, wisp_trial *a, wisp_trial *b) {
  uint32_t count;
  double nmse;
  const wisp_model *m = e->plan->model;
  const wisp_kernel_context plain = wisp_trial_context(e, &e->context.choice);
  WISP_TRY(wisp_trial_open(b, e, fused));
  if (!b->timeline || closing(e)) return WISP_OK;
  WISP_TRY(wisp_trial_open(a, e, &plain));
  const double until = wisp_now_s() + PASSING_SECONDS;
  WISP_TRY(wisp_trial_choose_count(a, &count));
  WISP_TRY(wisp_trial_record(a, count));
  WISP_TRY(wisp_trial_record(b, count));
  if (closing(e)) return WISP_OK;
  WISP_TRY(wisp_trial_race(a, b, until));
  float *logits = wisp_host_alloc(e->host, 2ull * WISP_CHECK_TOKENS * m->vocabulary, sizeof *logits);
  if (!logits) return wisp_fail_memory(e->host, "comparison of kernels", 2ull * WISP_CHECK_TOKENS * m->vocabulary * 4);
  wisp_token_check expected = {.logits = logits}, found = {.logits = logits + (size_t)WISP_CHECK_TOKENS * m->vocabulary};
  wisp_status status = wisp_token_check_run(&a->timeline->base, m, &expected);
  if (status == WISP_OK) status = wisp_token_check_run(&b->timeline->base, m, &found);
  if (status == WISP_OK && !wisp_token_check_agrees(m, &expected, &found, &nmse)) b->seconds = HUGE_VAL;
  wisp_host_free(e->host, logits);
  if (status == WISP_OK) keep_winner(e, a, b, WISP_KNOB_FUSED, WISP_ON, WISP_OFF);
  return status;
}

void wisp_tune_in_passing(void *argument) {
  gpu_executor *e = argument;
  wisp_choice choice = {0};
  choice.knobs[WISP_KNOB_FUSED] = WISP_ON;
  if (e->context.fused || e->persistent.planned || !may_learn(e)) return;
  const wisp_kernel_context fused = wisp_trial_context(e, &choice);
  if (!fused.fused) return;
  const double begin = wisp_now_s();
  wisp_trial a = {0}, b = {0};
  (void)compare_fused(e, &fused, &a, &b); /* an error has been logged, and comes back to whoever uses the device next */
  wisp_trial_close(&a);
  wisp_trial_close(&b);
  wisp_startup_add(e->startup, "tuning", begin, wisp_now_s());
}

wisp_status wisp_tune_persistent(gpu_timeline *t, bool *pays) {
  gpu_executor *e = t->executor;
  wisp_trial dispatches = {.timeline = t}, persistent = {.timeline = t, .persistent = true};
  uint32_t count = 0;
  const double begin = wisp_now_s();
  *pays = true;
  if (!may_learn(e)) return WISP_OK;
  wisp_status status = wisp_trial_fill(t);
  if (status == WISP_OK) status = wisp_trial_choose_count(&dispatches, &count);
  if (status == WISP_OK) status = wisp_trial_record(&dispatches, count);
  if (status == WISP_OK) status = wisp_trial_record(&persistent, count);
  if (status == WISP_OK) status = wisp_trial_race(&persistent, &dispatches, begin + PASSING_SECONDS);
  wvk_commands_destroy(&dispatches.commands);
  wvk_commands_destroy(&persistent.commands);
  wisp_startup_add(e->startup, "tuning", begin, wisp_now_s());
  if (status != WISP_OK) return status;
  if (t->persistent.failed) {
    *pays = false;
    return WISP_OK;
  }
  keep_winner(e, &persistent, &dispatches, WISP_KNOB_PERSISTENT, WISP_OFF, WISP_ON);
  *pays = dispatches.seconds >= MARGIN * persistent.seconds;
  return WISP_OK;
}

/* ---- The search -------------------------------------------------------------------------------------------------------- */

typedef struct candidate {
  wisp_choice choice;
  wisp_trial trial;
} candidate;

typedef struct search {
  gpu_executor *e;
  const wisp_tune_params *params;
  wisp_tune_result *result;
  float *logits; /* [2][WISP_CHECK_TOKENS][vocabulary] */
  wisp_token_check expected;
  uint64_t tried[MOST_TRIED]; /* what decode was like */
  uint32_t tried_count, count;
  double end;
} search;

static void swap(candidate *a, candidate *b) {
  const candidate kept = *a;
  *a = *b;
  *b = kept;
}

static uint64_t hash_decode(const gpu_executor *e, const wisp_kernel_context *context) {
  wisp_hash hash;
  wisp_hash_begin(&hash);
  for (uint32_t i = 0; i < e->plan->op_count; i++)
    for (uint32_t part = 0; part < wisp_kernel_parts(context, &e->plan->ops[i], false); part++) {
      const wisp_kernel_call call = wisp_kernel_for(context, &e->plan->ops[i], part, false);
      wisp_hash_add(&hash, call.kernel.shader->name, strlen(call.kernel.shader->name) + 1);
      wisp_hash_add(&hash, call.kernel.constants, sizeof call.kernel.constants);
      wisp_hash_add_u32(&hash, call.groups_x);
    }
  return wisp_hash_end(&hash);
}

/* Whether this was not tried before. */
static bool is_new(search *s, const wisp_kernel_context *context) {
  const uint64_t hash = hash_decode(s->e, context);
  for (uint32_t i = 0; i < s->tried_count; i++)
    if (s->tried[i] == hash) return false;
  if (s->tried_count == MOST_TRIED) return false;
  s->tried[s->tried_count++] = hash;
  return true;
}

static wisp_status tell(search *s, const char *knob, const char *value, const wisp_trial *best, const wisp_trial *tried,
                        bool taken, const char *why_not) {
  const wisp_tune_trial told = {.knob = knob,
                                .value = value,
                                .us_per_token = 1e6 * tried->seconds,
                                .best_us_per_token = 1e6 * best->seconds,
                                .taken = taken,
                                .why_not = why_not};
  s->result->trials++;
  return !s->params->report || s->params->report(s->params->user, &told) ? WISP_OK : WISP_ERROR_CANCELLED;
}

static wisp_status check(search *s, wisp_trial *r, bool *right) {
  const wisp_model *m = s->e->plan->model;
  double nmse;
  wisp_token_check found = {.logits = s->logits + (size_t)WISP_CHECK_TOKENS * m->vocabulary};
  WISP_TRY(wisp_token_check_run(&r->timeline->base, m, &found));
  *right = wisp_token_check_agrees(m, &s->expected, &found, &nmse);
  if (r->timeline->context.choice.knobs[WISP_KNOB_ARITHMETIC] == WISP_ARITHMETIC_F16) *right = nmse <= HALF_NMSE;
  return WISP_OK;
}

/* Opens c->choice's trial and times it in turns with best. Closed where it cannot be had. */
static wisp_status enter(search *s, candidate *c, const wisp_kernel_context *context, candidate *best, bool *right) {
  *right = false;
  WISP_TRY(wisp_trial_open(&c->trial, s->e, context));
  if (!c->trial.timeline) return WISP_OK;
  WISP_TRY(wisp_trial_record(&c->trial, s->count));
  WISP_TRY(wisp_trial_race(&best->trial, &c->trial, s->end));
  return check(s, &c->trial, right);
}

static wisp_status try_value(search *s, candidate *best, wisp_knob knob, uint32_t value, bool *changed) {
  candidate c = {.choice = best->choice};
  char text[16];
  bool right;
  c.choice.knobs[knob] = value;
  const wisp_kernel_context context = wisp_trial_context(s->e, &c.choice);
  if (context.fused != best->trial.timeline->context.fused || !is_new(s, &context)) return WISP_OK;
  wisp_status status = enter(s, &c, &context, best, &right);
  const bool faster = c.trial.timeline && c.trial.seconds < STEP * best->trial.seconds;
  const bool asked = s->params->f16 || c.choice.knobs[WISP_KNOB_ARITHMETIC] != WISP_ARITHMETIC_F16;
  const bool taken = faster && right && asked;
  wisp_knob_text(knob, value, text);
  if (status == WISP_OK)
    status = tell(s, wisp_knobs[knob].name, text, &best->trial, &c.trial, taken,
                  !c.trial.timeline ? "refused by the driver"
                  : !right          ? "wrong results"
                  : !asked          ? "not asked for"
                                    : "");
  if (taken && status == WISP_OK) {
    swap(best, &c);
    *changed = true;
  }
  wisp_trial_close(&c.trial);
  return status;
}

/* A knob at a time, all values of it, until nothing changes. */
static wisp_status descend(search *s, candidate *best, double until) {
  bool changed = true;
  for (int round = 0; round < ROUNDS && changed; round++) {
    changed = false;
    for (int knob = WISP_KNOB_ARITHMETIC; knob < WISP_KNOB_COUNT; knob++)
      for (int i = 0; i < WISP_KNOB_VALUES && wisp_knobs[knob].values[i]; i++) {
        if (wisp_now_s() > until) {
          s->result->complete = false;
          return WISP_OK;
        }
        WISP_TRY(try_value(s, best, (wisp_knob)knob, wisp_knobs[knob].values[i], &changed));
      }
  }
  return WISP_OK;
}

/* Fused kernels where best has none, and the other way round; each tuned where they are not far apart. */
static wisp_status try_other_route(search *s, candidate *best, candidate *other) {
  const bool fused = best->trial.timeline->context.fused;
  bool right;
  other->choice = best->choice;
  other->choice.knobs[WISP_KNOB_FUSED] = fused ? WISP_OFF : WISP_ON;
  const wisp_kernel_context context = wisp_trial_context(s->e, &other->choice);
  if (context.fused == fused || !is_new(s, &context)) return descend(s, best, s->end);
  WISP_TRY(enter(s, other, &context, best, &right));
  const bool faster = other->trial.timeline && right && other->trial.seconds < MARGIN * best->trial.seconds;
  WISP_TRY(tell(s, wisp_knobs[WISP_KNOB_FUSED].name, fused ? "off" : "on", &best->trial, &other->trial, faster,
                !other->trial.timeline ? "refused by the driver"
                : right                ? ""
                                       : "wrong results"));
  if (faster) swap(best, other);
  const bool promising = other->trial.timeline && (right || faster) && other->trial.seconds < PROMISING * best->trial.seconds;
  const double now = wisp_now_s();
  WISP_TRY(descend(s, best, promising ? now + (s->end - now) / 2 : s->end));
  if (!promising) return WISP_OK;
  WISP_TRY(descend(s, other, s->end));
  WISP_TRY(wisp_trial_race(&best->trial, &other->trial, s->end + 1));
  if (other->trial.seconds < MARGIN * best->trial.seconds) swap(best, other);
  return WISP_OK;
}

/* Steps that each won must win together, against the defaults. */
static wisp_status confirm(search *s, candidate *best, candidate *other) {
  const candidate start = {.choice = {{0}}};
  const wisp_kernel_context context = wisp_trial_context(s->e, &start.choice);
  s->result->us_per_token = 1e6 * best->trial.seconds;
  if (!memcmp(&best->choice, &start.choice, sizeof start.choice)) return WISP_OK;
  wisp_trial_close(&other->trial);
  *other = start;
  WISP_TRY(wisp_trial_open(&other->trial, s->e, &context));
  if (!other->trial.timeline) return WISP_OK;
  WISP_TRY(wisp_trial_record(&other->trial, s->count));
  WISP_TRY(wisp_trial_race(&other->trial, &best->trial, s->end + 1));
  s->result->default_us_per_token = 1e6 * other->trial.seconds;
  if (best->trial.seconds >= MARGIN * other->trial.seconds) swap(best, other);
  s->result->us_per_token = 1e6 * best->trial.seconds;
  return WISP_OK;
}

/* The persistent kernel of c->choice, timed in turns with best; without a timeline where it is not there. */
static wisp_status enter_persistent(search *s, candidate *c, wisp_trial *best) {
  const wisp_kernel_context context = wisp_trial_context(s->e, &c->choice);
  WISP_TRY(wisp_trial_open_persistent(&c->trial, s->e, &context));
  if (!c->trial.timeline) return WISP_OK;
  WISP_TRY(wisp_trial_record(&c->trial, s->count));
  return wisp_trial_race(&c->trial, best, s->end + 1);
}

/* *chosen: the fastest of the shapes tried so far, without a timeline where none was faster than first, the default. */
static wisp_status try_persistent_shape(search *s, uint32_t local, candidate *first, candidate *chosen, bool *failed) {
  candidate *best = chosen->trial.timeline ? chosen : first, c = {.choice = first->choice};
  char text[16];
  bool right = false;
  c.choice.knobs[WISP_KNOB_PERSISTENT_LOCAL] = local;
  if (!wisp_persistent_add(s->e, local)) return WISP_OK;
  wisp_status status = enter_persistent(s, &c, &best->trial);
  if (status != WISP_OK || !c.trial.timeline) {
    wisp_trial_close(&c.trial);
    return status;
  }
  status = check(s, &c.trial, &right);
  *failed = c.trial.timeline->persistent.failed;
  const bool taken = right && !*failed && c.trial.seconds < STEP * best->trial.seconds;
  wisp_knob_text(WISP_KNOB_PERSISTENT_LOCAL, local, text);
  if (status == WISP_OK)
    status = tell(s, wisp_knobs[WISP_KNOB_PERSISTENT_LOCAL].name, text, &best->trial, &c.trial, taken,
                  *failed  ? "workgroups waited in vain"
                  : !right ? "wrong results"
                           : "");
  if (taken) swap(chosen, &c);
  wisp_trial_close(&c.trial);
  return status;
}

/* Other numbers of invocations; steps that each won must win together. */
static wisp_status try_persistent_shapes(search *s, candidate *first, candidate *chosen) {
  const uint32_t *locals = wisp_knobs[WISP_KNOB_PERSISTENT_LOCAL].values;
  bool failed = false;
  for (int i = 0; i < WISP_KNOB_VALUES && locals[i] && !failed; i++) {
    if (wisp_now_s() > s->end) {
      s->result->complete = false;
      break;
    }
    WISP_TRY(try_persistent_shape(s, locals[i], first, chosen, &failed));
  }
  if (failed || !chosen->trial.timeline) return WISP_OK;
  WISP_TRY(wisp_trial_race(&first->trial, &chosen->trial, s->end + 1));
  s->result->default_us_per_token = s->result->us_per_token = 1e6 * first->trial.seconds;
  if (chosen->trial.seconds >= MARGIN * first->trial.seconds) return WISP_OK;
  s->result->us_per_token = 1e6 * chosen->trial.seconds;
  first->choice = chosen->choice;
  return WISP_OK;
}

/* Where it is there; best goes by dispatches. */
static wisp_status try_persistent(search *s, candidate *best, candidate *persistent, candidate *other) {
  gpu_executor *e = s->e;
  if (!atomic_load(&e->persistent.available) || e->plan->kv_type == WISP_KV_Q8_0) return WISP_OK;
  persistent->choice = best->choice;
  wisp_persistent_add(e, 0); /* start-up may have built what was kept */
  WISP_TRY(enter_persistent(s, persistent, &best->trial));
  if (!persistent->trial.timeline) return WISP_OK;
  const bool failed = persistent->trial.timeline->persistent.failed;
  const bool off = failed || best->trial.seconds < MARGIN * persistent->trial.seconds;
  s->result->default_us_per_token = 1e6 * persistent->trial.seconds;
  s->result->us_per_token = 1e6 * (off ? best->trial.seconds : persistent->trial.seconds);
  WISP_TRY(tell(s, wisp_knobs[WISP_KNOB_PERSISTENT].name, "on", &best->trial, &persistent->trial, !off,
                failed ? "workgroups waited in vain" : ""));
  best->choice.knobs[WISP_KNOB_PERSISTENT] = off ? WISP_OFF : WISP_ON;
  if (off) return WISP_OK;
  wisp_trial_close(&other->trial);
  WISP_TRY(try_persistent_shapes(s, persistent, other));
  best->choice.knobs[WISP_KNOB_PERSISTENT_LOCAL] = persistent->choice.knobs[WISP_KNOB_PERSISTENT_LOCAL];
  return WISP_OK;
}

static wisp_status search_all(search *s, candidate *best, candidate *other, candidate *persistent) {
  const wisp_choice defaults = {0};
  const wisp_kernel_context context = wisp_trial_context(s->e, &defaults);
  const wisp_trial none = {0};
  bool agrees;
  is_new(s, &context);
  WISP_TRY(wisp_trial_open(&best->trial, s->e, &context));
  if (!best->trial.timeline)
    return wisp_fail(s->e->host, WISP_ERROR_DEVICE, "%s: the driver refuses the kernels that decode begins with",
                     wvk_device_caps(s->e->device)->name);
  WISP_TRY(wisp_token_check_run(&best->trial.timeline->base, s->e->plan->model, &s->expected));
  WISP_TRY(wisp_trial_fill(best->trial.timeline));
  WISP_TRY(wisp_trial_choose_count(&best->trial, &s->count));
  WISP_TRY(wisp_trial_record(&best->trial, s->count));
  for (int i = 0; i < WISP_TRIAL_REPEATS; i++) WISP_TRY(wisp_trial_run(&best->trial));
  s->result->default_us_per_token = 1e6 * best->trial.seconds;
  WISP_TRY(tell(s, "", best->trial.timeline->context.fused ? "fused" : "dispatches", &none, &best->trial, true, ""));
  WISP_TRY(try_other_route(s, best, other));
  WISP_TRY(confirm(s, best, other));
  WISP_TRY(try_persistent(s, best, persistent, other));
  WISP_TRY(check(s, &best->trial, &agrees));
  return agrees ? WISP_OK
                : wisp_fail(s->e->host, WISP_ERROR_DEVICE, "%s: what was chosen gave other results at the end",
                            wvk_device_caps(s->e->device)->name);
}

static void describe(const wisp_choice_kept *kept, wisp_tune_result *result) {
  wisp_choice_text(&kept->choice, result->choice);
  result->default_us_per_token = kept->default_us;
  result->us_per_token = kept->us;
  result->complete = kept->origin == WISP_CHOICE_TUNED;
}

/* Builds what was chosen and judges it as a start does. */
static wisp_status take_on(gpu_executor *e, const wisp_choice *choice) {
  const uint32_t refused = e->context.refused;
  wisp_gpu_set_choice(e, choice);
  WISP_TRY(wisp_gpu_build_pipelines(e, e->plan->kv_type));
  WISP_TRY(wisp_gpu_selftest(e));
  if (e->context.fused) WISP_TRY(wisp_gpu_check_fused(e));
  if (e->context.refused == refused) return WISP_OK;
  return wisp_fail(e->host, WISP_ERROR_DEVICE, "%s: what was chosen does not pass the self-test; nothing is kept",
                   wvk_device_caps(e->device)->name);
}

/* From here on, and at further starts. */
static wisp_status adopt(gpu_executor *e, const wisp_choice_kept *kept) {
  const wisp_kernel_context before = e->context;
  const wisp_status status = take_on(e, &kept->choice);
  if (status != WISP_OK) {
    e->context = before;
    return status;
  }
  keep(e, kept);
  wisp_tune_save(e);
  (kept->choice.knobs[WISP_KNOB_PERSISTENT] == WISP_OFF ? wisp_persistent_give_up : wisp_persistent_adopt)(e);
  return WISP_OK;
}

/* f16 arithmetic goes where no kernel of what was chosen has it. */
static void drop_idle_arithmetic(const gpu_executor *e, wisp_choice *choice) {
  const wisp_kernel_context context = wisp_trial_context(e, choice);
  for (uint32_t i = 0; i < e->plan->op_count && !context.fused; i++)
    if (wisp_kernel_halves(&context, &e->plan->ops[i])) return;
  choice->knobs[WISP_KNOB_ARITHMETIC] = 0;
}

static wisp_status tune(gpu_executor *e, const wisp_tune_params *params, wisp_tune_result *result) {
  const uint64_t vocabulary = e->plan->model->vocabulary, floats = 2 * WISP_CHECK_TOKENS * vocabulary;
  const double begin = wisp_now_s();
  const uint32_t first = e->pipeline_count;
  search s = {.e = e, .params = params, .result = result, .end = begin + params->budget_s};
  candidate best = {0}, other = {0}, persistent = {0};
  result->complete = true;
  s.expected.logits = s.logits = wisp_host_alloc(e->host, floats, sizeof *s.logits);
  if (!s.logits) return wisp_fail_memory(e->host, "comparison of kernels", floats * sizeof *s.logits);
  wisp_status status = search_all(&s, &best, &other, &persistent);
  wisp_trial_close(&best.trial);
  wisp_trial_close(&other.trial);
  wisp_trial_close(&persistent.trial);
  wisp_host_free(e->host, s.logits);
  wisp_trial_drop_kernels(e, first);
  if (status != WISP_OK) return status;
  drop_idle_arithmetic(e, &best.choice);
  const wisp_choice_kept kept = {.choice = best.choice,
                                 .origin = result->complete ? WISP_CHOICE_TUNED : WISP_CHOICE_PASSING,
                                 .default_us = result->default_us_per_token,
                                 .us = result->us_per_token};
  describe(&kept, result);
  status = adopt(e, &kept);
  wisp_startup_add(e->startup, "tuning", begin, wisp_now_s());
  return status;
}

wisp_status wisp_gpu_tune(wisp_executor *executor, const wisp_tune_params *params, wisp_tune_result *result) {
  gpu_executor *e = (gpu_executor *)executor;
  const wisp_choice_kept nothing = {0};
  if (e->compile_only) return wisp_fail(e->host, WISP_ERROR_ARGUMENT, "an engine without weights has nothing to time");
  if (e->choice_asked) return wisp_fail(e->host, WISP_ERROR_ARGUMENT, "WISP_TUNE says already how decode is to go; unset it");
  executor->api->settle(executor);
  if (params->forget) {
    keep(e, &nothing);
    wisp_tune_save(e);
    return WISP_OK;
  }
  const bool f16 = e->kept.choice.knobs[WISP_KNOB_ARITHMETIC] == WISP_ARITHMETIC_F16;
  result->kept = e->kept.origin == WISP_CHOICE_TUNED && (f16 || !params->f16);
  if (!result->kept) return tune(e, params, result);
  describe(&e->kept, result);
  return WISP_OK;
}
