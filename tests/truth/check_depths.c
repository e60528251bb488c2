/* SPDX-License-Identifier: Apache-2.0
 * Greedy tokens behind ever more of the long text, where a kernel changes how it shares positions out: the device decodes what
 * the CPU decodes, up to a near tie. */
#include <stdio.h>
#include <stdlib.h>

#include "truth/checks.h"
#include "truth/compare.h"

enum { MOST_TOKENS = 32 };

/* Either side of what tiles, batches and workgroups take at a time; the last one ends with the context. */
static const uint32_t depths[] = {1, 2, 31, 64, 65, 127, 256, 511, 512, 513, 1023, 1025, 1536, TRUTH_CONTEXT - MOST_TOKENS};

/* How much the CPU's logits prefer its own token i to the other one, behind what both made before. */
static double preferred_by(const truth *t, wisp_session *session, uint32_t depth, const int32_t *before, uint32_t i,
                           int32_t own, int32_t other) {
  float *logits = malloc(t->vocabulary * sizeof *logits);
  if (!logits) abort();
  truth_must(wisp_session_truncate(session, depth - 1), "truncate");
  truth_must(wisp_session_append(session, t->vectors->text_ids + depth - 1, 1, i ? WISP_LOGITS_NONE : WISP_LOGITS_LAST, logits),
             "append");
  if (i) truth_must(wisp_session_append(session, before, i, WISP_LOGITS_LAST, logits), "append");
  const double gap = (double)logits[own] - (double)logits[other];
  free(logits);
  return gap;
}

/* sessions: of the device and of the CPU, which hold fewer than depth tokens of the text and then depth of them. */
static void check_depth(const truth *t, wisp_session *const sessions[2], uint32_t held, uint32_t depth) {
  const uint32_t tokens = t->decoded_tokens < MOST_TOKENS ? t->decoded_tokens : MOST_TOKENS;
  const wisp_generate_params params = {.max_tokens = tokens, .ignore_end = true};
  int32_t made[2][MOST_TOKENS];
  uint32_t count, same = 0;
  for (int i = 0; i < 2; i++) {
    truth_must(wisp_session_append(sessions[i], t->vectors->text_ids + held, depth - held, WISP_LOGITS_NONE, NULL), "append");
    truth_must(wisp_session_generate(sessions[i], &params, made[i], &count), "generate");
  }
  while (same < tokens && made[0][same] == made[1][same]) same++;
  const double gap = same == tokens ? 0 : preferred_by(t, sessions[1], depth, made[1], same, made[1][same], made[0][same]);
  for (int i = 0; i < 2; i++) truth_must(wisp_session_truncate(sessions[i], depth), "truncate");

  char subject[40];
  snprintf(subject, sizeof subject, "depth %u", depth);
  findings_check(t->findings, subject, "gap", gap, NEAR_TIE);
  findings_figure(t->findings, subject, "same", same);
  findings_show(t->findings);
}

void check_depths(const truth *t, uint32_t greatest) {
  wisp_session *const sessions[2] = {truth_session(t->engine, WISP_KV_F16, TRUTH_CONTEXT),
                                     truth_session(t->reference, WISP_KV_F16, TRUTH_CONTEXT)};
  uint32_t held = 0;
  for (uint32_t i = 0; i < sizeof depths / sizeof *depths && depths[i] <= greatest; i++) {
    check_depth(t, sessions, held, depths[i]);
    held = depths[i];
  }
  for (int i = 0; i < 2; i++) wisp_session_destroy(&(wisp_session *){sessions[i]});
}
