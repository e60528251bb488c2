/* SPDX-License-Identifier: Apache-2.0
 * Filling device buffers: in place where the host sees them, else through staging, two chunks in turn for each lane. */
#include "internal.h"

#define CHUNKS 2             /* of a lane */
#define STAGING_ALIGNMENT 16 /* of pieces inside a chunk */

struct chunk {
  wvk_commands *commands;
  uint64_t used; /* bytes; 0 = not recording */
};

struct lane {
  struct chunk chunks[CHUNKS];
  uint32_t current;
  /* The piece in a mapped buffer that the caller is writing. */
  wvk_buffer *open;
  uint64_t open_offset, open_size;
};

struct wvk_uploader {
  struct wvk_device *device;
  pthread_mutex_t lock; /* guards the making of staging: one buffer for all, since drivers take long for each */
  wvk_buffer *staging;  /* [lane_count][CHUNKS][WVK_UPLOAD_CHUNK] bytes */
  uint32_t lane_count;
  struct lane lanes[WVK_UPLOAD_LANES];
};

wvk_status wvk_uploader_create(wvk_uploader **result, wvk_device *device, uint32_t lanes) {
  *result = NULL;
  WVK_TRY(wvk_device_check(device));
  struct wvk_uploader *uploader = wvk_host_alloc(&device->host, 1, sizeof *uploader);
  if (!uploader) return wvk_fail_memory(&device->host, "uploader");
  uploader->device = device;
  uploader->lane_count = lanes < WVK_UPLOAD_LANES ? lanes : WVK_UPLOAD_LANES;
  pthread_mutex_init(&uploader->lock, NULL);
  *result = uploader;
  return WVK_OK;
}

static void close_piece(struct lane *lane) {
  if (lane->open) wvk_buffer_flush(lane->open, lane->open_offset, lane->open_size);
  lane->open = NULL;
}

static uint64_t chunk_offset(const struct wvk_uploader *uploader, const struct lane *lane) {
  return ((uint64_t)(lane - uploader->lanes) * CHUNKS + lane->current) * WVK_UPLOAD_CHUNK;
}

static wvk_status submit_chunk(struct wvk_uploader *uploader, struct lane *lane) {
  struct chunk *chunk = &lane->chunks[lane->current];
  if (chunk->used == 0) return WVK_OK;
  wvk_buffer_flush(uploader->staging, chunk_offset(uploader, lane), chunk->used);
  chunk->used = 0;
  WVK_TRY(wvk_commands_end(chunk->commands));
  return wvk_submit(uploader->device, &chunk->commands, 1);
}

static wvk_status make_staging(struct wvk_uploader *uploader) {
  wvk_status status = WVK_OK;
  pthread_mutex_lock(&uploader->lock);
  if (!uploader->staging)
    status = wvk_buffer_create(&uploader->staging, uploader->device, "staging",
                               (uint64_t)uploader->lane_count * CHUNKS * WVK_UPLOAD_CHUNK, WVK_MEMORY_STAGING);
  pthread_mutex_unlock(&uploader->lock);
  return status;
}

/* Makes chunk ready to take pieces: its last copies are done. */
static wvk_status begin_chunk(struct wvk_uploader *uploader, struct chunk *chunk) {
  if (!chunk->commands) {
    WVK_TRY(make_staging(uploader));
    WVK_TRY(wvk_commands_create(&chunk->commands, uploader->device, 0));
  }
  WVK_TRY(wvk_wait(chunk->commands, UINT64_MAX));
  return wvk_commands_begin(chunk->commands);
}

wvk_status wvk_uploader_map(wvk_uploader *uploader, uint32_t lane_index, wvk_buffer *buffer, uint64_t offset, uint64_t size,
                            void **pointer) {
  *pointer = NULL;
  struct wvk_device *device = uploader->device;
  struct lane *lane = &uploader->lanes[lane_index];
  WVK_TRY(wvk_device_check(device));
  if (size > WVK_UPLOAD_CHUNK || offset > buffer->size || size > buffer->size - offset)
    return wvk_fail(&device->host, WVK_ERROR_MEMORY, "upload of %llu bytes at %llu: past the chunk or the buffer's %llu bytes",
                    (unsigned long long)size, (unsigned long long)offset, (unsigned long long)buffer->size);
  close_piece(lane);
  if (buffer->map) {
    lane->open = buffer;
    lane->open_offset = offset;
    lane->open_size = size;
    *pointer = buffer->map + offset;
    return WVK_OK;
  }
  struct chunk *chunk = &lane->chunks[lane->current];
  if (chunk->used + size > WVK_UPLOAD_CHUNK) {
    WVK_TRY(submit_chunk(uploader, lane));
    lane->current = (lane->current + 1) % CHUNKS;
    chunk = &lane->chunks[lane->current];
  }
  if (chunk->used == 0) WVK_TRY(begin_chunk(uploader, chunk));
  const uint64_t at = chunk_offset(uploader, lane) + chunk->used;
  *pointer = uploader->staging->map + at;
  if (size > 0) wvk_cmd_copy(chunk->commands, uploader->staging, at, buffer, offset, size);
  uint64_t step = (size + STAGING_ALIGNMENT - 1) / STAGING_ALIGNMENT * STAGING_ALIGNMENT;
  chunk->used += step ? step : STAGING_ALIGNMENT;
  return WVK_OK;
}

wvk_status wvk_uploader_finish(wvk_uploader *uploader) {
  for (uint32_t i = 0; i < uploader->lane_count; i++) {
    close_piece(&uploader->lanes[i]);
    WVK_TRY(submit_chunk(uploader, &uploader->lanes[i]));
  }
  for (uint32_t i = 0; i < uploader->lane_count; i++)
    for (int j = 0; j < CHUNKS; j++)
      if (uploader->lanes[i].chunks[j].commands) WVK_TRY(wvk_wait(uploader->lanes[i].chunks[j].commands, UINT64_MAX));
  return WVK_OK;
}

void wvk_uploader_destroy(wvk_uploader **pointer) {
  struct wvk_uploader *uploader = *pointer;
  if (!uploader) return;
  *pointer = NULL;
  for (uint32_t i = 0; i < uploader->lane_count; i++)
    for (int j = 0; j < CHUNKS; j++) {
      wvk_commands **commands = &uploader->lanes[i].chunks[j].commands;
      if (*commands) wvk_wait(*commands, UINT64_MAX);
      wvk_commands_destroy(commands);
    }
  wvk_buffer_destroy(&uploader->staging);
  pthread_mutex_destroy(&uploader->lock);
  wvk_host_free(&uploader->device->host, uploader);
}
