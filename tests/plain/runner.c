/* SPDX-License-Identifier: Apache-2.0
 * Runs the registered tests one after another. */
#include <stdarg.h>

#include "criterion/criterion.h"

static plain_test *tests;

void plain_register(plain_test *test) {
  test->next = tests;
  tests = test;
}

void plain_fail(const char *file, int line, const char *condition, const char *format, ...) {
  va_list arguments;
  fprintf(stderr, "%s:%d: failed: %s: ", file, line, condition);
  va_start(arguments, format);
  vfprintf(stderr, format, arguments);
  va_end(arguments);
  fputc('\n', stderr);
  exit(1);
}

int main(void) {
  unsigned count = 0;
  for (plain_test *test = tests; test; test = test->next, count++) {
    fprintf(stderr, "%s.%s\n", test->suite, test->name);
    test->run();
  }
  printf("%u passed\n", count);
  return count == 0;
}
