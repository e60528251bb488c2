/* SPDX-License-Identifier: Apache-2.0 */
#include "startup.h"

enum { STEPS_MAX = 64 };

static uint32_t get(wisp_engine *engine, wisp_startup_step steps[STEPS_MAX]) {
  const uint32_t count = wisp_engine_startup(engine, steps, STEPS_MAX);
  return count < STEPS_MAX ? count : STEPS_MAX;
}

void startup_print(FILE *file, wisp_engine *engine) {
  wisp_startup_step steps[STEPS_MAX];
  const uint32_t count = get(engine, steps);
  for (uint32_t i = 0; i < count; i++)
    fprintf(file, "  %-24s from %8.2f ms on: %8.2f ms\n", steps[i].name, steps[i].begin_ms, steps[i].ms);
}

void startup_write_json(json *out, const char *key, wisp_engine *engine) {
  wisp_startup_step steps[STEPS_MAX];
  const uint32_t count = get(engine, steps);
  json_open_array(out, key);
  for (uint32_t i = 0; i < count; i++) {
    json_open_object(out, NULL);
    json_text(out, "name", steps[i].name);
    json_number(out, "begin_ms", steps[i].begin_ms);
    json_number(out, "ms", steps[i].ms);
    json_close_object(out);
  }
  json_close_array(out);
}
