/* SPDX-License-Identifier: Apache-2.0
 * What a physical device can do: the driver's word, then lowered by WISP_CAPS. */
#include "internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const struct wvk_extension_info wvk_extensions[WVK_EXT_COUNT] = {
    [WVK_EXT_FLOAT16_INT8] = {"VK_KHR_shader_float16_int8", VK_API_VERSION_1_2},
    [WVK_EXT_STORAGE8] = {"VK_KHR_8bit_storage", VK_API_VERSION_1_2},
    [WVK_EXT_MEMORY_MODEL] = {"VK_KHR_vulkan_memory_model", VK_API_VERSION_1_2},
    [WVK_EXT_ATOMIC64] = {"VK_KHR_shader_atomic_int64", VK_API_VERSION_1_2},
    [WVK_EXT_TIMELINE] = {"VK_KHR_timeline_semaphore", VK_API_VERSION_1_2},
    [WVK_EXT_DRIVER_PROPERTIES] = {"VK_KHR_driver_properties", VK_API_VERSION_1_2},
    [WVK_EXT_SUBGROUP_SIZE] = {"VK_EXT_subgroup_size_control", VK_API_VERSION_1_3},
    [WVK_EXT_INT_DOT] = {"VK_KHR_shader_integer_dot_product", VK_API_VERSION_1_3},
    [WVK_EXT_CREATION_FEEDBACK] = {"VK_EXT_pipeline_creation_feedback", VK_API_VERSION_1_3},
    [WVK_EXT_EXECUTABLES] = {"VK_KHR_pipeline_executable_properties", 0},
    [WVK_EXT_PORTABILITY] = {"VK_KHR_portability_subset", 0},
    [WVK_EXT_COOPERATIVE_MATRIX] = {"VK_KHR_cooperative_matrix", 0},
    [WVK_EXT_CORES_NVIDIA] = {"VK_NV_shader_sm_builtins", 0},
    [WVK_EXT_CORES_AMD] = {"VK_AMD_shader_core_properties", 0},
    [WVK_EXT_CORES_ARM] = {"VK_ARM_shader_core_builtins", 0},
};

static wvk_status find_extensions(struct wvk_instance *instance, struct wvk_physical *physical) {
  uint32_t count = 0;
  VkResult result = instance->EnumerateDeviceExtensionProperties(physical->handle, NULL, &count, NULL);
  VkExtensionProperties *list = wvk_host_alloc(&instance->host, count, sizeof *list);
  if (!list) return wvk_fail_memory(&instance->host, "device extensions");
  if (result == VK_SUCCESS) result = instance->EnumerateDeviceExtensionProperties(physical->handle, NULL, &count, list);
  if (result < VK_SUCCESS) count = 0;
  for (int e = 0; e < WVK_EXT_COUNT; e++) {
    physical->has[e] = wvk_extensions[e].core != 0 && physical->api_version >= wvk_extensions[e].core;
    for (uint32_t i = 0; i < count && !physical->has[e]; i++)
      physical->has[e] = strcmp(list[i].extensionName, wvk_extensions[e].name) == 0;
  }
  wvk_host_free(&instance->host, list);
  return WVK_OK;
}

/* Puts *item at the front of the chain behind head. */
static void chain(void *head, void *item, VkStructureType type) {
  VkBaseOutStructure *first = head, *added = item;
  added->sType = type;
  added->pNext = first->pNext;
  first->pNext = added;
}

void wvk_features_chain(struct wvk_features *f, const bool has[WVK_EXT_COUNT]) {
  f->head.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2;
  f->head.pNext = NULL;
  chain(&f->head, &f->storage16, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_16BIT_STORAGE_FEATURES);
  if (has[WVK_EXT_FLOAT16_INT8])
    chain(&f->head, &f->float16_int8, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_FLOAT16_INT8_FEATURES);
  if (has[WVK_EXT_STORAGE8]) chain(&f->head, &f->storage8, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_8BIT_STORAGE_FEATURES);
  if (has[WVK_EXT_MEMORY_MODEL])
    chain(&f->head, &f->memory_model, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_MEMORY_MODEL_FEATURES);
  if (has[WVK_EXT_ATOMIC64]) chain(&f->head, &f->atomic64, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_ATOMIC_INT64_FEATURES);
  if (has[WVK_EXT_TIMELINE]) chain(&f->head, &f->timeline, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_TIMELINE_SEMAPHORE_FEATURES);
  if (has[WVK_EXT_SUBGROUP_SIZE])
    chain(&f->head, &f->subgroup_size, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_SIZE_CONTROL_FEATURES);
  if (has[WVK_EXT_INT_DOT]) chain(&f->head, &f->int_dot, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_INTEGER_DOT_PRODUCT_FEATURES);
  if (has[WVK_EXT_EXECUTABLES])
    chain(&f->head, &f->executables, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PIPELINE_EXECUTABLE_PROPERTIES_FEATURES_KHR);
  if (has[WVK_EXT_COOPERATIVE_MATRIX])
    chain(&f->head, &f->cooperative_matrix, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_COOPERATIVE_MATRIX_FEATURES_KHR);
}

