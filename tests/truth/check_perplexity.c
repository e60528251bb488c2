/* SPDX-License-Identifier: Apache-2.0
 * Perplexity of the fixed text, in the windows of README.md. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "truth/checks.h"
#include "truth/compare.h"

/* Mean of -ln p over the scored tokens of a window. */
static double window_nll(const truth *t, wisp_session *session, const int32_t *ids) {
  enum { BATCH = 64 };
  const uint32_t window = t->vectors->llamacpp.window, first = t->vectors->llamacpp.first_scored;
  float *rows = malloc((size_t)BATCH * t->vocabulary * sizeof *rows);
  double sum = 0;
  if (!rows) abort();
  truth_must(wisp_session_truncate(session, 0), "truncate");
  truth_must(wisp_session_append(session, ids, first - 1, WISP_LOGITS_NONE, NULL), "append");
  for (uint32_t from = first - 1; from + 1 < window; from += BATCH) {
    const uint32_t count = window - 1 - from < BATCH ? window - 1 - from : BATCH;
    truth_must(wisp_session_append(session, ids + from, count, WISP_LOGITS_ALL, rows), "append");
    for (uint32_t i = 0; i < count; i++) sum += compare_nll(rows + (size_t)i * t->vocabulary, t->vocabulary, ids[from + i + 1]);
  }
  free(rows);
  return sum / (window - first);
}

/* exp of the mean over the first windows: their perplexity. */
static double perplexity(const double *mean_nll, uint32_t windows) {
  double sum = 0;
  for (uint32_t i = 0; i < windows; i++) sum += mean_nll[i];
  return exp(sum / windows);
}

static void against_vectors(const truth *t, double ours, const double *mean_nll) {
  const truth_perplexity *llamacpp = &t->vectors->llamacpp, *exact = &t->vectors->exact;
  const double theirs = perplexity(llamacpp->mean_nll, t->windows), numpy = perplexity(exact->mean_nll, t->windows);
  double worst_llamacpp = 0, worst_numpy = 0;
  for (uint32_t i = 0; i < t->windows; i++) {
    worst_llamacpp = fmax(worst_llamacpp, fabs(mean_nll[i] - llamacpp->mean_nll[i]));
    worst_numpy = fmax(worst_numpy, fabs(mean_nll[i] - exact->mean_nll[i]));
  }
  findings_figure(t->findings, "perplexity", "llamacpp", theirs);
  findings_figure(t->findings, "perplexity", "numpy", numpy);
  /* Of all windows, though this many are fewer and their error larger. */
  findings_check(t->findings, "perplexity", "from_llamacpp", fabs(ours - theirs), llamacpp->standard_error);
  findings_check(t->findings, "perplexity", "from_numpy_relative", fabs(ours / numpy - 1), 1e-3);
  findings_figure(t->findings, "perplexity", "window_nll_from_llamacpp", worst_llamacpp);
  findings_check(t->findings, "perplexity", "window_nll_from_numpy", worst_numpy, 1e-3);
}

void check_perplexity(const truth *t) {
  const uint32_t window = t->vectors->llamacpp.window;
  wisp_engine *const engines[2] = {t->engine, t->reference};
  double *mean_nll[2] = {0};

  for (int e = 0; e < 2 && engines[e]; e++) {
    wisp_session *session = truth_session(engines[e], WISP_KV_F16, window);
    mean_nll[e] = malloc(t->windows * sizeof **mean_nll);
    if (!mean_nll[e]) abort();
    for (uint32_t i = 0; i < t->windows; i++)
      mean_nll[e][i] = window_nll(t, session, t->vectors->text_ids + (size_t)i * window);
    wisp_session_destroy(&session);
  }
  const double ours = perplexity(mean_nll[0], t->windows);
  findings_figure(t->findings, "perplexity", "windows", t->windows);
  findings_figure(t->findings, "perplexity", "ppl", ours);
  if (t->reference) {
    const double cpu = perplexity(mean_nll[1], t->windows);
    findings_figure(t->findings, "perplexity", "ppl_cpu", cpu);
    findings_check(t->findings, "perplexity", "from_cpu_relative", fabs(ours / cpu - 1), 1e-3);
  } else {
    against_vectors(t, ours, mean_nll[0]);
  }
  findings_show(t->findings);
  free(mean_nll[0]), free(mean_nll[1]);
}
