/* SPDX-License-Identifier: Apache-2.0
 * Logits and choices. Each prompt is run in one batch with the exact greedy ids (NumPy's) behind it; then it is decoded token
 * by token, and set right wherever a near tie went the other way, so that every position is compared.
 *
 * The CPU is compared with NumPy, and by feeding llama.cpp's ids with llama.cpp; any other device with the CPU. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "truth/checks.h"
#include "truth/compare.h"

const truth_prompt *truth_prompt_of(const truth_vectors *vectors, uint32_t i, uint32_t count) {
  return &vectors->prompts[(uint64_t)i * vectors->prompt_count / count];
}

void truth_must(wisp_status status, const char *what) {
  if (status == WISP_OK) return;
  fprintf(stderr, "wisp-truth: %s: %s\n", what, wisp_status_name(status));
  exit(1);
}

wisp_session *truth_session(wisp_engine *engine, wisp_kv_type type, uint32_t context) {
  wisp_session_params params = wisp_session_params_defaults();
  params.kv_type = type;
  params.context = context;
  wisp_session *session;
  truth_must(wisp_session_create(&session, engine, &params), "session");
  return session;
}

static float *rows_of(const truth *t, wisp_session *session, const int32_t *ids, uint32_t count) {
  float *rows = malloc((size_t)count * t->vocabulary * sizeof *rows);
  if (!rows) abort();
  truth_must(wisp_session_append(session, ids, count, WISP_LOGITS_ALL, rows), "append");
  return rows;
}

static const float *row(const truth *t, const float *rows, uint32_t i) {
  return rows + (size_t)i * t->vocabulary;
}

/* The chosen id against the expected one: 0 where they are the same, else how far apart their logits are, at most. */
static double choice_gap(const float *logits, int32_t chosen, int32_t expected, double expected_gap) {
  if (chosen == expected) return 0;
  if (chosen < 0) return NAN;
  return fmax(fabs((double)logits[chosen] - (double)logits[expected]), expected_gap);
}

typedef struct ties {
  double largest_gap;
  uint32_t count;
} ties;

/* Shows both logits where the choices differ. */
static void judge(const truth *t, const truth_prompt *p, const char *against, uint32_t i, const float *logits, int32_t chosen,
                  int32_t expected, double expected_gap, ties *found) {
  const double gap = choice_gap(logits, chosen, expected, expected_gap);
  if (chosen == expected) return;
  found->count++;
  if (!(gap <= found->largest_gap)) found->largest_gap = gap;
  findings_note(t->findings, "tie   %s[%u]: %d (%.4f) here, %d (%.4f) by %s, there %.4f apart", p->id, i, chosen,
                chosen < 0 ? NAN : (double)logits[chosen], expected, (double)logits[expected], against, expected_gap);
}

static void record(const truth *t, const truth_prompt *p, const char *name, const ties *found, double limit) {
  char text[40];
  snprintf(text, sizeof text, "%s_gap", name);
  findings_check(t->findings, p->id, text, found->largest_gap, limit);
  snprintf(text, sizeof text, "%s_ties", name);
  findings_figure(t->findings, p->id, text, found->count);
}

/* ---- Against the vectors ---------------------------------------------------------------------------------------------- */

/* The worst of the stored positions; rows: those of the prompt. */
static double worst_nmse(const truth *t, const float *rows, const truth_run *run) {
  double worst = 0;
  for (uint32_t i = 0; i < run->row_count; i++) {
    const double nmse = compare_nmse_stored(row(t, rows, run->rows[i].position), &run->rows[i]);
    if (!(nmse <= worst)) worst = nmse;
  }
  return worst;
}

/* rows[i]: from which the i-th token is chosen. */
static void compare_choices(const truth *t, const truth_prompt *p, const truth_run *run, const char *name, const float *rows,
                            uint32_t tokens, double limit) {
  ties found = {0};
  for (uint32_t i = 0; i < tokens; i++) {
    const int32_t chosen = compare_argmax(row(t, rows, i), t->vocabulary);
    judge(t, p, name, i, row(t, rows, i), chosen, run->ids[i], compare_gap_stored(&run->choices, i, chosen), &found);
  }
  record(t, p, name, &found, limit);
}

/* llama.cpp's ids by teacher forcing; the session holds the prompt. */
static void compare_llamacpp(const truth *t, const truth_prompt *p, wisp_session *session) {
  const uint32_t tokens = p->llamacpp.count < t->tokens ? p->llamacpp.count : t->tokens;
  int32_t *ids = malloc((tokens + 1) * sizeof *ids);
  if (!ids) abort();
  ids[0] = p->ids[p->count - 1];
  memcpy(ids + 1, p->llamacpp.ids, (tokens - 1) * sizeof *ids);
  truth_must(wisp_session_truncate(session, p->count - 1), "truncate");
  float *rows = rows_of(t, session, ids, tokens);
  compare_choices(t, p, &p->llamacpp, "llamacpp", rows, tokens, NEAR_TIE_LLAMACPP);
  free(rows);
  free(ids);
}