static wvk_kind kind_of(VkPhysicalDeviceType type) {
  switch (type) {
  case VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU:
    return WVK_KIND_INTEGRATED;
  case VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU:
    return WVK_KIND_DISCRETE;
  case VK_PHYSICAL_DEVICE_TYPE_VIRTUAL_GPU:
    return WVK_KIND_VIRTUAL;
  case VK_PHYSICAL_DEVICE_TYPE_CPU:
    return WVK_KIND_SOFTWARE;
  default:
    return WVK_KIND_OTHER;
  }
}

static uint32_t min32(uint32_t a, uint32_t b) {
  return a < b ? a : b;
}

static void read_limits(wvk_caps *caps, const VkPhysicalDeviceProperties *properties) {
  const VkPhysicalDeviceLimits *limits = &properties->limits;
  snprintf(caps->name, sizeof caps->name, "%s", properties->deviceName);
  caps->vendor_id = properties->vendorID;
  caps->device_id = properties->deviceID;
  caps->driver_version = properties->driverVersion;
  caps->api_version = properties->apiVersion;
  caps->kind = kind_of(properties->deviceType);
  caps->max_workgroup = min32(limits->maxComputeWorkGroupInvocations, limits->maxComputeWorkGroupSize[0]);
  caps->max_groups_x = limits->maxComputeWorkGroupCount[0];
  caps->shared_memory = limits->maxComputeSharedMemorySize;
  caps->push_constants = limits->maxPushConstantsSize;
  caps->storage_buffers = limits->maxPerStageDescriptorStorageBuffers;
  caps->dynamic_storage_buffers = limits->maxDescriptorSetStorageBuffersDynamic;
  caps->max_storage_range = limits->maxStorageBufferRange;
  caps->storage_alignment = limits->minStorageBufferOffsetAlignment;
  caps->non_coherent_atom = limits->nonCoherentAtomSize;
}

/* The extended properties of a device that has Vulkan 1.1. Returns whether packed unsigned 4x8 dot products are fast. */
static bool read_properties(struct wvk_instance *instance, struct wvk_physical *physical) {
  wvk_caps *caps = &physical->caps;
  VkPhysicalDeviceProperties2 head = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2};
  VkPhysicalDeviceIDProperties id = {0};
  VkPhysicalDeviceSubgroupProperties subgroup = {0};
  VkPhysicalDeviceMaintenance3Properties maintenance3 = {0};
  VkPhysicalDeviceDriverProperties driver = {0};
  VkPhysicalDeviceSubgroupSizeControlProperties sizes = {0};
  VkPhysicalDeviceShaderIntegerDotProductProperties dot = {0};
  VkPhysicalDeviceShaderSMBuiltinsPropertiesNV nvidia = {0};
  VkPhysicalDeviceShaderCorePropertiesAMD amd = {0};
  VkPhysicalDeviceShaderCoreBuiltinsPropertiesARM arm = {0};
  chain(&head, &id, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_ID_PROPERTIES);
  chain(&head, &subgroup, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_PROPERTIES);
  chain(&head, &maintenance3, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MAINTENANCE_3_PROPERTIES);
  if (physical->has[WVK_EXT_DRIVER_PROPERTIES]) chain(&head, &driver, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_DRIVER_PROPERTIES);
  if (physical->has[WVK_EXT_SUBGROUP_SIZE])
    chain(&head, &sizes, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_SIZE_CONTROL_PROPERTIES);
  if (physical->has[WVK_EXT_INT_DOT])
    chain(&head, &dot, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_INTEGER_DOT_PRODUCT_PROPERTIES);
  if (physical->has[WVK_EXT_CORES_NVIDIA])
    chain(&head, &nvidia, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_SM_BUILTINS_PROPERTIES_NV);
  if (physical->has[WVK_EXT_CORES_AMD]) chain(&head, &amd, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_CORE_PROPERTIES_AMD);
  if (physical->has[WVK_EXT_CORES_ARM])
    chain(&head, &arm, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_CORE_BUILTINS_PROPERTIES_ARM);
  instance->GetPhysicalDeviceProperties2(physical->handle, &head);

  memcpy(caps->driver_uuid, id.driverUUID, sizeof caps->driver_uuid);
  memcpy(caps->device_uuid, id.deviceUUID, sizeof caps->device_uuid);
  snprintf(caps->driver, sizeof caps->driver, "%.120s%s%.120s", driver.driverName, driver.driverInfo[0] ? " " : "",
           driver.driverInfo);
  caps->max_allocation = maintenance3.maxMemoryAllocationSize;
  /* PowerVR Rogue advertises arithmetic at subgroup size 1. */
  bool subgroups = (subgroup.supportedStages & VK_SHADER_STAGE_COMPUTE_BIT) && subgroup.subgroupSize >= 4;
  caps->subgroup_size = caps->subgroup_min = caps->subgroup_max = subgroup.subgroupSize;
  caps->subgroup_arithmetic = subgroups && (subgroup.supportedOperations & VK_SUBGROUP_FEATURE_ARITHMETIC_BIT);
  caps->subgroup_shuffle = subgroups && (subgroup.supportedOperations & VK_SUBGROUP_FEATURE_SHUFFLE_BIT);
  if (sizes.minSubgroupSize) {
    caps->subgroup_min = sizes.minSubgroupSize;
    caps->subgroup_max = sizes.maxSubgroupSize;
  }
  caps->subgroup_size_control = sizes.requiredSubgroupSizeStages & VK_SHADER_STAGE_COMPUTE_BIT;
  caps->cores = nvidia.shaderSMCount + arm.shaderCoreCount +
                amd.shaderEngineCount * amd.shaderArraysPerEngineCount * amd.computeUnitsPerShaderArray;
  return dot.integerDotProduct4x8BitPackedUnsignedAccelerated;
}

