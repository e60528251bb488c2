/* SPDX-License-Identifier: Apache-2.0
 * Compute pipelines, and what the driver tells of them. */
#include "internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* A driver that refuses a pipeline is no disaster: WARN. Memory and device loss are. */
static wvk_status refuse(struct wvk_device *device, const char *name, const char *why, VkResult result) {
  if (result == VK_ERROR_DEVICE_LOST || result == VK_ERROR_OUT_OF_HOST_MEMORY || result == VK_ERROR_OUT_OF_DEVICE_MEMORY)
    return wvk_device_fail(device, result, why, name);
  wvk_log(&device->host, WVK_LOG_WARN, "pipeline %s: %s on %s%s%s", name, why, device->physical.caps.name,
          result == VK_SUCCESS ? "" : ": ", result == VK_SUCCESS ? "" : wvk_result_name(result));
  return WVK_ERROR_DRIVER;
}

static wvk_status check_params(struct wvk_device *device, const wvk_pipeline_params *params) {
  const wvk_caps *caps = &device->physical.caps;
  if (params->constant_count > WVK_MAX_CONSTANTS) return refuse(device, params->name, "too many constants", VK_SUCCESS);
  if (params->constant_count > 0 && (params->constants[0] == 0 || params->constants[0] > caps->max_workgroup))
    return refuse(device, params->name, "workgroup size (constant 0) not possible", VK_SUCCESS);
  if (params->subgroup_size == 0) return WVK_OK;
  if (!caps->subgroup_size_control || params->subgroup_size < caps->subgroup_min || params->subgroup_size > caps->subgroup_max)
    return refuse(device, params->name, "required subgroup size not possible", VK_SUCCESS);
  return WVK_OK;
}

static VkResult create_pipeline(struct wvk_pipeline *pipeline, const struct wvk_layout *layout,
                                const wvk_pipeline_params *params, VkShaderModule module, bool *from_cache) {
  struct wvk_device *device = pipeline->device;
  VkSpecializationMapEntry entries[WVK_MAX_CONSTANTS];
  for (uint32_t i = 0; i < params->constant_count; i++) entries[i] = (VkSpecializationMapEntry){i, i * 4, 4};
  const VkSpecializationInfo constants = {
      .mapEntryCount = params->constant_count,
      .pMapEntries = entries,
      .dataSize = params->constant_count * 4,
      .pData = params->constants,
  };
  const VkPipelineShaderStageRequiredSubgroupSizeCreateInfo subgroup = {
      .sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_REQUIRED_SUBGROUP_SIZE_CREATE_INFO,
      .requiredSubgroupSize = params->subgroup_size,
  };
  bool full = params->subgroup_size != 0 && device->physical.full_subgroups && params->constant_count > 0 &&
              params->constants[0] % params->subgroup_size == 0;
  VkPipelineCreationFeedback feedback = {0}, stage_feedback = {0};
  const VkPipelineCreationFeedbackCreateInfo feedback_info = {
      .sType = VK_STRUCTURE_TYPE_PIPELINE_CREATION_FEEDBACK_CREATE_INFO,
      .pPipelineCreationFeedback = &feedback,
      .pipelineStageCreationFeedbackCount = 1,
      .pPipelineStageCreationFeedbacks = &stage_feedback,
  };
  const VkComputePipelineCreateInfo info = {
      .sType = VK_STRUCTURE_TYPE_COMPUTE_PIPELINE_CREATE_INFO,
      .pNext = device->physical.has[WVK_EXT_CREATION_FEEDBACK] ? &feedback_info : NULL,
      .flags = pipeline->statistics ? VK_PIPELINE_CREATE_CAPTURE_STATISTICS_BIT_KHR : 0,
      .stage =
          {
              .sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_CREATE_INFO,
              .pNext = params->subgroup_size ? &subgroup : NULL,
              .flags = full ? VK_PIPELINE_SHADER_STAGE_CREATE_REQUIRE_FULL_SUBGROUPS_BIT : 0,
              .stage = VK_SHADER_STAGE_COMPUTE_BIT,
              .module = module,
              .pName = "main",
              .pSpecializationInfo = &constants,
          },
      .layout = layout->pipeline_layout,
  };
  const VkPipelineCache cache = params->passing ? VK_NULL_HANDLE : device->cache;
  VkResult result = device->vk.vkCreateComputePipelines(device->handle, cache, 1, &info, NULL, &pipeline->handle);
  const VkPipelineCreationFeedbackFlags hit = VK_PIPELINE_CREATION_FEEDBACK_VALID_BIT |
                                              VK_PIPELINE_CREATION_FEEDBACK_APPLICATION_PIPELINE_CACHE_HIT_BIT;
  *from_cache = (feedback.flags & hit) == hit;
  return result;
}

