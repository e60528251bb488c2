/* SPDX-License-Identifier: Apache-2.0
 * Choosing and opening a device. */
#include "internal.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

wvk_status wvk_device_check(const struct wvk_device *device) {
  return atomic_load(&device->lost) ? WVK_ERROR_LOST : WVK_OK;
}

wvk_status wvk_device_fail(struct wvk_device *device, VkResult result, const char *call, const char *what) {
  wvk_status status = WVK_ERROR_DRIVER;
  if (result == VK_ERROR_DEVICE_LOST) {
    atomic_store(&device->lost, true);
    status = WVK_ERROR_LOST;
  } else if (result == VK_ERROR_OUT_OF_HOST_MEMORY || result == VK_ERROR_OUT_OF_DEVICE_MEMORY) {
    status = WVK_ERROR_MEMORY;
  }
  return wvk_fail(&device->host, status, "%s: %s of %s: %s", device->physical.caps.name, call, what, wvk_result_name(result));
}

/* The place in the list: the one asked for, or the best usable one. */
static wvk_status choose(const wvk_host *host, const struct wvk_physical *list, uint32_t count, int32_t index,
                         uint32_t *chosen) {
  static const int rank[] = {
      [WVK_KIND_DISCRETE] = 4, [WVK_KIND_INTEGRATED] = 3, [WVK_KIND_VIRTUAL] = 2, [WVK_KIND_SOFTWARE] = 1};
  if (count == 0) return wvk_fail(host, WVK_ERROR_NO_DEVICE, "no Vulkan driver on this machine has a device");
  if (index >= 0) {
    if ((uint32_t)index >= count)
      return wvk_fail(host, WVK_ERROR_NO_DEVICE, "no Vulkan device %d: there are %u (see: wisp devices)", index, count);
    const wvk_caps *caps = &list[index].caps;
    if (!caps->usable)
      return wvk_fail(host, WVK_ERROR_NO_DEVICE, "Vulkan device %d (%s) is too small: %s", index, caps->name, caps->why_not);
    *chosen = (uint32_t)index;
    return WVK_OK;
  }
  int best = -1;
  for (uint32_t i = 0; i < count; i++)
    if (list[i].caps.usable && (best < 0 || rank[list[i].caps.kind] > rank[list[best].caps.kind])) best = (int)i;
  if (best < 0)
    return wvk_fail(host, WVK_ERROR_NO_DEVICE, "none of %u Vulkan devices is large enough; %s: %s", count, list[0].caps.name,
                    list[0].caps.why_not);
  *chosen = (uint32_t)best;
  return WVK_OK;
}

/* Only what the caps say is switched on. */
static VkResult create_device(struct wvk_device *device) {
  const struct wvk_physical *physical = &device->physical;
  const wvk_caps *caps = &physical->caps;
  const bool use[WVK_EXT_COUNT] = {
      [WVK_EXT_FLOAT16_INT8] = caps->float16 || caps->int8,
      [WVK_EXT_STORAGE8] = caps->storage8,
      [WVK_EXT_MEMORY_MODEL] = caps->memory_model,
      [WVK_EXT_ATOMIC64] = caps->atomic64,
      [WVK_EXT_TIMELINE] = caps->timeline_semaphore,
      [WVK_EXT_SUBGROUP_SIZE] = caps->subgroup_size_control,
      [WVK_EXT_INT_DOT] = caps->int_dot,
      [WVK_EXT_CREATION_FEEDBACK] = physical->has[WVK_EXT_CREATION_FEEDBACK],
      [WVK_EXT_EXECUTABLES] = caps->pipeline_statistics,
      [WVK_EXT_PORTABILITY] = physical->has[WVK_EXT_PORTABILITY],
      [WVK_EXT_COOPERATIVE_MATRIX] = caps->cooperative_matrix,
  };
  struct wvk_features features = {
      .head.features.shaderInt64 = caps->atomic64,
      .atomic64.shaderBufferInt64Atomics = caps->atomic64,
      .storage16.storageBuffer16BitAccess = caps->storage16,
      .float16_int8.shaderFloat16 = caps->float16,
      .float16_int8.shaderInt8 = caps->int8,
      .storage8.storageBuffer8BitAccess = caps->storage8,
      .memory_model.vulkanMemoryModel = caps->memory_model,
      .memory_model.vulkanMemoryModelDeviceScope = caps->memory_model,
      .timeline.timelineSemaphore = caps->timeline_semaphore,
      .subgroup_size.subgroupSizeControl = caps->subgroup_size_control,
      .subgroup_size.computeFullSubgroups = caps->subgroup_size_control && physical->full_subgroups,
      .int_dot.shaderIntegerDotProduct = caps->int_dot,
      .executables.pipelineExecutableInfo = caps->pipeline_statistics,
      .cooperative_matrix.cooperativeMatrix = caps->cooperative_matrix,
  };
  wvk_features_chain(&features, use);
  const char *extensions[WVK_EXT_COUNT];
  uint32_t extension_count = 0;
  for (int e = 0; e < WVK_EXT_COUNT; e++) {
    bool core = wvk_extensions[e].core != 0 && physical->api_version >= wvk_extensions[e].core;
    if (use[e] && !core) extensions[extension_count++] = wvk_extensions[e].name;
  }
  const float priority = 1.0f;
  const VkDeviceQueueCreateInfo queue = {
      .sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO,
      .queueFamilyIndex = physical->queue_family,
      .queueCount = 1,
      .pQueuePriorities = &priority,
  };
  const VkDeviceCreateInfo info = {
      .sType = VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO,
      .pNext = &features.head,
      .queueCreateInfoCount = 1,
      .pQueueCreateInfos = &queue,
      .enabledExtensionCount = extension_count,
      .ppEnabledExtensionNames = extensions,
  };
  return device->instance.CreateDevice(physical->handle, &info, NULL, &device->handle);
}