/* docs/portability.md has where it was reported. */
static bool gets_float16_wrong(const wvk_caps *caps) {
  static const char *const names[] = {"Adreno (TM) 630", "Adreno (TM) 640", "Adreno (TM) 650"};
  for (size_t i = 0; i < sizeof names / sizeof *names; i++)
    if (strstr(caps->name, names[i])) return true;
  return false;
}

static void read_features(struct wvk_instance *instance, struct wvk_physical *physical) {
  wvk_caps *caps = &physical->caps;
  struct wvk_features features = {0};
  wvk_features_chain(&features, physical->has);
  instance->GetPhysicalDeviceFeatures2(physical->handle, &features.head);
  caps->float16 = features.float16_int8.shaderFloat16;
  caps->wrong_float16 = gets_float16_wrong(caps);
  caps->int8 = features.float16_int8.shaderInt8;
  caps->storage16 = features.storage16.storageBuffer16BitAccess;
  caps->storage8 = features.storage8.storageBuffer8BitAccess;
  caps->memory_model = features.memory_model.vulkanMemoryModel && features.memory_model.vulkanMemoryModelDeviceScope;
  caps->atomic64 = features.head.features.shaderInt64 && features.atomic64.shaderBufferInt64Atomics;
  caps->timeline_semaphore = features.timeline.timelineSemaphore;
  caps->subgroup_size_control &= features.subgroup_size.subgroupSizeControl;
  physical->full_subgroups = features.subgroup_size.computeFullSubgroups;
  caps->int_dot = features.int_dot.shaderIntegerDotProduct;
  caps->pipeline_statistics = features.executables.pipelineExecutableInfo;
  caps->cooperative_matrix = features.cooperative_matrix.cooperativeMatrix;
}

/* The shape of cooperative matrices f16 x f16 + f32 -> f32 of a subgroup, the one with the most products; without one there are
 * no cooperative matrices for us. Shaders that use them are SPIR-V 1.5 with Vulkan's memory model. */
