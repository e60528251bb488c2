/* SPDX-License-Identifier: Apache-2.0
 * Buffers, each with memory of its own: the engine needs about ten. */
#include "internal.h"

#include <string.h>

enum {
  LOCAL = VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT,
  VISIBLE = VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT,
  COHERENT = VK_MEMORY_PROPERTY_HOST_COHERENT_BIT,
  CACHED = VK_MEMORY_PROPERTY_HOST_CACHED_BIT
};

#define WISHES 5
/* What each kind of memory would like to be, best first; 0 takes any allowed type. */
static const VkMemoryPropertyFlags wishes[][WISHES] = {
    [WVK_MEMORY_DEVICE] = {LOCAL, 0},
    [WVK_MEMORY_SHARED] = {LOCAL | VISIBLE | COHERENT, VISIBLE | COHERENT, VISIBLE},
    [WVK_MEMORY_READBACK] = {VISIBLE | CACHED | COHERENT, VISIBLE | CACHED, VISIBLE | COHERENT, VISIBLE},
    [WVK_MEMORY_STAGING] = {VISIBLE | CACHED | COHERENT, VISIBLE | COHERENT, VISIBLE},
};
static const VkMemoryPropertyFlags unified_wishes[WISHES] = {LOCAL | VISIBLE | COHERENT, LOCAL | VISIBLE, LOCAL, 0};

static bool find_type(const VkPhysicalDeviceMemoryProperties *memory, uint32_t allowed, VkMemoryPropertyFlags wish,
                      uint32_t *type) {
  const VkMemoryPropertyFlags never = VK_MEMORY_PROPERTY_PROTECTED_BIT | VK_MEMORY_PROPERTY_LAZILY_ALLOCATED_BIT;
  for (uint32_t i = 0; i < memory->memoryTypeCount; i++) {
    VkMemoryPropertyFlags flags = memory->memoryTypes[i].propertyFlags;
    if (!(allowed >> i & 1) || (flags & never) || (flags & wish) != wish) continue;
    *type = i;
    return true;
  }
  return false;
}

static bool choose_type(const struct wvk_device *device, wvk_memory kind, uint32_t allowed, uint32_t *type) {
  bool unified = kind == WVK_MEMORY_DEVICE && device->physical.caps.unified_memory;
  const VkMemoryPropertyFlags *wish = unified ? unified_wishes : wishes[kind];
  bool any = kind == WVK_MEMORY_DEVICE;
  for (int i = 0; i < WISHES; i++) {
    if (wish[i] == 0 && !any) return false;
    if (find_type(&device->physical.memory, allowed, wish[i], type)) return true;
    if (wish[i] == 0) return false;
  }
  return false;
}

static void count_allocation(struct wvk_device *device, uint64_t bytes, bool mapped) {
  pthread_mutex_lock(&device->counter_lock);
  wvk_counters *counters = &device->counters;
  counters->allocated_bytes += bytes;
  if (counters->allocated_bytes > counters->peak_allocated_bytes) counters->peak_allocated_bytes = counters->allocated_bytes;
  counters->allocations++;
  counters->maps += mapped;
  pthread_mutex_unlock(&device->counter_lock);
}

/* Handles made so far are released by the caller. */
static wvk_status allocate(struct wvk_buffer *buffer, const char *name, wvk_memory kind) {
  struct wvk_device *device = buffer->device;
  const struct VolkDeviceTable *vk = &device->vk;
  const VkBufferCreateInfo info = {
      .sType = VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO,
      .size = buffer->size,
      .usage = VK_BUFFER_USAGE_STORAGE_BUFFER_BIT | VK_BUFFER_USAGE_TRANSFER_SRC_BIT | VK_BUFFER_USAGE_TRANSFER_DST_BIT,
      .sharingMode = VK_SHARING_MODE_EXCLUSIVE,
  };
  VkResult result = vk->vkCreateBuffer(device->handle, &info, NULL, &buffer->handle);
  if (result != VK_SUCCESS) return wvk_device_fail(device, result, "vkCreateBuffer", name);
  VkMemoryRequirements needs;
  vk->vkGetBufferMemoryRequirements(device->handle, buffer->handle, &needs);
  uint32_t type;
  if (!choose_type(device, kind, needs.memoryTypeBits, &type))
    return wvk_fail(&device->host, WVK_ERROR_MEMORY, "buffer %s: the device has no memory type for it", name);
  VkMemoryPropertyFlags flags = device->physical.memory.memoryTypes[type].propertyFlags;
  buffer->coherent = flags & COHERENT;
  const VkMemoryAllocateInfo allocation = {
      .sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO,
      .allocationSize = needs.size,
      .memoryTypeIndex = type,
  };
  result = vk->vkAllocateMemory(device->handle, &allocation, NULL, &buffer->memory);
  if (result != VK_SUCCESS) {
    buffer->memory = VK_NULL_HANDLE;
    return wvk_fail(&device->host, result == VK_ERROR_DEVICE_LOST ? WVK_ERROR_LOST : WVK_ERROR_MEMORY,
                    "buffer %s: no device memory for %llu bytes (%s)", name, (unsigned long long)needs.size,
                    wvk_result_name(result));
  }
  result = vk->vkBindBufferMemory(device->handle, buffer->handle, buffer->memory, 0);
  if (result != VK_SUCCESS) return wvk_device_fail(device, result, "vkBindBufferMemory", name);

  bool mapped = (flags & VISIBLE) && (kind != WVK_MEMORY_DEVICE || device->physical.caps.unified_memory);
  if (mapped) {
    void *map;
    result = vk->vkMapMemory(device->handle, buffer->memory, 0, VK_WHOLE_SIZE, 0, &map);
    if (result != VK_SUCCESS) return wvk_device_fail(device, result, "vkMapMemory", name);
    buffer->map = map;
  }
  buffer->allocated = needs.size;
  count_allocation(device, needs.size, mapped);
  return WVK_OK;
}

