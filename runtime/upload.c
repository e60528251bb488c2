/* SPDX-License-Identifier: Apache-2.0
 * Filling device buffers: in place where the host sees them, else through two staging chunks in turn. */
#include "internal.h"

#define CHUNKS 2
#define STAGING_ALIGNMENT 16 /* of pieces inside a chunk */

struct chunk {
  wvk_buffer *staging;
  wvk_commands *commands;
  uint64_t used; /* bytes; 0 = not recording */
};

struct wvk_uploader {
  struct wvk_device *device;
  struct chunk chunks[CHUNKS];
  uint32_t current;
  /* The piece in a mapped buffer that the caller is writing. */
  wvk_buffer *open;
  uint64_t open_offset, open_size;
};

wvk_status wvk_uploader_create(wvk_uploader **result, wvk_device *device) {
  *result = NULL;
  WVK_TRY(wvk_device_check(device));
  struct wvk_uploader *uploader = wvk_host_alloc(&device->host, 1, sizeof *uploader);
  if (!uploader) return wvk_fail_memory(&device->host, "uploader");
  uploader->device = device;
  *result = uploader;
  return WVK_OK;
}

static void close_piece(struct wvk_uploader *uploader) {
  if (uploader->open) wvk_buffer_flush(uploader->open, uploader->open_offset, uploader->open_size);
  uploader->open = NULL;
}

static wvk_status submit_chunk(struct wvk_uploader *uploader, struct chunk *chunk) {
  if (chunk->used == 0) return WVK_OK;
  wvk_buffer_flush(chunk->staging, 0, chunk->used);
  chunk->used = 0;
  WVK_TRY(wvk_commands_end(chunk->commands));
  return wvk_submit(uploader->device, &chunk->commands, 1);
}

/* Makes chunk ready to take pieces: its last copies are done. Staging is allocated when first needed. */
static wvk_status begin_chunk(struct wvk_uploader *uploader, struct chunk *chunk) {
  if (!chunk->staging)
    WVK_TRY(wvk_buffer_create(&chunk->staging, uploader->device, "staging", WVK_UPLOAD_CHUNK, WVK_MEMORY_SHARED));
  if (!chunk->commands) WVK_TRY(wvk_commands_create(&chunk->commands, uploader->device, 0));
  WVK_TRY(wvk_wait(chunk->commands, UINT64_MAX));
  return wvk_commands_begin(chunk->commands);
}

wvk_status wvk_uploader_map(wvk_uploader *uploader, wvk_buffer *buffer, uint64_t offset, uint64_t size, void **pointer) {
  *pointer = NULL;
  struct wvk_device *device = uploader->device;
  WVK_TRY(wvk_device_check(device));
  if (size > WVK_UPLOAD_CHUNK || offset > buffer->size || size > buffer->size - offset)
    return wvk_fail(&device->host, WVK_ERROR_MEMORY, "upload of %llu bytes at %llu: past the chunk or the buffer's %llu bytes",
                    (unsigned long long)size, (unsigned long long)offset, (unsigned long long)buffer->size);
  close_piece(uploader);
  if (buffer->map) {
    uploader->open = buffer;
    uploader->open_offset = offset;
    uploader->open_size = size;
    *pointer = buffer->map + offset;
    return WVK_OK;
  }
  struct chunk *chunk = &uploader->chunks[uploader->current];
  if (chunk->used + size > WVK_UPLOAD_CHUNK) {
    WVK_TRY(submit_chunk(uploader, chunk));
    uploader->current = (uploader->current + 1) % CHUNKS;
    chunk = &uploader->chunks[uploader->current];
  }
  if (chunk->used == 0) WVK_TRY(begin_chunk(uploader, chunk));
  *pointer = chunk->staging->map + chunk->used;
  if (size > 0) wvk_cmd_copy(chunk->commands, chunk->staging, chunk->used, buffer, offset, size);
  uint64_t step = (size + STAGING_ALIGNMENT - 1) / STAGING_ALIGNMENT * STAGING_ALIGNMENT;
  chunk->used += step ? step : STAGING_ALIGNMENT;
  return WVK_OK;
}

wvk_status wvk_uploader_finish(wvk_uploader *uploader) {
  close_piece(uploader);
  WVK_TRY(submit_chunk(uploader, &uploader->chunks[uploader->current]));
  for (int i = 0; i < CHUNKS; i++)
    if (uploader->chunks[i].commands) WVK_TRY(wvk_wait(uploader->chunks[i].commands, UINT64_MAX));
  return WVK_OK;
}

void wvk_uploader_destroy(wvk_uploader **pointer) {
  struct wvk_uploader *uploader = *pointer;
  if (!uploader) return;
  *pointer = NULL;
  for (int i = 0; i < CHUNKS; i++) {
    if (uploader->chunks[i].commands) wvk_wait(uploader->chunks[i].commands, UINT64_MAX);
    wvk_commands_destroy(&uploader->chunks[i].commands);
    wvk_buffer_destroy(&uploader->chunks[i].staging);
  }
  wvk_host_free(&uploader->device->host, uploader);
}