/* With a float32 KV cache nothing but the order of additions differs from the exact result. */
static void compare_float32(const truth *t, const truth_prompt *p) {
  wisp_session *session = truth_session(t->engine, WISP_KV_F32, p->count);
  float *rows = rows_of(t, session, p->ids, p->count);
  findings_check(t->findings, p->id, "nmse_numpy_kv_f32", worst_nmse(t, rows, &p->exact), 1e-6);
  findings_check(t->findings, p->id, "nmse_llamacpp_f32", worst_nmse(t, rows, &p->float32), 1e-6);
  free(rows);
  wisp_session_destroy(&session);
}

static void compare_with_vectors(const truth *t, const truth_prompt *p, const float *rows, uint32_t tokens) {
  findings_check(t->findings, p->id, "nmse_llamacpp", worst_nmse(t, rows, &p->llamacpp), 5e-3);
  findings_check(t->findings, p->id, "nmse_numpy", worst_nmse(t, rows, &p->exact), 1e-6);
  compare_choices(t, p, &p->exact, "numpy", row(t, rows, p->count - 1), tokens, NEAR_TIE);
}

/* ---- Against the CPU -------------------------------------------------------------------------------------------------- */

static double mean_of(const truth *t, const float *rows, const float *expected, uint32_t count) {
  double sum = 0;
  for (uint32_t i = 0; i < count; i++) sum += compare_nmse(row(t, rows, i), row(t, expected, i), t->vocabulary);
  return sum / count;
}

/* The worst of the rows. */
static double worst_of(const truth *t, const float *rows, const float *expected, uint32_t count) {
  double worst = 0;
  for (uint32_t i = 0; i < count; i++) {
    const double nmse = compare_nmse(row(t, rows, i), row(t, expected, i), t->vocabulary);
    if (!(nmse <= worst)) worst = nmse;
  }
  return worst;
}

static void compare_with_cpu(const truth *t, const truth_prompt *p, const float *rows, const float *expected, uint32_t count) {
  ties found = {0};
  for (uint32_t i = p->count - 1; i < count; i++) {
    const float *ours = row(t, rows, i), *theirs = row(t, expected, i);
    const int32_t chosen = compare_argmax(ours, t->vocabulary), wanted = compare_argmax(theirs, t->vocabulary);
    const double gap = chosen < 0 ? NAN : (double)theirs[wanted] - (double)theirs[chosen];
    judge(t, p, "the CPU", i + 1 - p->count, ours, chosen, wanted, gap, &found);
  }
  findings_check(t->findings, p->id, "nmse_cpu", mean_of(t, rows, expected, count), 1e-5);
  /* Position 9 of SmolLM2's default system prompt alone comes near 1e-5: see compare_with_cpu_float32. */
  findings_check(t->findings, p->id, "nmse_cpu_worst", worst_of(t, rows, expected, count), 1e-4);
  record(t, p, "cpu", &found, NEAR_TIE);
}

/* Prompts by cooperative matrices round weights and inputs to float16. */
static bool rounds_to_half(const wisp_engine *engine) {
  const uint32_t count = wisp_engine_pipelines(engine, NULL, 0);
  wisp_pipeline_info *infos = malloc(count * sizeof *infos);
  if (!infos) abort();
  const uint32_t listed = wisp_engine_pipelines(engine, infos, count);
  bool found = false;
  for (uint32_t i = 0; i < count && i < listed; i++) found |= strstr(infos[i].name, "_coopmat") != NULL;
  free(infos);
  return found;
}

/* A float16 KV cache rounds nearly equal values to unlike ones, which some positions amplify a thousand times; with float32
 * what is left is the order of additions, unless the kernels themselves round. */
static void compare_with_cpu_float32(const truth *t, const truth_prompt *p) {
  wisp_engine *const engines[2] = {t->engine, t->reference};
  float *rows[2];
  for (int i = 0; i < 2; i++) {
    wisp_session *session = truth_session(engines[i], WISP_KV_F32, p->count);
    rows[i] = rows_of(t, session, p->ids, p->count);
    wisp_session_destroy(&session);
  }
  findings_check(t->findings, p->id, "nmse_cpu_kv_f32", worst_of(t, rows[0], rows[1], p->count),
                 rounds_to_half(t->engine) ? 1e-4 : 1e-6);
  free(rows[0]), free(rows[1]);
}

/* ---- Decoding --------------------------------------------------------------------------------------------------------- */

/* Token by token behind the prompt, which the session holds. A token that is not the exact one is replaced by it, so that what
 * follows can be compared too. rows[i]: what the batch found for token i of that device, expected[i] for the reference. */
