/* SPDX-License-Identifier: Apache-2.0
 * Submitting commands and waiting for them. The commands of one submit share its fence. */
#include "internal.h"

#define SECOND UINT64_C(1000000000)
#define PATIENCE (30 * SECOND) /* between two WARN lines of an endless wait */
#define GIVE_UP 20             /* WARN lines: 10 minutes */

void wvk_submission_release(struct wvk_device *device, struct wvk_submission *submission) {
  if (!submission || --submission->references > 0) return;
  submission->next = device->submissions;
  device->submissions = submission;
}

/* A submission with an unsignalled fence and no references. */
static wvk_status take_submission(struct wvk_device *device, struct wvk_submission **result) {
  struct wvk_submission *submission = device->submissions;
  VkResult vr;
  if (submission) {
    vr = device->vk.vkResetFences(device->handle, 1, &submission->fence);
    if (vr != VK_SUCCESS) return wvk_device_fail(device, vr, "vkResetFences", "a submit");
    device->submissions = submission->next;
  } else {
    submission = wvk_host_alloc(&device->host, 1, sizeof *submission);
    if (!submission) return wvk_fail_memory(&device->host, "submission");
    const VkFenceCreateInfo info = {.sType = VK_STRUCTURE_TYPE_FENCE_CREATE_INFO};
    vr = device->vk.vkCreateFence(device->handle, &info, NULL, &submission->fence);
    if (vr != VK_SUCCESS) {
      wvk_host_free(&device->host, submission);
      return wvk_device_fail(device, vr, "vkCreateFence", "a submit");
    }
  }
  *result = submission;
  return WVK_OK;
}

static wvk_status submit_locked(struct wvk_device *device, wvk_commands *const *commands, uint32_t count,
                                const VkCommandBuffer *handles) {
  struct wvk_submission *submission = NULL;
  WVK_TRY(take_submission(device, &submission));
  const VkSubmitInfo info = {
      .sType = VK_STRUCTURE_TYPE_SUBMIT_INFO,
      .commandBufferCount = count,
      .pCommandBuffers = handles,
  };
  VkResult result = device->vk.vkQueueSubmit(device->queue, 1, &info, submission->fence);
  submission->references = 1; /* ours */
  if (result == VK_SUCCESS) {
    for (uint32_t i = 0; i < count; i++) {
      wvk_submission_release(device, commands[i]->submission);
      commands[i]->submission = submission;
      submission->references++;
    }
  }
  wvk_submission_release(device, submission);
  if (result != VK_SUCCESS) return wvk_device_fail(device, result, "vkQueueSubmit", "commands");
  return WVK_OK;
}

wvk_status wvk_submit(wvk_device *device, wvk_commands *const *commands, uint32_t count) {
  WVK_TRY(wvk_device_check(device));
  if (count == 0) return WVK_OK;
  VkCommandBuffer few[16], *handles = few;
  if (count > sizeof few / sizeof *few) handles = wvk_host_alloc(&device->host, count, sizeof *handles);
  if (!handles) return wvk_fail_memory(&device->host, "submit");
  uint64_t dispatches = 0, barriers = 0;
  for (uint32_t i = 0; i < count; i++) {
    handles[i] = commands[i]->handle;
    dispatches += commands[i]->dispatches;
    barriers += commands[i]->barriers;
  }
  pthread_mutex_lock(&device->queue_lock);
  wvk_status status = submit_locked(device, commands, count, handles);
  pthread_mutex_unlock(&device->queue_lock);
  if (handles != few) wvk_host_free(&device->host, handles);
  if (status != WVK_OK) return status;
  pthread_mutex_lock(&device->counter_lock);
  device->counters.submits++;
  device->counters.dispatches += dispatches;
  device->counters.barriers += barriers;
  pthread_mutex_unlock(&device->counter_lock);
  return WVK_OK;
}

wvk_status wvk_wait(wvk_commands *commands, uint64_t timeout_ns) {
  struct wvk_device *device = commands->device;
  WVK_TRY(wvk_device_check(device));
  if (!commands->submission) return WVK_OK;
  VkFence fence = commands->submission->fence; /* not reused while commands refers to the submission */
  bool endless = timeout_ns == UINT64_MAX;
  VkResult result;
  for (int warnings = 1;; warnings++) {
    result = device->vk.vkWaitForFences(device->handle, 1, &fence, VK_TRUE, endless ? PATIENCE : timeout_ns);
    if (result != VK_TIMEOUT || !endless) break;
    wvk_log(&device->host, WVK_LOG_WARN, "%s has not finished after %d s", device->physical.caps.name, warnings * 30);
    if (warnings == GIVE_UP) {
      result = VK_ERROR_DEVICE_LOST;
      break;
    }
  }
  if (result == VK_TIMEOUT) return WVK_TIMEOUT;
  if (result != VK_SUCCESS) return wvk_device_fail(device, result, "vkWaitForFences", "commands");
  return WVK_OK;
}
