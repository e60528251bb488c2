/* SPDX-License-Identifier: Apache-2.0
 * Host hooks and log lines. */
#include <criterion/criterion.h>

#include "base/host.h"
#include "unit/capture.h"

Test(host, memory) {
  capture said;
  wisp_host hooked = capture_host(&said);
  const wisp_host *const hosts[] = {NULL, &(wisp_host){0}, &hooked};
  for (int i = 0; i < 3; i++) {
    uint8_t *block = wisp_host_alloc(hosts[i], 100, 7);
    cr_assert_not_null(block);
    for (int k = 0; k < 700; k++) cr_assert_eq(block[k], 0);
    block[699] = 9;
    block = wisp_host_resize(hosts[i], block, 2000, 7);
    cr_assert_not_null(block);
    cr_assert_eq(block[699], 9);
    wisp_host_free(hosts[i], block);
    wisp_host_free(hosts[i], NULL);

    void *nothing = wisp_host_alloc(hosts[i], 0, 7);
    cr_assert_not_null(nothing, "NULL must only mean out of memory");
    nothing = wisp_host_resize(hosts[i], nothing, 0, 0);
    cr_assert_not_null(nothing);
    wisp_host_free(hosts[i], nothing);

    cr_assert_null(wisp_host_alloc(hosts[i], SIZE_MAX / 2, 3));
    cr_assert_null(wisp_host_resize(hosts[i], NULL, SIZE_MAX, 2));
    cr_assert_null(wisp_host_strndup(hosts[i], "", SIZE_MAX));

    char *copy = wisp_host_strndup(hosts[i], "abcdef", 3);
    cr_assert_str_eq(copy, "abc");
    wisp_host_free(hosts[i], copy);
  }
  cr_assert_eq(said.live, 0);
  said.fail_at = said.allocations + 1;
  cr_assert_null(wisp_host_alloc(&hooked, 1, 1));
}

Test(host, log_is_one_line) {
  capture said;
  wisp_host host = capture_host(&said);
  cr_assert_eq(wisp_fail(&host, WISP_ERROR_IO, "%s: %d", "a\nb\x1b[31m\x7f\xc3\xa9", 5), WISP_ERROR_IO);
  cr_assert_str_eq(said.error, "a?b?[31m?\xc3\xa9: 5");
  wisp_log(&host, WISP_LOG_WARN, "careful");
  cr_assert(said.errors == 1 && said.warnings == 1);
  cr_assert_eq(wisp_fail_memory(&host, "the cache", 123456789012), WISP_ERROR_MEMORY);
  cr_assert_str_eq(said.error, "out of memory: the cache needs 123456789012 bytes");
  cr_assert_eq(wisp_fail(NULL, WISP_ERROR_DEVICE, "nobody listens"), WISP_ERROR_DEVICE);

  char text[3000];
  memset(text, 'x', sizeof text);
  text[sizeof text - 1] = 0;
  wisp_fail(&host, WISP_ERROR_IO, "%s", text);
  cr_assert_eq(strlen(said.error), 1023);
  cr_assert_str_eq(said.error + 1020, "...");
}

Test(status, names) {
  for (int i = WISP_OK; i <= WISP_ERROR_CANCELLED; i++) {
    cr_assert_str_neq(wisp_status_name((wisp_status)i), "unknown status");
    for (int k = WISP_OK; k < i; k++) cr_assert_str_neq(wisp_status_name((wisp_status)i), wisp_status_name((wisp_status)k));
  }
  cr_assert_str_eq(wisp_status_name((wisp_status)99), "unknown status");
  cr_assert_str_eq(wisp_version(), "0.1.0");
}
