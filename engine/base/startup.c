/* SPDX-License-Identifier: Apache-2.0 */
#include "base/startup.h"

#include "base/clock.h"

void wisp_startup_begin(wisp_startup *startup, const wisp_host *host) {
  *startup = (wisp_startup){.host = host, .origin = wisp_now_s()};
  pthread_mutex_init(&startup->mutex, NULL);
}

void wisp_startup_end(wisp_startup *startup) {
  pthread_mutex_destroy(&startup->mutex);
}

void wisp_startup_add(wisp_startup *startup, const char *name, double begin, double end) {
  if (!startup) return;
  const wisp_startup_step step = {.name = name, .begin_ms = 1e3 * (begin - startup->origin), .ms = 1e3 * (end - begin)};
  pthread_mutex_lock(&startup->mutex);
  if (startup->count < WISP_STARTUP_MAX) startup->steps[startup->count++] = step;
  pthread_mutex_unlock(&startup->mutex);
  wisp_log(startup->host, WISP_LOG_DEBUG, "start-up: %s took %.2f ms from %.2f ms on", name, step.ms, step.begin_ms);
}

uint32_t wisp_startup_get(wisp_startup *startup, wisp_startup_step *steps, uint32_t capacity) {
  pthread_mutex_lock(&startup->mutex);
  const uint32_t count = startup->count;
  for (uint32_t i = 0; i < count && i < capacity; i++) steps[i] = startup->steps[i];
  pthread_mutex_unlock(&startup->mutex);
  return count;
}
