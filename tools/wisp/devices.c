/* SPDX-License-Identifier: Apache-2.0
 * wisp devices: what models can run on. */
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include "commands.h"
#include "common/args.h"
#include "common/json.h"
#include "common/report.h"

static const struct {
  const char *name;
  size_t offset;
} features[] = {
    {"float16", offsetof(wisp_device_info, float16)},
    {"int8", offsetof(wisp_device_info, int8)},
    {"storage16", offsetof(wisp_device_info, storage16)},
    {"storage8", offsetof(wisp_device_info, storage8)},
    {"subgroup_arithmetic", offsetof(wisp_device_info, subgroup_arithmetic)},
    {"subgroup_shuffle", offsetof(wisp_device_info, subgroup_shuffle)},
    {"int_dot", offsetof(wisp_device_info, int_dot)},
    {"cooperative_matrix", offsetof(wisp_device_info, cooperative_matrix)},
    {"timeline_semaphore", offsetof(wisp_device_info, timeline_semaphore)},
    {"timestamps", offsetof(wisp_device_info, timestamps)},
    {"memory_model", offsetof(wisp_device_info, memory_model)},
};
enum { FEATURE_COUNT = sizeof features / sizeof features[0] };

static bool has(const wisp_device_info *device, int feature) {
  return *(const bool *)((const char *)device + features[feature].offset);
}

static void version_text(uint32_t version, char text[32]) {
  text[0] = '\0';
  if (version) snprintf(text, 32, "%u.%u.%u", version >> 22 & 0x7F, version >> 12 & 0x3FF, version & 0xFFF);
}

static void print_json(const wisp_device_info *devices, uint32_t count) {
  json out;
  json_begin(&out, stdout);
  json_open_array(&out, NULL);
  for (uint32_t i = 0; i < count; i++) {
    const wisp_device_info *d = &devices[i];
    char version[32];
    version_text(d->api_version, version);
    json_open_object(&out, NULL);
    json_text(&out, "selector", d->selector);
    json_text(&out, "backend", d->backend);
    json_text(&out, "name", d->name);
    json_text(&out, "driver", d->driver);
    json_text(&out, "kind", d->kind);
    json_text(&out, "tier", d->tier);
    json_text(&out, "api_version", version);
    json_integer(&out, "subgroup_size", d->subgroup_size);
    json_integer(&out, "max_workgroup", d->max_workgroup);
    json_integer(&out, "shared_memory", d->shared_memory);
    json_integer(&out, "max_binding", (int64_t)d->max_binding);
    json_integer(&out, "memory", (int64_t)d->memory);
    json_bool(&out, "unified_memory", d->unified_memory);
    json_bool(&out, "usable", d->usable);
    json_text(&out, "why_not", d->why_not);
    for (int j = 0; j < FEATURE_COUNT; j++) json_bool(&out, features[j].name, has(d, j));
    json_close_object(&out);
  }
  json_close_array(&out);
  json_end(&out);
}

static void print_text(const wisp_device_info *devices, uint32_t count) {
  printf("%-10s %-5s %-11s %9s  %s\n", "device", "tier", "kind", "memory", "name");
  for (uint32_t i = 0; i < count; i++) {
    const wisp_device_info *d = &devices[i];
    char version[32];
    version_text(d->api_version, version);
    printf("%-10s %-5s %-11s %6.1f GB  %s", d->selector, d->tier[0] ? d->tier : "-", d->kind, (double)d->memory / 1e9, d->name);
    if (d->driver[0]) printf("; %s", d->driver);
    if (version[0]) printf("; Vulkan %s", version);
    putchar('\n');
    if (!d->usable) printf("%10s not usable: %s\n", "", d->why_not);
    bool any = false;
    for (int j = 0; j < FEATURE_COUNT; j++) {
      if (!has(d, j)) continue;
      printf("%s%s", any ? ", " : "           ", features[j].name);
      any = true;
    }
    if (any) putchar('\n');
  }
}

int command_devices(int argc, char **argv) {
  bool as_json = false, verbose = false;
  const args_option options[] = {
      ARG_FLAG("--json", NULL, &as_json, "print an array with all that is known"),
      ARG_FLAG("-v", "--verbose", &verbose, "say more about what was found"),
  };
  const args_command command = {.name = "wisp devices",
                                .operands = "",
                                .summary = "Lists the devices; the first column is what --device takes.",
                                .options = options,
                                .option_count = sizeof options / sizeof options[0]};
  int code = args_parse(&command, argc, argv);
  if (code != ARGS_OK) return code;
  report_set_verbose(verbose);

  wisp_host host = report_host();
  enum { CAPACITY = 64 };
  wisp_device_info *devices = calloc(CAPACITY, sizeof *devices);
  if (!devices) return report_error("out of memory for the list of devices");
  uint32_t count = 0;
  wisp_status status = wisp_devices(&host, devices, CAPACITY, &count);
  if (status == WISP_OK) (as_json ? print_json : print_text)(devices, count < CAPACITY ? count : CAPACITY);
  free(devices);
  return status == WISP_OK ? REPORT_DONE : report_status(status);
}
