/* SPDX-License-Identifier: Apache-2.0
 * The KV cache to the host and back, through staging of at most WVK_UPLOAD_CHUNK bytes. On the device a slot is
 * [context] rows as on the CPU, and slot_bytes from the next. */
#include <string.h>

#include "gpu/executor.h"

static uint64_t min_u64(uint64_t a, uint64_t b) {
  return a < b ? a : b;
}

static uint64_t row_bytes(const gpu_timeline *t) {
  return wisp_plan_kv_row_bytes(t->executor->plan, t->base.kv_type);
}

/* Bytes [done, done + used) of the packed rows into staging; used <= its size. */
static wisp_status fetch(gpu_timeline *t, wvk_commands *commands, wvk_buffer *staging, uint64_t done, uint64_t used) {
  const uint64_t slot = t->base.length * row_bytes(t);
  WISP_GPU_TRY(wvk_commands_begin(commands));
  wvk_cmd_transfer_barrier(commands);
  for (uint64_t filled = 0; filled < used;) {
    const uint64_t at = (done + filled) % slot, part = min_u64(used - filled, slot - at);
    wvk_cmd_copy(commands, t->kv, (done + filled) / slot * t->slot_bytes + at, staging, filled, part);
    filled += part;
  }
  WISP_GPU_TRY(wvk_commands_end(commands));
  WISP_GPU_TRY(wvk_submit(t->executor->device, &commands, 1));
  WISP_GPU_TRY(wvk_wait(commands, UINT64_MAX));
  wvk_buffer_invalidate(staging, 0, used);
  return WISP_OK;
}

wisp_status wisp_gpu_kv_read(wisp_timeline *timeline, wisp_output_fn write, void *user) {
  gpu_timeline *t = (gpu_timeline *)timeline;
  const uint64_t total = timeline->length * row_bytes(t) * t->executor->plan->kv_slots;
  const uint64_t room = min_u64(total, WVK_UPLOAD_CHUNK);
  WISP_TRY(wisp_gpu_decode_settle(t));
  if (!total) return WISP_OK;
  wvk_buffer *staging = NULL;
  wvk_commands *commands = NULL;
  wisp_status status = wisp_gpu_status(
      wvk_buffer_create(&staging, t->executor->device, "KV staging", room, WVK_MEMORY_READBACK));
  if (status == WISP_OK) status = wisp_gpu_status(wvk_commands_create(&commands, t->executor->device, 0));
  for (uint64_t done = 0; done < total && status == WISP_OK; done += room) {
    const uint64_t used = min_u64(room, total - done);
    status = fetch(t, commands, staging, done, used);
    if (status == WISP_OK && !write(user, wvk_buffer_map(staging), (size_t)used)) status = WISP_ERROR_IO;
  }
  wvk_commands_destroy(&commands);
  wvk_buffer_destroy(&staging);
  return status;
}

wisp_status wisp_gpu_kv_write(wisp_timeline *timeline, uint32_t length, const uint8_t *rows) {
  gpu_timeline *t = (gpu_timeline *)timeline;
  const uint64_t slot = length * row_bytes(t);
  wvk_uploader *uploader = NULL;
  WISP_TRY(wisp_gpu_decode_settle(t));
  wvk_status status = wvk_uploader_create(&uploader, t->executor->device, 1);
  timeline->length = 0;
  for (uint32_t i = 0; i < t->executor->plan->kv_slots; i++)
    for (uint64_t done = 0; done < slot && status == WVK_OK;) {
      const uint64_t part = min_u64(slot - done, WVK_UPLOAD_CHUNK);
      void *pointer;
      status = wvk_uploader_map(uploader, 0, t->kv, i * t->slot_bytes + done, part, &pointer);
      if (status == WVK_OK) memcpy(pointer, rows + i * slot + done, part);
      done += part;
    }
  if (status == WVK_OK) status = wvk_uploader_finish(uploader);
  wvk_uploader_destroy(&uploader);
  if (status == WVK_OK) timeline->length = length;
  return wisp_gpu_status(status);
}
