/* SPDX-License-Identifier: Apache-2.0 */
#include "cpu/cpu.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(_WIN32)
#include <windows.h>
#else
#include <fcntl.h>
#include <unistd.h>
#endif
#if defined(__linux__)
#include <sched.h>
#endif

#if defined(_WIN32)

static uint32_t online_processors(void) {
  SYSTEM_INFO info;
  GetSystemInfo(&info);
  return info.dwNumberOfProcessors;
}

static uint64_t physical_memory(void) {
  MEMORYSTATUSEX status = {.dwLength = sizeof status};
  return GlobalMemoryStatusEx(&status) ? status.ullTotalPhys : UINT64_MAX;
}

#else

static uint32_t online_processors(void) {
  long count = sysconf(_SC_NPROCESSORS_ONLN);
  return count > 0 ? (uint32_t)count : 1;
}

static uint64_t physical_memory(void) {
  long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);
  return pages > 0 && size > 0 ? (uint64_t)pages * (uint64_t)size : UINT64_MAX;
}

#endif

#if defined(__linux__)

/* The start of a file under /proc or /sys as a string; false if it cannot be read. */
static bool read_text(const char *path, char *text, size_t capacity) {
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return false;
  size_t size = 0;
  for (ssize_t got; size < capacity - 1 && (got = read(fd, text + size, capacity - 1 - size)) > 0;) size += (size_t)got;
  close(fd);
  text[size] = 0;
  return size > 0;
}

static bool read_number(const char *folder, int processor, const char *file, long *number) {
  char path[256], text[64];
  snprintf(path, sizeof path, "%s/cpu%d/%s", folder, processor, file);
  if (!read_text(path, text, sizeof text)) return false;
  *number = strtol(text, NULL, 10);
  return true;
}

/* Speed of a processor, and what share of the fastest one's, in percent, makes it a fast one; speed 0 = unknown. Capacities say
 * what a core does, clock rates only how often. */
static long speed_of(const char *folder, int processor, long *share) {
  long speed = 0;
  *share = 50;
  if (read_number(folder, processor, "cpu_capacity", &speed)) return speed;
  *share = 80;
  return read_number(folder, processor, "cpufreq/cpuinfo_max_freq", &speed) ? speed : 0;
}

void wisp_cpu_fast(const char *folder, const wisp_cpu_mask *allowed, wisp_cpu_mask *fast) {
  long most = 0, share;
  for (int i = 0; i < WISP_CPU_PROCESSORS_MAX; i++) {
    const long speed = wisp_cpu_mask_has(allowed, i) ? speed_of(folder, i, &share) : 0;
    if (speed > most) most = speed;
  }
  *fast = (wisp_cpu_mask){{0}};
  for (int i = 0; i < WISP_CPU_PROCESSORS_MAX; i++) {
    if (wisp_cpu_mask_has(allowed, i) && speed_of(folder, i, &share) >= most * share / 100) wisp_cpu_mask_add(fast, i);
  }
}

static const char *const processors = "/sys/devices/system/cpu";

/* Processors that the calling thread may use, and the fast ones of them; false if that is unknown. */
static bool usable_processors(wisp_cpu_mask *allowed, wisp_cpu_mask *fast) {
  cpu_set_t set;
  *allowed = (wisp_cpu_mask){{0}};
  if (sched_getaffinity(0, sizeof set, &set) != 0) return false;
  for (int i = 0; i < CPU_SETSIZE && i < WISP_CPU_PROCESSORS_MAX; i++) {
    if (CPU_ISSET(i, &set)) wisp_cpu_mask_add(allowed, i);
  }
  wisp_cpu_fast(processors, allowed, fast);
  return true;
}

void wisp_cpu_prefer_fast(void) {
  wisp_cpu_mask allowed, fast;
  if (!usable_processors(&allowed, &fast) || !memcmp(&allowed, &fast, sizeof fast)) return;
  cpu_set_t set;
  CPU_ZERO(&set);
  for (int i = 0; i < CPU_SETSIZE && i < WISP_CPU_PROCESSORS_MAX; i++) {
    if (wisp_cpu_mask_has(&fast, i)) CPU_SET(i, &set);
  }
  sched_setaffinity(0, sizeof set, &set); /* a wish: where it is refused, threads run anywhere */
}

