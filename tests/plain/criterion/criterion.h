/* SPDX-License-Identifier: Apache-2.0
 * As much of Criterion as the tests of threads need, in one process: Criterion's sandbox does not start under ThreadSanitizer.
 * The first failed assertion ends the run. */
#ifndef WISP_TESTS_PLAIN_CRITERION_H
#define WISP_TESTS_PLAIN_CRITERION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct plain_test {
  const char *suite, *name;
  void (*run)(void);
  struct plain_test *next;
} plain_test;

void plain_register(plain_test *test);
_Noreturn void plain_fail(const char *file, int line, const char *condition, const char *format, ...);

#define Test(suite_, name_)                                                                                                    \
  static void suite_##_##name_##_run(void);                                                                                    \
  __attribute__((constructor)) static void suite_##_##name_##_register(void) {                                                 \
    static plain_test test = {#suite_, #name_, suite_##_##name_##_run, NULL};                                                  \
    plain_register(&test);                                                                                                     \
  }                                                                                                                            \
  static void suite_##_##name_##_run(void)

#define cr_assert(condition, ...) ((condition) ? (void)0 : plain_fail(__FILE__, __LINE__, #condition, "" __VA_ARGS__))
#define cr_assert_not(condition, ...) cr_assert(!(condition), __VA_ARGS__)
#define cr_assert_eq(a, b, ...) cr_assert((a) == (b), __VA_ARGS__)
#define cr_assert_neq(a, b, ...) cr_assert((a) != (b), __VA_ARGS__)
#define cr_assert_gt(a, b, ...) cr_assert((a) > (b), __VA_ARGS__)
#define cr_assert_lt(a, b, ...) cr_assert((a) < (b), __VA_ARGS__)
#define cr_assert_geq(a, b, ...) cr_assert((a) >= (b), __VA_ARGS__)
#define cr_assert_leq(a, b, ...) cr_assert((a) <= (b), __VA_ARGS__)
#define cr_assert_null(a, ...) cr_assert((a) == NULL, __VA_ARGS__)
#define cr_assert_not_null(a, ...) cr_assert((a) != NULL, __VA_ARGS__)
#define cr_assert_str_eq(a, b, ...) cr_assert(strcmp(a, b) == 0, __VA_ARGS__)
#define cr_assert_arr_eq(a, b, size, ...) cr_assert(memcmp(a, b, size) == 0, __VA_ARGS__)
#define cr_log_info(...) (fprintf(stderr, "" __VA_ARGS__), fputc('\n', stderr))

#endif
