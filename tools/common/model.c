/* SPDX-License-Identifier: Apache-2.0 */
#include "model.h"

#include <stdio.h>
#include <string.h>

#include "pipeline_cache.h"
#include "platform.h"
#include "report.h"

bool model_device_valid(const char *device) {
  if (!strcmp(device, "auto") || !strcmp(device, "cpu") || !strcmp(device, "vulkan")) return true;
  if (strncmp(device, "vulkan:", 7)) return false;
  size_t digits = strspn(device + 7, "0123456789");
  return digits > 0 && digits < 6 && device[7 + digits] == '\0';
}

bool model_synthetic_valid(const char *name) {
  for (const char *const *known = wisp_synthetic_names(); *known; known++) {
    if (!strcmp(*known, name)) return true;
  }
  return false;
}

bool model_is_safe(const model_options *options, const char *output) {
  return !options->path || !output || !platform_same_file(options->path, output);
}

int model_check(const model_options *options, const args_command *command) {
  report_set_verbose(options->verbose);
  if (!options->path && !options->synthetic) return args_mistake(command, "no model given; use -m MODEL");
  if (options->path && options->synthetic) return args_mistake(command, "-m and --synthetic exclude each other");
  if (options->type && !options->synthetic) return args_mistake(command, "--type only goes with --synthetic");
  if (options->synthetic && !model_synthetic_valid(options->synthetic)) {
    char list[400] = "";
    for (const char *const *known = wisp_synthetic_names(); *known; known++) {
      size_t used = strlen(list);
      snprintf(list + used, sizeof list - used, "%s%s", used ? ", " : "", *known);
    }
    return args_mistake(command, "--synthetic takes one of %s, not '%s'", list, options->synthetic);
  }
  if (options->device && !model_device_valid(options->device)) {
    return args_mistake(command, "--device takes auto, cpu, vulkan or vulkan:INDEX, not '%s'", options->device);
  }
  const char *why;
  if (options->affinity && !platform_set_affinity(options->affinity, &why))
    return args_mistake(command, "--affinity: '%s' %s", options->affinity, why);
  return ARGS_OK;
}

const char *const model_kv_types[] = {"f16", "f32", "q8_0", NULL};

wisp_engine_params model_params(const model_options *options) {
  wisp_engine_params params = wisp_engine_params_defaults();
  params.host = report_host();
  params.source.path = options->path;
  params.source.synthetic = options->synthetic;
  params.source.synthetic_type = options->type;
  if (options->device) params.device = options->device;
  params.threads = options->threads;
  params.max_context = options->context;
  params.kv_type = (wisp_kv_type)options->kv;
  params.cache = pipeline_cache();
  params.progress = report_progress;
  return params;
}

wisp_status model_create(const model_options *options, wisp_load load, wisp_engine **engine) {
  wisp_engine_params params = model_params(options);
  params.load = load;
  wisp_status status = wisp_engine_create(engine, &params);
  report_progress(NULL, NULL, 0);
  return status;
}

int model_open(const model_options *options, wisp_load load, wisp_engine **engine) {
  wisp_status status = model_create(options, load, engine);
  return status == WISP_OK ? REPORT_DONE : report_status(status);
}
