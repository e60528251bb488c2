/* SPDX-License-Identifier: Apache-2.0
 * Recorded commands: a pool and a command buffer each, recorded once and submitted again and again. */
#include <string.h>

#include "internal.h"

wvk_status wvk_commands_create(wvk_commands **result, wvk_device *device, uint32_t timestamps) {
  *result = NULL;
  WVK_TRY(wvk_device_check(device));
  struct wvk_commands *commands = wvk_host_alloc(&device->host, 1, sizeof *commands);
  if (!commands) return wvk_fail_memory(&device->host, "commands");
  commands->device = device;
  const VkCommandPoolCreateInfo pool_info = {
      .sType = VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO,
      .queueFamilyIndex = device->physical.queue_family,
  };
  VkResult vr = device->vk.vkCreateCommandPool(device->handle, &pool_info, NULL, &commands->pool);
  if (vr == VK_SUCCESS) {
    const VkCommandBufferAllocateInfo info = {
        .sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO,
        .commandPool = commands->pool,
        .level = VK_COMMAND_BUFFER_LEVEL_PRIMARY,
        .commandBufferCount = 1,
    };
    vr = device->vk.vkAllocateCommandBuffers(device->handle, &info, &commands->handle);
  }
  if (vr == VK_SUCCESS && timestamps > 0 && device->physical.caps.timestamp_ns > 0) {
    const VkQueryPoolCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_QUERY_POOL_CREATE_INFO,
        .queryType = VK_QUERY_TYPE_TIMESTAMP,
        .queryCount = timestamps,
    };
    commands->timestamps = timestamps;
    vr = device->vk.vkCreateQueryPool(device->handle, &info, NULL, &commands->queries);
  }
  if (vr != VK_SUCCESS) {
    wvk_commands_destroy(&commands);
    return wvk_device_fail(device, vr, "vkAllocateCommandBuffers", "a commands object");
  }
  *result = commands;
  return WVK_OK;
}

void wvk_commands_destroy(wvk_commands **pointer) {
  struct wvk_commands *commands = *pointer;
  if (!commands) return;
  *pointer = NULL;
  struct wvk_device *device = commands->device;
  pthread_mutex_lock(&device->queue_lock);
  wvk_submission_release(device, commands->submission);
  pthread_mutex_unlock(&device->queue_lock);
  device->vk.vkDestroyQueryPool(device->handle, commands->queries, NULL);
  device->vk.vkDestroyCommandPool(device->handle, commands->pool, NULL); /* frees the command buffer too */
  wvk_host_free(&device->host, commands);
}

wvk_status wvk_commands_begin(wvk_commands *commands) {
  struct wvk_device *device = commands->device;
  WVK_TRY(wvk_device_check(device));
  commands->dispatches = commands->barriers = 0;
  commands->bound = NULL;
  VkResult result = device->vk.vkResetCommandPool(device->handle, commands->pool, 0);
  const VkCommandBufferBeginInfo info = {.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO};
  if (result == VK_SUCCESS) result = device->vk.vkBeginCommandBuffer(commands->handle, &info);
  if (result != VK_SUCCESS) return wvk_device_fail(device, result, "vkBeginCommandBuffer", "a commands object");
  if (commands->queries) device->vk.vkCmdResetQueryPool(commands->handle, commands->queries, 0, commands->timestamps);
  return WVK_OK;
}

static void memory_barrier(struct wvk_commands *commands, VkPipelineStageFlags from, VkPipelineStageFlags to,
                           VkAccessFlags access) {
  const VkMemoryBarrier barrier = {.sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER, .srcAccessMask = access, .dstAccessMask = access};
  commands->device->vk.vkCmdPipelineBarrier(commands->handle, from, to, 0, 1, &barrier, 0, NULL, 0, NULL);
}

static const VkPipelineStageFlags work = VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT | VK_PIPELINE_STAGE_TRANSFER_BIT;
static const VkAccessFlags any_access = VK_ACCESS_MEMORY_READ_BIT | VK_ACCESS_MEMORY_WRITE_BIT;

wvk_status wvk_commands_end(wvk_commands *commands) {
  struct wvk_device *device = commands->device;
  memory_barrier(commands, work, work | VK_PIPELINE_STAGE_HOST_BIT, any_access);
  VkResult result = device->vk.vkEndCommandBuffer(commands->handle);
  if (result != VK_SUCCESS) return wvk_device_fail(device, result, "vkEndCommandBuffer", "a commands object");
  return WVK_OK;
}

