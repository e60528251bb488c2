/* SPDX-License-Identifier: Apache-2.0
 * wisp-cpu-kernels: compares every kernel set that this processor can run with the formulas, in the spirit of dav1d's checkasm.
 *
 *   wisp-cpu-kernels [SEED] [--set NAME] [--bench] [--list]
 *
 * --list prints the names of the sets, the reference first, the fastest last. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "judge.h"

int main(int argc, char **argv) {
  uint64_t seed = 1;
  const char *only = NULL;
  bool bench = false, list = false;
  for (int i = 1; i < argc; i++) {
    if (!strcmp(argv[i], "--bench")) {
      bench = true;
    } else if (!strcmp(argv[i], "--list")) {
      list = true;
    } else if (!strcmp(argv[i], "--set") && i + 1 < argc) {
      only = argv[++i];
    } else {
      char *end;
      seed = strtoull(argv[i], &end, 10);
      if (*end) {
        fprintf(stderr, "wisp-cpu-kernels: '%s'? Usage: wisp-cpu-kernels [SEED] [--set NAME] [--bench] [--list]\n", argv[i]);
        return 2;
      }
    }
  }
  if (!list) printf("seed %" PRIu64 "; kernel sets here: ", seed);
  for (uint32_t i = 0; i < wisp_kernel_set_count(); i++) printf("%s%s", i ? " " : "", wisp_kernel_set(i).name);
  printf("\n");
  if (list) return 0;
  for (uint32_t i = 0; i < wisp_kernel_set_count(); i++) {
    const wisp_cpu_kernels kernels = wisp_kernel_set(i);
    if (only && strcmp(only, kernels.name)) continue;
    if (bench) {
      bench_products(&kernels);
      bench_attention(&kernels);
    } else {
      check_products(&kernels, seed);
      check_vectors(&kernels, seed);
    }
    fflush(stdout);
  }
  if (bench) return 0;
  printf("%u passed, %u failed, 0 skipped\n", judge_passed, judge_failed);
  return judge_failed || !judge_passed;
}