static wvk_status read_cooperative_matrices(struct wvk_instance *instance, struct wvk_physical *physical) {
  wvk_caps *caps = &physical->caps;
  const bool possible = caps->cooperative_matrix && caps->float16 && caps->memory_model &&
                        physical->api_version >= VK_API_VERSION_1_2 &&
                        instance->GetPhysicalDeviceCooperativeMatrixPropertiesKHR;
  caps->cooperative_matrix = false;
  if (!possible) return WVK_OK;
  uint32_t count = 0;
  instance->GetPhysicalDeviceCooperativeMatrixPropertiesKHR(physical->handle, &count, NULL);
  VkCooperativeMatrixPropertiesKHR *list = wvk_host_alloc(&instance->host, count ? count : 1, sizeof *list);
  if (!list) return wvk_fail_memory(&instance->host, "cooperative matrix properties");
  for (uint32_t i = 0; i < count; i++) list[i].sType = VK_STRUCTURE_TYPE_COOPERATIVE_MATRIX_PROPERTIES_KHR;
  instance->GetPhysicalDeviceCooperativeMatrixPropertiesKHR(physical->handle, &count, list);
  uint32_t most = 0;
  for (uint32_t i = 0; i < count; i++) {
    const VkCooperativeMatrixPropertiesKHR *p = &list[i];
    const uint32_t products = p->MSize * p->NSize * p->KSize;
    if (p->AType != VK_COMPONENT_TYPE_FLOAT16_KHR || p->BType != VK_COMPONENT_TYPE_FLOAT16_KHR ||
        p->CType != VK_COMPONENT_TYPE_FLOAT32_KHR || p->ResultType != VK_COMPONENT_TYPE_FLOAT32_KHR ||
        p->scope != VK_SCOPE_SUBGROUP_KHR || p->MSize > 16 || p->NSize > 16 || p->KSize > 16 || products <= most)
      continue;
    most = products;
    caps->cooperative_matrix = true;
    caps->cooperative_m = p->MSize;
    caps->cooperative_n = p->NSize;
    caps->cooperative_k = p->KSize;
  }
  wvk_host_free(&instance->host, list);
  return WVK_OK;
}

/* Unified: the largest device-local heap has a type that the host sees, and it is the machine's own memory. */
static void read_memory(struct wvk_instance *instance, struct wvk_physical *physical) {
  wvk_caps *caps = &physical->caps;
  VkPhysicalDeviceMemoryProperties *memory = &physical->memory;
  instance->GetPhysicalDeviceMemoryProperties(physical->handle, memory);
  uint32_t largest = 0;
  for (uint32_t i = 0; i < memory->memoryHeapCount; i++) {
    const VkMemoryHeap *heap = &memory->memoryHeaps[i];
    if (!(heap->flags & VK_MEMORY_HEAP_DEVICE_LOCAL_BIT) || heap->size <= caps->device_heap) continue;
    caps->device_heap = heap->size;
    largest = i;
  }
  const VkMemoryPropertyFlags both = VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT | VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT;
  bool visible = false;
  for (uint32_t i = 0; i < memory->memoryTypeCount; i++)
    visible |= memory->memoryTypes[i].heapIndex == largest && (memory->memoryTypes[i].propertyFlags & both) == both;
  caps->unified_memory = visible && (caps->kind == WVK_KIND_INTEGRATED || caps->kind == WVK_KIND_SOFTWARE);
}

/* The first family that computes, one with timestamps if there is any. */
static wvk_status read_queues(struct wvk_instance *instance, struct wvk_physical *physical, float timestamp_period) {
  uint32_t count = 0;
  instance->GetPhysicalDeviceQueueFamilyProperties(physical->handle, &count, NULL);
  VkQueueFamilyProperties *families = wvk_host_alloc(&instance->host, count, sizeof *families);
  if (!families) return wvk_fail_memory(&instance->host, "queue families");
  instance->GetPhysicalDeviceQueueFamilyProperties(physical->handle, &count, families);
  physical->queue_family = UINT32_MAX;
  for (uint32_t i = 0; i < count; i++) {
    if (!(families[i].queueFlags & VK_QUEUE_COMPUTE_BIT)) continue;
    bool better = physical->timestamp_bits == 0 && families[i].timestampValidBits != 0;
    if (physical->queue_family != UINT32_MAX && !better) continue;
    physical->queue_family = i;
    physical->timestamp_bits = families[i].timestampValidBits;
  }
  wvk_host_free(&instance->host, families);
  if (physical->timestamp_bits != 0) physical->caps.timestamp_ns = timestamp_period;
  return WVK_OK;
}

void wvk_caps_judge(wvk_caps *caps) {
  const struct {
    const char *what;
    uint64_t value, least;
  } floor[] = {
      {"Vulkan minor version", VK_API_VERSION_MAJOR(caps->api_version) > 1 ? 9 : VK_API_VERSION_MINOR(caps->api_version), 1},
      {"invocations a workgroup", caps->max_workgroup, 256},
      {"bytes of shared memory", caps->shared_memory, 16384},
      {"bytes of push constants", caps->push_constants, 128},
      {"bytes of a storage binding", caps->max_storage_range, 128u << 20},
      {"storage buffers a stage", caps->storage_buffers, 8},
      {"dynamic storage buffers", caps->dynamic_storage_buffers, 4},
  };
  caps->usable = false;
  for (size_t i = 0; i < sizeof floor / sizeof *floor; i++) {
    if (floor[i].value >= floor[i].least) continue;
    snprintf(caps->why_not, sizeof caps->why_not, "%s: %llu, %llu needed", floor[i].what, (unsigned long long)floor[i].value,
             (unsigned long long)floor[i].least);
    return;
  }
  if (caps->storage_alignment > 256) {
    snprintf(caps->why_not, sizeof caps->why_not, "storage offset alignment: %llu, at most 256 possible",
             (unsigned long long)caps->storage_alignment);
    return;
  }
  caps->why_not[0] = '\0';
  caps->usable = true;
}

