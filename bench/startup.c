/* SPDX-License-Identifier: Apache-2.0 */
#include "startup.h"

#include <stdlib.h>
#include <string.h>

#include "common/pipeline_cache.h"
#include "common/platform.h"
#include "common/report.h"
#include "common/startup.h"

typedef struct start {
  row item; /* with load, init, first token */
  double driver_ms;
  uint32_t pipelines_built;
} start;

static size_t nothing(void *user, const char *key, void *data, size_t size) {
  return 0;
}

static wisp_status first_token(wisp_engine *engine, uint32_t prompt) {
  wisp_session *session = NULL;
  int32_t made, *ids = calloc(prompt, sizeof *ids);
  uint32_t count;
  wisp_session_params params = wisp_session_params_defaults();
  params.context = prompt + 1;
  const wisp_generate_params generate = {.max_tokens = 1, .ignore_end = true};
  wisp_status status = ids ? wisp_session_create(&session, engine, &params) : WISP_ERROR_MEMORY;
  if (status == WISP_OK) status = wisp_session_append(session, ids, prompt, WISP_LOGITS_NONE, NULL);
  if (status == WISP_OK) status = wisp_session_generate(session, &generate, &made, &count);
  wisp_session_destroy(&session);
  free(ids);
  return status;
}

static void describe(wisp_engine *engine, start *s) {
  wisp_engine_stats stats;
  wisp_model_info model;
  wisp_engine_get_stats(engine, &stats);
  wisp_engine_model_info(engine, &model);
  snprintf(s->item.model, sizeof s->item.model, "%s", model.name);
  snprintf(s->item.type, sizeof s->item.type, "%s", model.type);
  snprintf(s->item.device, sizeof s->item.device, "%s", stats.device.name);
  snprintf(s->item.backend, sizeof s->item.backend, "%s", stats.device.backend);
  s->item.threads = stats.threads;
  s->item.load_ms = stats.load_ms;
  s->item.init_ms = stats.init_ms;
  s->item.peak_device_bytes = (double)stats.peak_device_bytes;
  s->item.peak_rss_bytes = (double)platform_peak_rss();
  s->driver_ms = stats.driver_ms;
  s->pipelines_built = stats.pipelines_built;
}

static wisp_status start_once(const model_options *model, bool cold, uint32_t prompt, start *s, FILE *steps) {
  wisp_engine *engine;
  wisp_engine_params params = model_params(model);
  if (cold) params.cache.get = nothing;
  s->item = row_unknown();
  wisp_status status = wisp_engine_create(&engine, &params);
  if (status != WISP_OK) return status;
  const double begin = platform_now_ms();
  status = first_token(engine, prompt);
  s->item.first_token_ms = platform_now_ms() - begin;
  s->item.depth = 0;
  describe(engine, s);
  if (steps) startup_print(steps, engine);
  wisp_engine_destroy(&engine);
  return status;
}

static int compare(const void *a, const void *b) {
  const double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

/* Of the field at offset of starts[count], a double. */
static double median(const start *starts, uint32_t count, size_t offset) {
  double values[STARTUP_MOST];
  for (uint32_t i = 0; i < count; i++) memcpy(&values[i], (const char *)&starts[i] + offset, sizeof(double));
  qsort(values, count, sizeof *values, compare);
  return values[count / 2];
}

static wisp_status measure(const model_options *model, bool cold, uint32_t prompt, uint32_t count, rows *list, FILE *file) {
  start starts[STARTUP_MOST];
  const char *name = cold ? "cold" : "warm";
  fprintf(file, "%s start, the last of %u:\n", name, count);
  for (uint32_t i = 0; i < count; i++) {
    const wisp_status status = start_once(model, cold, prompt, &starts[i], i + 1 == count ? file : NULL);
    if (status != WISP_OK) return status;
  }
  row item = starts[count - 1].item;
  snprintf(item.test, sizeof item.test, "start %s", name);
  item.load_ms = median(starts, count, offsetof(start, item.load_ms));
  item.init_ms = median(starts, count, offsetof(start, item.init_ms));
  item.first_token_ms = median(starts, count, offsetof(start, item.first_token_ms));
  fprintf(
      file,
      "%s start, medians: load %.1f ms, init %.1f ms, first token %.1f ms; the driver's share %.1f ms; %u pipelines compiled\n",
      name, item.load_ms, item.init_ms, item.first_token_ms, median(starts, count, offsetof(start, driver_ms)),
      starts[count - 1].pipelines_built);
  return rows_add(list, &item) ? WISP_OK : WISP_ERROR_MEMORY;
}

wisp_status startup_measure(const model_options *model, uint32_t prompt, uint32_t repetitions, rows *list, FILE *file) {
  const uint32_t count = repetitions < STARTUP_MOST ? repetitions : STARTUP_MOST;
  fprintf(file, "%s on %s, prompt of %u tokens\n", model->path ? model->path : model->synthetic, model->device, prompt);
  const wisp_status status = measure(model, true, prompt, count, list, file);
  return status == WISP_OK ? measure(model, false, prompt, count, list, file) : status;
}