wvk_status wvk_pipeline_create(wvk_pipeline **result, wvk_layout *layout, const wvk_pipeline_params *params) {
  *result = NULL;
  struct wvk_device *device = layout->device;
  WVK_TRY(wvk_device_check(device));
  WVK_TRY(check_params(device, params));
  struct wvk_pipeline *pipeline = wvk_host_alloc(&device->host, 1, sizeof *pipeline);
  if (!pipeline) return wvk_fail_memory(&device->host, params->name);
  pipeline->device = device;
  pipeline->statistics = params->statistics && device->physical.caps.pipeline_statistics;
  snprintf(pipeline->name, sizeof pipeline->name, "%s", params->name);
  pthread_mutex_lock(&device->counter_lock);
  device->cache_used = true;
  pthread_mutex_unlock(&device->counter_lock);

  const VkShaderModuleCreateInfo info = {
      .sType = VK_STRUCTURE_TYPE_SHADER_MODULE_CREATE_INFO,
      .codeSize = params->spirv_bytes,
      .pCode = params->spirv,
  };
  VkShaderModule module;
  bool from_cache = false;
  const char *call = "vkCreateShaderModule";
  VkResult vr = device->vk.vkCreateShaderModule(device->handle, &info, NULL, &module);
  if (vr == VK_SUCCESS) {
    call = "vkCreateComputePipelines";
    vr = create_pipeline(pipeline, layout, params, module, &from_cache);
    device->vk.vkDestroyShaderModule(device->handle, module, NULL);
  }
  if (vr != VK_SUCCESS) {
    pipeline->handle = VK_NULL_HANDLE;
    wvk_pipeline_destroy(&pipeline);
    return refuse(device, params->name, call, vr);
  }
  if (!from_cache) {
    pthread_mutex_lock(&device->counter_lock);
    device->counters.pipelines_built++;
    pthread_mutex_unlock(&device->counter_lock);
  }
  *result = pipeline;
  return WVK_OK;
}

void wvk_pipeline_destroy(wvk_pipeline **pointer) {
  struct wvk_pipeline *pipeline = *pointer;
  if (!pipeline) return;
  *pointer = NULL;
  struct wvk_device *device = pipeline->device;
  device->vk.vkDestroyPipeline(device->handle, pipeline->handle, NULL);
  wvk_host_free(&device->host, pipeline);
}

const char *wvk_pipeline_name(const wvk_pipeline *pipeline) {
  return pipeline->name;
}

/* ---- Statistics ------------------------------------------------------------------------------------------------------ */

struct text {
  char *start;
  size_t capacity, length; /* length of the whole, also where it does not fit */
};

static void append(struct text *text, const char *name, VkPipelineExecutableStatisticFormatKHR format,
                   VkPipelineExecutableStatisticValueKHR value) {
  char item[VK_MAX_DESCRIPTION_SIZE + 64];
  const char *separator = text->length ? "; " : "";
  int length = 0;
  switch (format) {
  case VK_PIPELINE_EXECUTABLE_STATISTIC_FORMAT_BOOL32_KHR:
    length = snprintf(item, sizeof item, "%s%s=%s", separator, name, value.b32 ? "true" : "false");
    break;
  case VK_PIPELINE_EXECUTABLE_STATISTIC_FORMAT_INT64_KHR:
    length = snprintf(item, sizeof item, "%s%s=%" PRId64, separator, name, value.i64);
    break;
  case VK_PIPELINE_EXECUTABLE_STATISTIC_FORMAT_UINT64_KHR:
    length = snprintf(item, sizeof item, "%s%s=%" PRIu64, separator, name, value.u64);
    break;
  default:
    length = snprintf(item, sizeof item, "%s%s=%g", separator, name, value.f64);
    break;
  }
  for (int i = 0; i < length; i++, text->length++)
    if (text->length + 1 < text->capacity) text->start[text->length] = item[i];
}

static void append_executable(struct text *text, const struct wvk_pipeline *pipeline, uint32_t index) {
  struct wvk_device *device = pipeline->device;
  const VkPipelineExecutableInfoKHR info = {
      .sType = VK_STRUCTURE_TYPE_PIPELINE_EXECUTABLE_INFO_KHR, .pipeline = pipeline->handle, .executableIndex = index};
  uint32_t count = 0;
  if (device->vk.vkGetPipelineExecutableStatisticsKHR(device->handle, &info, &count, NULL) != VK_SUCCESS) return;
  VkPipelineExecutableStatisticKHR *list = wvk_host_alloc(&device->host, count, sizeof *list);
  if (!list) return;
  for (uint32_t i = 0; i < count; i++) list[i].sType = VK_STRUCTURE_TYPE_PIPELINE_EXECUTABLE_STATISTIC_KHR;
  if (device->vk.vkGetPipelineExecutableStatisticsKHR(device->handle, &info, &count, list) < VK_SUCCESS) count = 0;
  for (uint32_t i = 0; i < count; i++) append(text, list[i].name, list[i].format, list[i].value);
  wvk_host_free(&device->host, list);
}

size_t wvk_pipeline_statistics(const wvk_pipeline *pipeline, char *start, size_t capacity) {
  struct text text = {.start = start, .capacity = capacity};
  struct wvk_device *device = pipeline->device;
  uint32_t count = 0;
  const VkPipelineInfoKHR info = {.sType = VK_STRUCTURE_TYPE_PIPELINE_INFO_KHR, .pipeline = pipeline->handle};
  if (pipeline->statistics) device->vk.vkGetPipelineExecutablePropertiesKHR(device->handle, &info, &count, NULL);
  for (uint32_t i = 0; i < count; i++) append_executable(&text, pipeline, i);
  if (capacity > 0) start[text.length < capacity ? text.length : capacity - 1] = '\0';
  return text.length;
}