const char *wvk_caps_tier(const wvk_caps *caps) {
  if (!caps->usable) return "-";
  if (!caps->float16 || !caps->int8) return "T0";
  if (!caps->subgroup_arithmetic || caps->subgroup_size < 8) return "T1";
  bool t2 = caps->storage16 && caps->storage8 && caps->int_dot && caps->max_workgroup >= 512 && caps->shared_memory >= 32768;
  return t2 ? "T2" : "T1s";
}

static wvk_status read_physical(struct wvk_instance *instance, struct wvk_physical *physical) {
  wvk_caps *caps = &physical->caps;
  VkPhysicalDeviceProperties properties;
  instance->GetPhysicalDeviceProperties(physical->handle, &properties);
  read_limits(caps, &properties);
  memcpy(physical->cache_uuid, properties.pipelineCacheUUID, VK_UUID_SIZE);
  physical->api_version = min32(properties.apiVersion, instance->api_version);
  if (physical->api_version >= VK_API_VERSION_1_1) {
    WVK_TRY(find_extensions(instance, physical));
    bool fast_dot = read_properties(instance, physical);
    read_features(instance, physical);
    WVK_TRY(read_cooperative_matrices(instance, physical));
    read_memory(instance, physical);
    WVK_TRY(read_queues(instance, physical, properties.limits.timestampPeriod));
    wvk_caps have = *caps;
    caps->int_dot &= fast_dot; /* have keeps a slow one: +int_dot can test with it */
    WVK_TRY(wvk_caps_clamp(caps, &have, getenv("WISP_CAPS"), &instance->host));
  }
  wvk_caps_judge(caps);
  if (caps->usable && physical->queue_family == UINT32_MAX) {
    caps->usable = false;
    snprintf(caps->why_not, sizeof caps->why_not, "no queue that computes");
  }
  return WVK_OK;
}

wvk_status wvk_physical_list(struct wvk_instance *instance, struct wvk_physical **list, uint32_t *count) {
  *list = NULL;
  *count = 0;
  VkResult result = instance->EnumeratePhysicalDevices(instance->handle, count, NULL);
  if (result == VK_ERROR_INITIALIZATION_FAILED) result = VK_SUCCESS; /* the loader's word for: no driver found a device */
  if (result < VK_SUCCESS)
    return wvk_fail(&instance->host, WVK_ERROR_DRIVER, "vkEnumeratePhysicalDevices: %s", wvk_result_name(result));
  if (*count == 0) return WVK_OK;
  VkPhysicalDevice *handles = wvk_host_alloc(&instance->host, *count, sizeof *handles);
  struct wvk_physical *physicals = wvk_host_alloc(&instance->host, *count, sizeof *physicals);
  wvk_status status = handles && physicals ? WVK_OK : wvk_fail_memory(&instance->host, "device list");
  if (status == WVK_OK) instance->EnumeratePhysicalDevices(instance->handle, count, handles);
  for (uint32_t i = 0; i < *count && status == WVK_OK; i++) {
    physicals[i].handle = handles[i];
    status = read_physical(instance, &physicals[i]);
  }
  wvk_host_free(&instance->host, handles);
  if (status != WVK_OK) {
    wvk_host_free(&instance->host, physicals);
    *count = 0;
    return status;
  }
  *list = physicals;
  return WVK_OK;
}

wvk_status wvk_enumerate(const wvk_host *host, wvk_caps *caps, uint32_t capacity, uint32_t *count) {
  *count = 0;
  const wvk_host silent = {0};
  struct wvk_instance instance;
  wvk_status status = wvk_instance_init(&instance, host ? host : &silent, false, WVK_LOG_WARN);
  if (status != WVK_OK) return status == WVK_ERROR_NO_DEVICE ? WVK_OK : status;
  struct wvk_physical *list;
  status = wvk_physical_list(&instance, &list, count);
  if (status == WVK_OK && *count == 0) wvk_log(&instance.host, WVK_LOG_WARN, "no Vulkan driver on this machine has a device");
  for (uint32_t i = 0; i < *count && i < capacity; i++) caps[i] = list[i].caps;
  wvk_host_free(&instance.host, list);
  wvk_instance_finish(&instance);
  return status;
}
