/* SPDX-License-Identifier: Apache-2.0
 * Layouts of storage buffers and push constants, and descriptor sets written once. */
#include "internal.h"

wvk_status wvk_layout_create(wvk_layout **result, wvk_device *device, uint32_t count, uint32_t dynamic_mask,
                             uint32_t push_bytes) {
  *result = NULL;
  WVK_TRY(wvk_device_check(device));
  const wvk_caps *caps = &device->physical.caps;
  uint32_t dynamic_count = 0;
  VkDescriptorSetLayoutBinding bindings[WVK_MAX_BINDINGS] = {0};
  for (uint32_t i = 0; i < count && i < WVK_MAX_BINDINGS; i++) {
    bool dynamic = dynamic_mask >> i & 1;
    dynamic_count += dynamic;
    bindings[i] = (VkDescriptorSetLayoutBinding){
        .binding = i,
        .descriptorType = dynamic ? VK_DESCRIPTOR_TYPE_STORAGE_BUFFER_DYNAMIC : VK_DESCRIPTOR_TYPE_STORAGE_BUFFER,
        .descriptorCount = 1,
        .stageFlags = VK_SHADER_STAGE_COMPUTE_BIT,
    };
  }
  if (count > WVK_MAX_BINDINGS || count > caps->storage_buffers || dynamic_count > caps->dynamic_storage_buffers ||
      push_bytes > caps->push_constants)
    return wvk_fail(&device->host, WVK_ERROR_DRIVER,
                    "layout of %u storage buffers (%u dynamic) and %u bytes of push constants: %s has %u (%u) and %u", count,
                    dynamic_count, push_bytes, caps->name, caps->storage_buffers, caps->dynamic_storage_buffers,
                    caps->push_constants);
  struct wvk_layout *layout = wvk_host_alloc(&device->host, 1, sizeof *layout);
  if (!layout) return wvk_fail_memory(&device->host, "layout");
  *layout = (struct wvk_layout){
      .device = device, .count = count, .dynamic_mask = dynamic_mask, .dynamic_count = dynamic_count, .push_bytes = push_bytes};
  const VkDescriptorSetLayoutCreateInfo set_info = {
      .sType = VK_STRUCTURE_TYPE_DESCRIPTOR_SET_LAYOUT_CREATE_INFO,
      .bindingCount = count,
      .pBindings = bindings,
  };
  VkResult vr = device->vk.vkCreateDescriptorSetLayout(device->handle, &set_info, NULL, &layout->set_layout);
  if (vr == VK_SUCCESS) {
    const VkPushConstantRange push = {.stageFlags = VK_SHADER_STAGE_COMPUTE_BIT, .size = push_bytes};
    const VkPipelineLayoutCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_PIPELINE_LAYOUT_CREATE_INFO,
        .setLayoutCount = 1,
        .pSetLayouts = &layout->set_layout,
        .pushConstantRangeCount = push_bytes ? 1 : 0,
        .pPushConstantRanges = &push,
    };
    vr = device->vk.vkCreatePipelineLayout(device->handle, &info, NULL, &layout->pipeline_layout);
  }
  if (vr != VK_SUCCESS) {
    wvk_layout_destroy(&layout);
    return wvk_device_fail(device, vr, "vkCreatePipelineLayout", "a layout");
  }
  *result = layout;
  return WVK_OK;
}

void wvk_layout_destroy(wvk_layout **pointer) {
  struct wvk_layout *layout = *pointer;
  if (!layout) return;
  *pointer = NULL;
  struct wvk_device *device = layout->device;
  device->vk.vkDestroyPipelineLayout(device->handle, layout->pipeline_layout, NULL);
  device->vk.vkDestroyDescriptorSetLayout(device->handle, layout->set_layout, NULL);
  wvk_host_free(&device->host, layout);
}

static wvk_status check_binding(struct wvk_device *device, uint32_t i, const wvk_binding *binding) {
  const wvk_caps *caps = &device->physical.caps;
  uint64_t size = binding->buffer->size;
  bool inside = binding->offset <= size && binding->range <= size - binding->offset && binding->range > 0;
  if (inside && binding->range <= caps->max_storage_range && binding->offset % caps->storage_alignment == 0) return WVK_OK;
  return wvk_fail(&device->host, WVK_ERROR_DRIVER,
                  "binding %u: %llu bytes at %llu of a buffer of %llu; %s binds at most %llu, offsets aligned to %llu", i,
                  (unsigned long long)binding->range, (unsigned long long)binding->offset, (unsigned long long)size, caps->name,
                  (unsigned long long)caps->max_storage_range, (unsigned long long)caps->storage_alignment);
}

