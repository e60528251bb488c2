/* SPDX-License-Identifier: Apache-2.0
 * What the runtime gets from its host: memory and a place for words. */
#include "internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void *wvk_host_alloc(const wvk_host *host, size_t count, size_t size) {
  if (size != 0 && count > SIZE_MAX / size) return NULL;
  size_t bytes = count * size;
  if (bytes == 0) bytes = 1;
  void *pointer = host->reallocate ? host->reallocate(host->memory_user, NULL, bytes) : malloc(bytes);
  if (pointer) memset(pointer, 0, bytes);
  return pointer;
}

void wvk_host_free(const wvk_host *host, void *pointer) {
  if (!pointer) return;
  if (host->reallocate)
    host->reallocate(host->memory_user, pointer, 0);
  else
    free(pointer);
}

static void log_list(const wvk_host *host, wvk_log_level level, const char *format, va_list list) {
  if (!host->log) return;
  char text[1024];
  vsnprintf(text, sizeof text, format, list);
  host->log(host->log_user, level, text);
}

void wvk_log(const wvk_host *host, wvk_log_level level, const char *format, ...) {
  va_list list;
  va_start(list, format);
  log_list(host, level, format, list);
  va_end(list);
}

wvk_status wvk_fail(const wvk_host *host, wvk_status status, const char *format, ...) {
  va_list list;
  va_start(list, format);
  log_list(host, WVK_LOG_ERROR, format, list);
  va_end(list);
  return status;
}

wvk_status wvk_fail_memory(const wvk_host *host, const char *what) {
  return wvk_fail(host, WVK_ERROR_MEMORY, "%s: out of host memory", what);
}

const char *wvk_result_name(VkResult result) {
  switch (result) {
  case VK_SUCCESS:
    return "VK_SUCCESS";
  case VK_NOT_READY:
    return "VK_NOT_READY";
  case VK_TIMEOUT:
    return "VK_TIMEOUT";
  case VK_INCOMPLETE:
    return "VK_INCOMPLETE";
  case VK_ERROR_OUT_OF_HOST_MEMORY:
    return "VK_ERROR_OUT_OF_HOST_MEMORY";
  case VK_ERROR_OUT_OF_DEVICE_MEMORY:
    return "VK_ERROR_OUT_OF_DEVICE_MEMORY";
  case VK_ERROR_INITIALIZATION_FAILED:
    return "VK_ERROR_INITIALIZATION_FAILED";
  case VK_ERROR_DEVICE_LOST:
    return "VK_ERROR_DEVICE_LOST";
  case VK_ERROR_MEMORY_MAP_FAILED:
    return "VK_ERROR_MEMORY_MAP_FAILED";
  case VK_ERROR_LAYER_NOT_PRESENT:
    return "VK_ERROR_LAYER_NOT_PRESENT";
  case VK_ERROR_EXTENSION_NOT_PRESENT:
    return "VK_ERROR_EXTENSION_NOT_PRESENT";
  case VK_ERROR_FEATURE_NOT_PRESENT:
    return "VK_ERROR_FEATURE_NOT_PRESENT";
  case VK_ERROR_INCOMPATIBLE_DRIVER:
    return "VK_ERROR_INCOMPATIBLE_DRIVER";
  case VK_ERROR_TOO_MANY_OBJECTS:
    return "VK_ERROR_TOO_MANY_OBJECTS";
  case VK_ERROR_FRAGMENTED_POOL:
    return "VK_ERROR_FRAGMENTED_POOL";
  case VK_ERROR_OUT_OF_POOL_MEMORY:
    return "VK_ERROR_OUT_OF_POOL_MEMORY";
  case VK_ERROR_INVALID_SHADER_NV:
    return "VK_ERROR_INVALID_SHADER";
  case VK_ERROR_UNKNOWN:
    return "VK_ERROR_UNKNOWN";
  default:
    return "an unnamed VkResult";
  }
}

uint64_t wvk_hash(uint64_t hash, const void *data, size_t size) {
  const unsigned char *bytes = data;
  for (size_t i = 0; i < size; i++) hash = (hash ^ bytes[i]) * 0x100000001b3u;
  return hash;
}
