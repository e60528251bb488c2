/* SPDX-License-Identifier: Apache-2.0
 * Opening a device takes the driver a fifth of a second on some machines: time to read the model's file in. */
#include "base/clock.h"
#include "base/crew.h"
#include "gpu/gpu.h"

struct wisp_gpu_opening {
  const wisp_host *host;
  wisp_startup *startup;
  wvk_device_params params;
  wvk_device *device;
  wvk_status status;
  wisp_crew crew;
};

static void add_steps(wisp_startup *startup, const wvk_counters *counters, double begin) {
  const struct {
    const char *name;
    double ms;
  } steps[] = {{"driver: instance", counters->instance_ms},
               {"driver: list of devices", counters->list_ms},
               {"driver: device", counters->device_ms}};
  for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
    const double end = begin + 1e-3 * steps[i].ms;
    wisp_startup_add(startup, steps[i].name, begin, end);
    begin = end;
  }
}

static void open_device(void *argument) {
  wisp_gpu_opening *o = argument;
  const double begin = wisp_now_s();
  o->status = wvk_device_create(&o->device, &o->params);
  if (o->status != WVK_OK) return;
  const wvk_counters counters = wvk_device_counters(o->device);
  add_steps(o->startup, &counters, begin);
}

wisp_gpu_opening *wisp_gpu_open(const wisp_host *host, int32_t index, bool validate, wisp_startup *startup) {
  wisp_gpu_opening *o = wisp_host_alloc(host, 1, sizeof *o);
  if (!o) {
    wisp_fail_memory(host, "a device", sizeof *o);
    return NULL;
  }
  *o = (wisp_gpu_opening){
      .host = host, .startup = startup, .params = {.host = wisp_gpu_host(host), .index = index, .validate = validate}};
  wisp_crew_open(&o->crew);
  if (!wisp_crew_begin(&o->crew, open_device, o)) open_device(o);
  return o;
}

bool wisp_gpu_open_done(wisp_gpu_opening *opening) {
  return !wisp_crew_busy(&opening->crew);
}

wvk_status wisp_gpu_open_wait(wisp_gpu_opening *opening, wvk_device **device) {
  wisp_crew_wait(&opening->crew);
  *device = opening->device;
  return opening->status;
}

void wisp_gpu_open_close(wisp_gpu_opening **opening) {
  wisp_gpu_opening *o = *opening;
  if (!o) return;
  *opening = NULL;
  wisp_crew_close(&o->crew);
  wvk_device_destroy(&o->device);
  wisp_host_free(o->host, o);
}