void wvk_cmd_bind_pipeline(wvk_commands *commands, const wvk_pipeline *pipeline) {
  commands->device->vk.vkCmdBindPipeline(commands->handle, VK_PIPELINE_BIND_POINT_COMPUTE, pipeline->handle);
}

void wvk_cmd_bind_set(wvk_commands *commands, const wvk_set *set, const uint32_t *dynamic_offsets) {
  const size_t bytes = set->dynamic_count * sizeof *dynamic_offsets;
  if (commands->bound == set && !memcmp(commands->bound_offsets, dynamic_offsets, bytes)) return;
  commands->bound = set;
  memcpy(commands->bound_offsets, dynamic_offsets, bytes);
  commands->device->vk.vkCmdBindDescriptorSets(commands->handle, VK_PIPELINE_BIND_POINT_COMPUTE, set->pipeline_layout, 0, 1,
                                               &set->handle, set->dynamic_count, dynamic_offsets);
}

void wvk_cmd_push(wvk_commands *commands, const wvk_layout *layout, const void *data, uint32_t bytes) {
  commands->device->vk.vkCmdPushConstants(commands->handle, layout->pipeline_layout, VK_SHADER_STAGE_COMPUTE_BIT, 0, bytes,
                                          data);
}

void wvk_cmd_dispatch(wvk_commands *commands, uint32_t groups_x, uint32_t groups_y, uint32_t groups_z) {
  commands->dispatches++;
  commands->device->vk.vkCmdDispatch(commands->handle, groups_x, groups_y, groups_z);
}

void wvk_cmd_barrier(wvk_commands *commands) {
  commands->barriers++;
  memory_barrier(commands, VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT, VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT,
                 VK_ACCESS_SHADER_READ_BIT | VK_ACCESS_SHADER_WRITE_BIT);
}

void wvk_cmd_transfer_barrier(wvk_commands *commands) {
  commands->barriers++;
  memory_barrier(commands, work, work, any_access);
}

void wvk_cmd_copy(wvk_commands *commands, wvk_buffer *from, uint64_t from_offset, wvk_buffer *to, uint64_t to_offset,
                  uint64_t size) {
  const VkBufferCopy region = {from_offset, to_offset, size};
  commands->device->vk.vkCmdCopyBuffer(commands->handle, from->handle, to->handle, 1, &region);
}

void wvk_cmd_fill(wvk_commands *commands, wvk_buffer *buffer, uint64_t offset, uint64_t size, uint32_t word) {
  commands->device->vk.vkCmdFillBuffer(commands->handle, buffer->handle, offset, size, word);
}

void wvk_cmd_timestamp(wvk_commands *commands, uint32_t slot) {
  if (slot < commands->timestamps)
    commands->device->vk.vkCmdWriteTimestamp(commands->handle, VK_PIPELINE_STAGE_BOTTOM_OF_PIPE_BIT, commands->queries, slot);
}

uint32_t wvk_commands_dispatches(const wvk_commands *commands) {
  return commands->dispatches;
}

uint32_t wvk_commands_barriers(const wvk_commands *commands) {
  return commands->barriers;
}

bool wvk_commands_times(wvk_commands *commands, double *ns) {
  struct wvk_device *device = commands->device;
  if (!commands->queries || !commands->submission || wvk_device_check(device) != WVK_OK) return false;
  uint32_t bits = device->physical.timestamp_bits;
  uint64_t mask = bits < 64 ? (UINT64_C(1) << bits) - 1 : UINT64_MAX, first = 0;
  for (uint32_t i = 0; i < commands->timestamps; i++) {
    uint64_t ticks;
    VkResult result = device->vk.vkGetQueryPoolResults(device->handle, commands->queries, i, 1, sizeof ticks, &ticks,
                                                       sizeof ticks, VK_QUERY_RESULT_64_BIT);
    if (result != VK_SUCCESS) return false; /* not written, or a driver that keeps no results */
    if (i == 0) first = ticks;
    ns[i] = (double)((ticks - first) & mask) * device->physical.caps.timestamp_ns;
  }
  return true;
}
