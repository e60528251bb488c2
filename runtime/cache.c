/* SPDX-License-Identifier: Apache-2.0
 * The pipeline cache as bytes. Drivers have crashed on foreign or damaged data, so ours is headed and summed. */
#include "internal.h"

#include <stdio.h>
#include <string.h>

#define CACHE_MAGIC 0x43505657u /* "WVPC" */
#define CACHE_VERSION 1u

struct header {
  uint32_t magic, version;
  uint64_t device; /* identity */
  uint64_t size;   /* bytes after the header */
  uint64_t sum;    /* of them */
};

/* Differs by whatever makes the driver's data differ. */
static uint64_t identity(const struct wvk_device *device) {
  const wvk_caps *caps = &device->physical.caps;
  uint64_t hash = wvk_hash(WVK_HASH_START, &caps->vendor_id, sizeof caps->vendor_id);
  hash = wvk_hash(hash, &caps->device_id, sizeof caps->device_id);
  hash = wvk_hash(hash, &caps->driver_version, sizeof caps->driver_version);
  hash = wvk_hash(hash, caps->driver_uuid, sizeof caps->driver_uuid);
  hash = wvk_hash(hash, caps->device_uuid, sizeof caps->device_uuid);
  hash = wvk_hash(hash, device->physical.cache_uuid, sizeof device->physical.cache_uuid);
  const uint32_t pointer_bytes = sizeof(void *);
  return wvk_hash(hash, &pointer_bytes, sizeof pointer_bytes);
}

void wvk_cache_key(const wvk_device *device, char key[64]) {
  const wvk_caps *caps = &device->physical.caps;
  snprintf(key, 64, "%04x-%04x-%016llx", (unsigned)caps->vendor_id, (unsigned)caps->device_id,
           (unsigned long long)identity(device));
}

bool wvk_cache_load(wvk_device *device, const void *data, size_t size) {
  struct header header;
  if (!data || size < sizeof header || wvk_device_check(device) != WVK_OK) return false;
  memcpy(&header, data, sizeof header);
  const unsigned char *body = (const unsigned char *)data + sizeof header;
  bool ours = header.magic == CACHE_MAGIC && header.version == CACHE_VERSION && header.device == identity(device) &&
              header.size == size - sizeof header && header.sum == wvk_hash(WVK_HASH_START, body, size - sizeof header);
  if (!ours) return false;
  const VkPipelineCacheCreateInfo info = {
      .sType = VK_STRUCTURE_TYPE_PIPELINE_CACHE_CREATE_INFO,
      .initialDataSize = header.size,
      .pInitialData = body,
  };
  VkPipelineCache cache;
  if (device->vk.vkCreatePipelineCache(device->handle, &info, NULL, &cache) != VK_SUCCESS) return false;
  pthread_mutex_lock(&device->counter_lock);
  bool early = !device->cache_used;
  VkPipelineCache unused = early ? device->cache : cache;
  if (early) device->cache = cache;
  pthread_mutex_unlock(&device->counter_lock);
  device->vk.vkDestroyPipelineCache(device->handle, unused, NULL);
  return early;
}

wvk_status wvk_cache_save(wvk_device *device, void *data, size_t *size) {
  WVK_TRY(wvk_device_check(device));
  size_t capacity = *size, body = 0;
  VkResult result = device->vk.vkGetPipelineCacheData(device->handle, device->cache, &body, NULL);
  if (result != VK_SUCCESS) return wvk_device_fail(device, result, "vkGetPipelineCacheData", "the cache");
  *size = sizeof(struct header) + body;
  if (!data) return WVK_OK;
  if (capacity < *size)
    return wvk_fail(&device->host, WVK_ERROR_MEMORY, "pipeline cache: %llu bytes, but room for %llu only",
                    (unsigned long long)*size, (unsigned long long)capacity);
  unsigned char *out = data;
  result = device->vk.vkGetPipelineCacheData(device->handle, device->cache, &body, out + sizeof(struct header));
  if (result != VK_SUCCESS) return wvk_device_fail(device, result, "vkGetPipelineCacheData", "the cache");
  const struct header header = {
      .magic = CACHE_MAGIC,
      .version = CACHE_VERSION,
      .device = identity(device),
      .size = body,
      .sum = wvk_hash(WVK_HASH_START, out + sizeof header, body),
  };
  memcpy(out, &header, sizeof header);
  *size = sizeof header + body;
  return WVK_OK;
}
