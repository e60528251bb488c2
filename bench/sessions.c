/* SPDX-License-Identifier: Apache-2.0 */
#include "sessions.h"

#include <pthread.h>

#include "common/platform.h"

enum { SESSIONS_MAX = 64 };

typedef struct player {
  wisp_session *session;
  pthread_t thread;
  uint32_t count;
  bool started;
  wisp_status status;
} player;

static bool discard(void *user, int32_t id) {
  return true;
}

static void *play(void *argument) {
  player *p = argument;
  int32_t ids[256];
  for (uint32_t left = p->count, made; left && p->status == WISP_OK; left -= made) {
    const wisp_generate_params params = {.max_tokens = left < 256 ? left : 256, .ignore_end = true, .on_token = discard};
    p->status = wisp_session_generate(p->session, &params, ids, &made);
  }
  return NULL;
}

wisp_status sessions_measure(wisp_engine *engine, uint32_t sessions, uint32_t count, wisp_kv_type kv_type, double *tok_per_s) {
  player players[SESSIONS_MAX] = {{0}};
  wisp_session_params params = wisp_session_params_defaults();
  wisp_status status = WISP_OK;
  params.context = count + 1;
  params.kv_type = kv_type;
  for (uint32_t i = 0; i < sessions && status == WISP_OK; i++) {
    const int32_t first = (int32_t)i + 1;
    players[i].count = count;
    status = wisp_session_create(&players[i].session, engine, &params);
    if (status == WISP_OK) status = wisp_session_append(players[i].session, &first, 1, WISP_LOGITS_NONE, NULL);
  }
  const double start = platform_now_ms();
  for (uint32_t i = 0; i < sessions && status == WISP_OK; i++) {
    players[i].started = pthread_create(&players[i].thread, NULL, play, &players[i]) == 0;
    if (!players[i].started) status = WISP_ERROR_MEMORY;
  }
  for (uint32_t i = 0; i < sessions; i++) {
    if (players[i].started) pthread_join(players[i].thread, NULL);
    if (status == WISP_OK) status = players[i].status;
  }
  *tok_per_s = sessions * count * 1e3 / (platform_now_ms() - start);
  for (uint32_t i = 0; i < sessions; i++) wisp_session_destroy(&players[i].session);
  return status;
}