/* Milliseconds since *then, which becomes now. */
static double lap(double *then) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  const double now = 1e3 * (double)t.tv_sec + 1e-6 * (double)t.tv_nsec, passed = now - *then;
  *then = now;
  return passed;
}

static wvk_status open_device(struct wvk_device *device, const wvk_device_params *params) {
  const char *variable = getenv("WISP_VALIDATE");
  bool validate = params->validate || (variable && strcmp(variable, "1") == 0);
  double then = 0;
  lap(&then);
  WVK_TRY(wvk_instance_init(&device->instance, &device->host, validate, WVK_LOG_ERROR));
  device->counters.instance_ms = lap(&then);
  struct wvk_physical *list;
  uint32_t count;
  WVK_TRY(wvk_physical_list(&device->instance, &list, &count));
  device->counters.list_ms = lap(&then);
  wvk_status status = choose(&device->host, list, count, params->index, &device->index);
  if (status == WVK_OK) device->physical = list[device->index];
  wvk_host_free(&device->host, list);
  if (status != WVK_OK) return status;

  VkResult result = create_device(device);
  if (result != VK_SUCCESS) return wvk_device_fail(device, result, "vkCreateDevice", "the device");
  wvk_load_device_table(&device->instance, &device->vk, device->handle);
  device->vk.vkGetDeviceQueue(device->handle, device->physical.queue_family, 0, &device->queue);
  const VkPipelineCacheCreateInfo info = {.sType = VK_STRUCTURE_TYPE_PIPELINE_CACHE_CREATE_INFO};
  result = device->vk.vkCreatePipelineCache(device->handle, &info, NULL, &device->cache);
  if (result != VK_SUCCESS) return wvk_device_fail(device, result, "vkCreatePipelineCache", "the device");
  device->counters.device_ms = lap(&then);
  return WVK_OK;
}

wvk_status wvk_device_create(wvk_device **result, const wvk_device_params *params) {
  *result = NULL;
  struct wvk_device *device = wvk_host_alloc(&params->host, 1, sizeof *device);
  if (!device) return wvk_fail_memory(&params->host, "Vulkan device");
  device->host = params->host;
  pthread_mutex_init(&device->queue_lock, NULL);
  pthread_mutex_init(&device->counter_lock, NULL);
  wvk_status status = open_device(device, params);
  if (status != WVK_OK) {
    wvk_device_destroy(&device);
    return status;
  }
  const wvk_caps *caps = &device->physical.caps;
  wvk_log(&device->host, WVK_LOG_INFO, "Vulkan device %u: %s (%s), tier %s", device->index, caps->name, caps->driver,
          wvk_caps_tier(caps));
  *result = device;
  return WVK_OK;
}

void wvk_device_destroy(wvk_device **pointer) {
  struct wvk_device *device = *pointer;
  if (!device) return;
  *pointer = NULL;
  if (device->handle) {
    device->vk.vkDeviceWaitIdle(device->handle);
    while (device->submissions) {
      struct wvk_submission *submission = device->submissions;
      device->submissions = submission->next;
      device->vk.vkDestroyFence(device->handle, submission->fence, NULL);
      wvk_host_free(&device->host, submission);
    }
    device->vk.vkDestroyPipelineCache(device->handle, device->cache, NULL);
    device->vk.vkDestroyDevice(device->handle, NULL);
  }
  wvk_instance_finish(&device->instance);
  pthread_mutex_destroy(&device->queue_lock);
  pthread_mutex_destroy(&device->counter_lock);
  wvk_host host = device->host;
  wvk_host_free(&host, device);
}

const wvk_caps *wvk_device_caps(const wvk_device *device) {
  return &device->physical.caps;
}

uint32_t wvk_device_index(const wvk_device *device) {
  return device->index;
}

wvk_counters wvk_device_counters(const wvk_device *device) {
  struct wvk_device *own = (struct wvk_device *)device; /* the lock is not part of what const promises */
  pthread_mutex_lock(&own->counter_lock);
  wvk_counters counters = own->counters;
  pthread_mutex_unlock(&own->counter_lock);
  counters.validation_messages = atomic_load(&own->instance.validation_messages);
  return counters;
}
