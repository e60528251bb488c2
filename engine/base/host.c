/* SPDX-License-Identifier: Apache-2.0 */
#include "base/host.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *reallocate(const wisp_host *host, void *pointer, size_t size) {
  if (host && host->reallocate) return host->reallocate(host->memory_user, pointer, size);
  return realloc(pointer, size);
}

/* Bytes of count elements, at least one so that NULL only ever means out of memory; false on overflow. */
static bool byte_count(size_t count, size_t size, size_t *bytes) {
  if (size && count > SIZE_MAX / size) return false;
  *bytes = count * size;
  if (*bytes == 0) *bytes = 1;
  return true;
}

void *wisp_host_alloc(const wisp_host *host, size_t count, size_t size) {
  size_t bytes;
  if (!byte_count(count, size, &bytes)) return NULL;
  if (!host || !host->reallocate) return calloc(bytes, 1); /* fresh pages are zero already */
  void *pointer = reallocate(host, NULL, bytes);
  if (pointer) memset(pointer, 0, bytes);
  return pointer;
}

void *wisp_host_resize(const wisp_host *host, void *pointer, size_t count, size_t size) {
  size_t bytes;
  return byte_count(count, size, &bytes) ? reallocate(host, pointer, bytes) : NULL;
}

void wisp_host_free(const wisp_host *host, void *pointer) {
  if (!pointer) return;
  if (host && host->reallocate) {
    host->reallocate(host->memory_user, pointer, 0);
  } else {
    free(pointer);
  }
}

char *wisp_host_strndup(const wisp_host *host, const char *text, size_t length) {
  if (length == SIZE_MAX) return NULL;
  char *copy = wisp_host_alloc(host, length + 1, 1);
  if (copy && length) memcpy(copy, text, length);
  return copy;
}

WISP_PRINTF(3, 0) static void log_line(const wisp_host *host, wisp_log_level level, const char *format, va_list arguments) {
  if (!host || !host->log) return;
  char text[1024];
  int length = vsnprintf(text, sizeof text, format, arguments);
  if (length < 0) return;
  if ((size_t)length >= sizeof text) memcpy(text + sizeof text - 4, "...", 4);
  /* Names come from files: whatever they hold, a message stays one line. */
  for (char *c = text; *c; c++) {
    if ((unsigned char)*c < 0x20 || *c == 0x7f) *c = '?';
  }
  host->log(host->log_user, level, text);
}

void wisp_log(const wisp_host *host, wisp_log_level level, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  log_line(host, level, format, arguments);
  va_end(arguments);
}

wisp_status wisp_fail(const wisp_host *host, wisp_status status, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  log_line(host, WISP_LOG_ERROR, format, arguments);
  va_end(arguments);
  return status;
}

wisp_status wisp_fail_memory(const wisp_host *host, const char *what, uint64_t bytes) {
  return wisp_fail(host, WISP_ERROR_MEMORY, "out of memory: %s needs %" PRIu64 " bytes", what, bytes);
}
