/* SPDX-License-Identifier: Apache-2.0 */
#include "judge.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BAND = 64, SHOWN = 3 };
static const uint32_t pattern = 0x7fc0dead; /* a NaN */

uint32_t judge_passed, judge_failed;

float *guarded_alloc(size_t count) {
  uint32_t *words = malloc((count + 2 * BAND) * sizeof *words);
  if (!words) abort();
  for (size_t i = 0; i < count + 2 * BAND; i++) words[i] = pattern;
  return (float *)(void *)(words + BAND);
}

bool guarded_intact(const float *values, size_t count) {
  const uint32_t *words = (const uint32_t *)(const void *)values;
  for (size_t i = 0; i < BAND; i++) {
    if (words[count + i] != pattern || (words - BAND)[i] != pattern) return false;
  }
  return true;
}

void guarded_free(float *values) {
  if (values) free(values - BAND);
}

static void fail(judge *j, const char *what, const char *how) {
  if (j->failures++ < SHOWN) printf("FAIL  %s %s: %s: %s\n", j->set, j->kernel, what, how);
}

void judge_floats(judge *j, const float *found, const double *expected, const double *bound, size_t count, const char *what) {
  char how[160];
  j->cases++;
  for (size_t i = 0; i < count; i++) {
    const double error = fabs((double)found[i] - expected[i]);
    if (isnan(expected[i]) ? isnan(found[i]) : error <= bound[i]) {
      if (bound[i] > 0 && error / bound[i] > j->worst) j->worst = error / bound[i];
      continue;
    }
    snprintf(how, sizeof how, "element %zu is %.9g, expected %.9g within %.3g", i, (double)found[i], expected[i], bound[i]);
    fail(j, what, how);
    return;
  }
  if (!guarded_intact(found, count)) fail(j, what, "written outside");
}

void judge_that(judge *j, bool holds, const char *what) {
  j->cases++;
  if (!holds) fail(j, what, "does not hold");
}

void judge_done(const judge *j) {
  printf("%s  %-8s %-24s %6u cases  worst %.3f of the bound\n", j->failures ? "FAIL" : "ok  ", j->set, j->kernel, j->cases,
         j->worst);
  if (j->failures)
    judge_failed++;
  else
    judge_passed++;
}