wvk_status wvk_buffer_create(wvk_buffer **result, wvk_device *device, const char *name, uint64_t size, wvk_memory memory) {
  *result = NULL;
  WVK_TRY(wvk_device_check(device));
  const wvk_caps *caps = &device->physical.caps;
  if (size == 0) size = 1;
  if (size > caps->max_allocation - caps->storage_alignment)
    return wvk_fail(&device->host, WVK_ERROR_MEMORY, "buffer %s: %llu bytes, but %s allocates at most %llu at once", name,
                    (unsigned long long)size, caps->name, (unsigned long long)caps->max_allocation);
  struct wvk_buffer *buffer = wvk_host_alloc(&device->host, 1, sizeof *buffer);
  if (!buffer) return wvk_fail_memory(&device->host, name);
  buffer->device = device;
  buffer->size = (size + caps->storage_alignment - 1) / caps->storage_alignment * caps->storage_alignment;
  wvk_status status = allocate(buffer, name, memory);
  if (status != WVK_OK) {
    wvk_buffer_destroy(&buffer);
    return status;
  }
  if (memory == WVK_MEMORY_SHARED || memory == WVK_MEMORY_READBACK) {
    memset(buffer->map, 0, buffer->size);
    wvk_buffer_flush(buffer, 0, buffer->size);
  }
  *result = buffer;
  return WVK_OK;
}

void wvk_buffer_destroy(wvk_buffer **pointer) {
  struct wvk_buffer *buffer = *pointer;
  if (!buffer) return;
  *pointer = NULL;
  struct wvk_device *device = buffer->device;
  device->vk.vkDestroyBuffer(device->handle, buffer->handle, NULL);
  device->vk.vkFreeMemory(device->handle, buffer->memory, NULL); /* unmaps too */
  pthread_mutex_lock(&device->counter_lock);
  device->counters.allocated_bytes -= buffer->allocated;
  pthread_mutex_unlock(&device->counter_lock);
  wvk_host_free(&device->host, buffer);
}

uint64_t wvk_buffer_size(const wvk_buffer *buffer) {
  return buffer->size;
}

void *wvk_buffer_map(wvk_buffer *buffer) {
  return buffer->map;
}

/* The range, widened to whole non-coherent atoms. */
static VkMappedMemoryRange mapped_range(const struct wvk_buffer *buffer, uint64_t offset, uint64_t size) {
  uint64_t atom = buffer->device->physical.caps.non_coherent_atom;
  uint64_t begin = offset / atom * atom, end = (offset + size + atom - 1) / atom * atom;
  return (VkMappedMemoryRange){
      .sType = VK_STRUCTURE_TYPE_MAPPED_MEMORY_RANGE,
      .memory = buffer->memory,
      .offset = begin,
      .size = end < buffer->allocated ? end - begin : VK_WHOLE_SIZE,
  };
}

void wvk_buffer_flush(wvk_buffer *buffer, uint64_t offset, uint64_t size) {
  if (buffer->coherent || !buffer->map || size == 0) return;
  VkMappedMemoryRange range = mapped_range(buffer, offset, size);
  VkResult result = buffer->device->vk.vkFlushMappedMemoryRanges(buffer->device->handle, 1, &range);
  if (result != VK_SUCCESS) wvk_device_fail(buffer->device, result, "vkFlushMappedMemoryRanges", "a buffer");
}

void wvk_buffer_invalidate(wvk_buffer *buffer, uint64_t offset, uint64_t size) {
  if (buffer->coherent || !buffer->map || size == 0) return;
  VkMappedMemoryRange range = mapped_range(buffer, offset, size);
  VkResult result = buffer->device->vk.vkInvalidateMappedMemoryRanges(buffer->device->handle, 1, &range);
  if (result != VK_SUCCESS) wvk_device_fail(buffer->device, result, "vkInvalidateMappedMemoryRanges", "a buffer");
}