static VkResult allocate_set(struct wvk_set *set, const struct wvk_layout *layout) {
  struct wvk_device *device = layout->device;
  const VkDescriptorPoolSize sizes[] = {
      {VK_DESCRIPTOR_TYPE_STORAGE_BUFFER, layout->count + 1}, /* a pool size may not be 0 */
      {VK_DESCRIPTOR_TYPE_STORAGE_BUFFER_DYNAMIC, layout->dynamic_count + 1},
  };
  const VkDescriptorPoolCreateInfo pool_info = {
      .sType = VK_STRUCTURE_TYPE_DESCRIPTOR_POOL_CREATE_INFO,
      .maxSets = 1,
      .poolSizeCount = 2,
      .pPoolSizes = sizes,
  };
  VkResult result = device->vk.vkCreateDescriptorPool(device->handle, &pool_info, NULL, &set->pool);
  if (result != VK_SUCCESS) return result;
  const VkDescriptorSetAllocateInfo info = {
      .sType = VK_STRUCTURE_TYPE_DESCRIPTOR_SET_ALLOCATE_INFO,
      .descriptorPool = set->pool,
      .descriptorSetCount = 1,
      .pSetLayouts = &layout->set_layout,
  };
  return device->vk.vkAllocateDescriptorSets(device->handle, &info, &set->handle);
}

wvk_status wvk_set_create(wvk_set **result, wvk_layout *layout, const wvk_binding *bindings) {
  *result = NULL;
  struct wvk_device *device = layout->device;
  WVK_TRY(wvk_device_check(device));
  VkDescriptorBufferInfo buffers[WVK_MAX_BINDINGS];
  VkWriteDescriptorSet writes[WVK_MAX_BINDINGS];
  for (uint32_t i = 0; i < layout->count; i++) WVK_TRY(check_binding(device, i, &bindings[i]));
  struct wvk_set *set = wvk_host_alloc(&device->host, 1, sizeof *set);
  if (!set) return wvk_fail_memory(&device->host, "descriptor set");
  set->device = device;
  set->pipeline_layout = layout->pipeline_layout;
  set->dynamic_count = layout->dynamic_count;
  VkResult vr = allocate_set(set, layout);
  if (vr != VK_SUCCESS) {
    wvk_set_destroy(&set);
    return wvk_device_fail(device, vr, "vkAllocateDescriptorSets", "a set");
  }
  for (uint32_t i = 0; i < layout->count; i++) {
    bool dynamic = layout->dynamic_mask >> i & 1;
    buffers[i] = (VkDescriptorBufferInfo){bindings[i].buffer->handle, bindings[i].offset, bindings[i].range};
    writes[i] = (VkWriteDescriptorSet){
        .sType = VK_STRUCTURE_TYPE_WRITE_DESCRIPTOR_SET,
        .dstSet = set->handle,
        .dstBinding = i,
        .descriptorCount = 1,
        .descriptorType = dynamic ? VK_DESCRIPTOR_TYPE_STORAGE_BUFFER_DYNAMIC : VK_DESCRIPTOR_TYPE_STORAGE_BUFFER,
        .pBufferInfo = &buffers[i],
    };
  }
  device->vk.vkUpdateDescriptorSets(device->handle, layout->count, writes, 0, NULL);
  pthread_mutex_lock(&device->counter_lock);
  device->counters.descriptor_writes += layout->count;
  pthread_mutex_unlock(&device->counter_lock);
  *result = set;
  return WVK_OK;
}

void wvk_set_destroy(wvk_set **pointer) {
  struct wvk_set *set = *pointer;
  if (!set) return;
  *pointer = NULL;
  struct wvk_device *device = set->device;
  device->vk.vkDestroyDescriptorPool(device->handle, set->pool, NULL); /* frees the set too */
  wvk_host_free(&device->host, set);
}
