/* SPDX-License-Identifier: Apache-2.0 */
#include "whole_token.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "wisp/wisp.h"

enum { TOKENS = 300, GREEDY = 64 };

static const struct {
  const char *model, *type;
} models[WHOLE_TOKEN_MODELS] = {{"tiny", "f32"},  {"tiny", "f16"},  {"tiny", "bf16"},    {"tiny", "q4_0"},
                                {"tiny", "q4_1"}, {"tiny", "q5_1"}, {"tiny-ls", "q8_0"}, {"mobilellm-125m", "q4_0"}};

typedef struct made { /* by one path */
  float *logits;      /* [TOKENS][vocabulary] */
  int32_t greedy[GREEDY];
} made;

static int32_t token_at(uint32_t position, uint32_t vocabulary) {
  return (int32_t)((position * 7919ull + 13) % vocabulary);
}

static void set_variable(const char *value) {
#if defined(_WIN32)
  _putenv_s("WISP_PERSISTENT", value);
#else
  setenv("WISP_PERSISTENT", value, 1);
#endif
}

/* variable: of WISP_PERSISTENT; NULL leaves the choice to the device. */
static wisp_status decode(const wisp_host *host, uint32_t device, uint32_t model, const char *variable, made *out,
                          whole_token_row *row, uint32_t *vocabulary) {
  char selector[32];
  snprintf(selector, sizeof selector, "vulkan:%u", device);
  if (variable) set_variable(variable);
  wisp_engine_params params = wisp_engine_params_defaults();
  params.host = *host;
  params.device = selector;
  params.source.synthetic = models[model].model;
  params.source.synthetic_type = models[model].type;
  wisp_engine *engine = NULL;
  wisp_session *session = NULL;
  wisp_status status = wisp_engine_create(&engine, &params);
  if (variable) set_variable("");
  if (status != WISP_OK) return status;
  wisp_model_info info;
  wisp_engine_settle(engine);
  wisp_engine_model_info(engine, &info);
  *vocabulary = info.vocabulary;
  wisp_engine_stats stats;
  wisp_engine_get_stats(engine, &stats);
  snprintf(row->decode, sizeof row->decode, "%s", stats.decode);
  row->taken = strncmp(stats.decode, "persistent", 10) == 0;
  out->logits = calloc((size_t)TOKENS * info.vocabulary, sizeof *out->logits);
  wisp_session_params session_params = wisp_session_params_defaults();
  session_params.context = TOKENS + GREEDY;
  status = out->logits ? wisp_session_create(&session, engine, &session_params) : WISP_ERROR_MEMORY;
  for (uint32_t i = 0; i < TOKENS && status == WISP_OK && (row->taken || variable); i++) {
    const int32_t id = token_at(i, info.vocabulary);
    status = wisp_session_append(session, &id, 1, WISP_LOGITS_LAST, out->logits + (size_t)i * info.vocabulary);
  }
  uint32_t count;
  const wisp_generate_params generate = {.max_tokens = GREEDY, .ignore_end = true};
  if (status == WISP_OK && (row->taken || variable)) status = wisp_session_generate(session, &generate, out->greedy, &count);
  wisp_session_destroy(&session);
  wisp_engine_destroy(&engine);
  return status;
}

static void compare(const made *found, const made *expected, uint32_t vocabulary, whole_token_row *row) {
  for (uint32_t t = 0; t < TOKENS; t++) {
    double error = 0, power = 0;
    for (uint32_t i = 0; i < vocabulary; i++) {
      const double e = expected->logits[(size_t)t * vocabulary + i], d = found->logits[(size_t)t * vocabulary + i] - e;
      error += d * d;
      power += e * e;
    }
    if (!(error <= row->worst * power)) row->worst = error / power; /* NaN as well */
  }
  row->tokens = TOKENS;
  for (uint32_t i = 0; i < GREEDY; i++) row->others += found->greedy[i] != expected->greedy[i];
}

wisp_status whole_token_check(const wisp_host *host, uint32_t device, whole_token_row rows[WHOLE_TOKEN_MODELS]) {
  wisp_status status = WISP_OK;
  for (uint32_t i = 0; i < WHOLE_TOKEN_MODELS && status == WISP_OK && (i == 0 || rows[0].taken); i++) {
    made found = {0}, expected = {0};
    uint32_t vocabulary = 0;
    whole_token_row ignored;
    rows[i] = (whole_token_row){.model = models[i].model, .type = models[i].type};
    status = decode(host, device, i, NULL, &found, &rows[i], &vocabulary);
    if (status == WISP_OK && rows[i].taken) status = decode(host, device, i, "0", &expected, &ignored, &vocabulary);
    if (status == WISP_OK && rows[i].taken) compare(&found, &expected, vocabulary, &rows[i]);
    free(found.logits);
    free(expected.logits);
  }
  return status;
}