static void decode(const truth *t, const truth_prompt *p, wisp_session *session, const float *rows, const float *expected,
                   uint32_t tokens) {
  const bool cpu = !t->reference;
  int32_t *made = malloc(tokens * sizeof *made);
  ties found = {0};
  uint32_t replaced = 0;
  if (!made) abort();
  for (uint32_t done = 0; done < tokens;) {
    const wisp_generate_params params = {.max_tokens = tokens - done};
    uint32_t count;
    truth_must(wisp_session_generate(session, &params, made, &count), "generate");
    uint32_t i = 0;
    while (i < count && made[i] == p->exact.ids[done + i]) i++;
    for (uint32_t k = 0; k < count && k <= i; k++) {
      const float *logits = row(t, expected, done + k);
      const int32_t wanted = compare_argmax(logits, t->vocabulary);
      const double gap = fabs((double)row(t, rows, done + k)[made[k]] - (double)row(t, rows, done + k)[wanted]);
      judge(t, p, cpu ? "the batch" : "the CPU, decoding", done + k, logits, made[k], wanted, gap, &found);
    }
    done += i;
    if (i == count && done < tokens) { /* ended without an end token that was expected there */
      found.largest_gap = NAN;
      break;
    }
    if (i < count) {
      truth_must(wisp_session_truncate(session, p->count + done), "truncate");
      truth_must(wisp_session_append(session, &p->exact.ids[done], 1, WISP_LOGITS_NONE, NULL), "append");
      done++;
      replaced++;
    }
  }
  /* On the CPU a batch and single tokens are the same computation. */
  record(t, p, "decode", &found, cpu ? 0 : NEAR_TIE);
  findings_figure(t->findings, p->id, "decoded", tokens);
  findings_figure(t->findings, p->id, "replaced", replaced);
  free(made);
}

/* ---- A prompt --------------------------------------------------------------------------------------------------------- */

static void check_prompt(const truth *t, const truth_prompt *p, uint32_t decoded) {
  const uint32_t tokens = p->exact.count < t->tokens ? p->exact.count : t->tokens, count = p->count + tokens - 1;
  const uint32_t context = p->count + (p->llamacpp.count > p->exact.count ? p->llamacpp.count : p->exact.count) + 1;
  int32_t *ids = malloc(count * sizeof *ids);
  if (!ids) abort();
  memcpy(ids, p->ids, p->count * sizeof *ids);
  memcpy(ids + p->count, p->exact.ids, (tokens - 1) * sizeof *ids);

  wisp_session *session = truth_session(t->engine, WISP_KV_F16, context);
  float *rows = rows_of(t, session, ids, count), *expected = NULL;
  if (t->reference) {
    wisp_session *other = truth_session(t->reference, WISP_KV_F16, context);
    expected = rows_of(t, other, ids, count);
    wisp_session_destroy(&other);
    compare_with_cpu(t, p, rows, expected, count);
  } else {
    compare_with_vectors(t, p, rows, tokens);
    compare_float32(t, p);
  }
  if (decoded) {
    truth_must(wisp_session_truncate(session, p->count), "truncate");
    decode(t, p, session, row(t, rows, p->count - 1), row(t, expected ? expected : rows, p->count - 1),
           decoded < tokens ? decoded : tokens);
    if (t->reference) compare_with_cpu_float32(t, p);
  }
  if (!t->reference) compare_llamacpp(t, p, session);
  findings_figure(t->findings, p->id, "compared", tokens);
  wisp_session_destroy(&session);
  free(rows), free(expected), free(ids);
}

void check_prompts(const truth *t) {
  for (uint32_t i = 0; i < t->prompts; i++) {
    /* The decoded ones are spread as well: those at which i * decoded / prompts moves on. */
    const bool decoded = (uint64_t)(i + 1) * t->decoded_prompts / t->prompts > (uint64_t)i * t->decoded_prompts / t->prompts;
    check_prompt(t, truth_prompt_of(t->vectors, i, t->prompts), decoded ? t->decoded_tokens : 0);
    findings_show(t->findings);
  }
}

void check_threads(const truth *t, wisp_engine *other, uint32_t threads) {
  enum { PROMPT = 1, TOKENS = 16 };
  const truth_prompt *p = &t->vectors->prompts[PROMPT];
  wisp_engine *const engines[2] = {t->engine, other};
  float *rows[2];
  int32_t ids[2][TOKENS] = {{0}};
  for (int i = 0; i < 2; i++) {
    const wisp_generate_params params = {.max_tokens = TOKENS, .ignore_end = true};
    wisp_session *session = truth_session(engines[i], WISP_KV_F16, p->count + TOKENS);
    uint32_t count;
    rows[i] = rows_of(t, session, p->ids, p->count);
    truth_must(wisp_session_generate(session, &params, ids[i], &count), "generate");
    wisp_session_destroy(&session);
  }
  char subject[40];
  snprintf(subject, sizeof subject, "%u threads", threads);
  findings_check(t->findings, subject, "ids_unlike", memcmp(ids[0], ids[1], sizeof ids[0]) != 0, 0);
  findings_check(t->findings, subject, "logits_unlike",
                 memcmp(rows[0], rows[1], (size_t)p->count * t->vocabulary * sizeof(float)) != 0, 0);
  findings_show(t->findings);
  free(rows[0]), free(rows[1]);
}
