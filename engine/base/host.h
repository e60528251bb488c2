/* SPDX-License-Identifier: Apache-2.0
 * What the library gets from its host: memory and a place for words. Thread-safe as far as the host's callbacks are. */
#ifndef WISP_BASE_HOST_H
#define WISP_BASE_HOST_H

#include "wisp/wisp.h"

#if defined(__GNUC__)
#define WISP_PRINTF(format_index, first) __attribute__((format(printf, format_index, first)))
#else
#define WISP_PRINTF(format_index, first)
#endif

/* Zeroed memory, or NULL when there is none. count * size is checked for overflow. */
void *wisp_host_alloc(const wisp_host *host, size_t count, size_t size);

/* As realloc; new bytes are not zeroed. On NULL the old block stays. */
void *wisp_host_resize(const wisp_host *host, void *pointer, size_t count, size_t size);

void wisp_host_free(const wisp_host *host, void *pointer); /* accepts NULL */

char *wisp_host_strndup(const wisp_host *host, const char *text, size_t length); /* NUL-terminated copy, or NULL */

void wisp_log(const wisp_host *host, wisp_log_level level, const char *format, ...) WISP_PRINTF(3, 4);

/* Logs at ERROR and returns status: `return wisp_fail(host, WISP_ERROR_FORMAT, "%s: ...", name);`. Call it once, where the
 * failure is found; callers pass the status on with WISP_TRY and say nothing. */
wisp_status wisp_fail(const wisp_host *host, wisp_status status, const char *format, ...) WISP_PRINTF(3, 4);

wisp_status wisp_fail_memory(const wisp_host *host, const char *what, uint64_t bytes);

#define WISP_TRY(expression)                                                                                                   \
  do {                                                                                                                         \
    wisp_status wisp_try_status = (expression);                                                                                \
    if (wisp_try_status != WISP_OK) return wisp_try_status;                                                                    \
  } while (0)

#endif