/* Fast processors, siblings of one core counted once: each stands for the lowest processor of its core. */
static uint32_t fast_cores(void) {
  wisp_cpu_mask allowed, fast, cores = {{0}};
  uint32_t count = 0;
  if (!usable_processors(&allowed, &fast)) return online_processors();
  for (int i = 0; i < WISP_CPU_PROCESSORS_MAX; i++) {
    if (!wisp_cpu_mask_has(&fast, i)) continue;
    long lowest;
    if (!read_number(processors, i, "topology/thread_siblings_list", &lowest) || lowest < 0 || lowest > i) lowest = i;
    count += !wisp_cpu_mask_has(&cores, (int)lowest);
    wisp_cpu_mask_add(&cores, (int)lowest);
  }
  return count;
}

/* Processors that the control group may keep busy, rounded up; UINT32_MAX without a quota ("max 100000"). */
static uint32_t processor_quota(void) {
  char text[64], *rest;
  if (!read_text("/sys/fs/cgroup/cpu.max", text, sizeof text)) return UINT32_MAX;
  long long quota = strtoll(text, &rest, 10), period = strtoll(rest, NULL, 10);
  if (quota <= 0 || period <= 0) return UINT32_MAX;
  return (uint32_t)((quota + period - 1) / period);
}

uint32_t wisp_cpu_cores(void) {
  uint32_t cores = fast_cores(), quota = processor_quota();
  if (quota < cores) cores = quota;
  return cores ? cores : 1;
}

uint64_t wisp_cpu_memory(void) {
  char text[64];
  uint64_t physical = physical_memory();
  if (!read_text("/sys/fs/cgroup/memory.max", text, sizeof text)) return physical;
  uint64_t limit = strtoull(text, NULL, 10); /* "max" gives 0 */
  return limit && limit < physical ? limit : physical;
}

/* Copies the value of a line "key : value". */
static bool find_value(const char *text, const char *key, char *value, size_t capacity) {
  const char *line = strstr(text, key), *colon = line ? strchr(line, ':') : NULL;
  if (!colon) return false;
  colon += 1 + strspn(colon + 1, " \t");
  snprintf(value, capacity, "%.*s", (int)strcspn(colon, "\n"), colon);
  return value[0] != 0;
}

static void processor_name(char *name, size_t capacity) {
  char text[16384];
  if (read_text("/proc/cpuinfo", text, sizeof text) &&
      (find_value(text, "model name", name, capacity) || find_value(text, "Hardware", name, capacity))) {
    return;
  }
  if (read_text("/sys/devices/soc0/machine", text, sizeof text) || read_text("/proc/device-tree/model", text, sizeof text)) {
    snprintf(name, capacity, "%.*s", (int)strcspn(text, "\n"), text);
    return;
  }
  snprintf(name, capacity, "CPU");
}

#else

void wisp_cpu_fast(const char *folder, const wisp_cpu_mask *allowed, wisp_cpu_mask *fast) {
  *fast = *allowed;
}
void wisp_cpu_prefer_fast(void) {}
uint32_t wisp_cpu_cores(void) {
  return online_processors();
}
uint64_t wisp_cpu_memory(void) {
  return physical_memory();
}
static void processor_name(char *name, size_t capacity) {
  snprintf(name, capacity, "CPU");
}

#endif

void wisp_cpu_device_info(wisp_device_info *info) {
  *info = (wisp_device_info){.backend = "cpu", .selector = "cpu", .kind = "cpu", .unified_memory = true, .usable = true};
  processor_name(info->name, sizeof info->name);
  uint64_t memory = wisp_cpu_memory();
  info->memory = memory == UINT64_MAX ? 0 : memory;
}
