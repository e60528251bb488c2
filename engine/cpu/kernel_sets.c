/* SPDX-License-Identifier: Apache-2.0
 * Which kernel sets the processor has: cpuid and xgetbv on x86 (Intel SDM volume 1, 14.3 and 15.2), getauxval on arm64. */
#include "cpu/kernel_sets.h"

#include <stdio.h>
#include <string.h>

#include "cpu/reference.h"

#if defined(__x86_64__) || defined(__i386__)
#include <cpuid.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif

enum { AVX2 = 1, AVXVNNI = 2, AVX512 = 4, NEON = 8, DOTPROD = 16, I8MM = 32 };

#if defined(__x86_64__) || defined(__i386__)

static bool bits_set(uint32_t word, uint32_t bits) {
  return (word & bits) == bits;
}

/* Registers that the system saves: bit 1 and 2 SSE and AVX, 5 to 7 AVX-512. */
static uint32_t saved_state(void) {
  uint32_t low, high;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return low;
}

static unsigned features(void) {
  uint32_t a, b, c, d, none;
  if (!__get_cpuid(1, &a, &b, &c, &d) || !bits_set(c, 1u << 27 /* OSXSAVE */)) return 0;
  const uint32_t saved = saved_state();
  if (!bits_set(saved, 6) || !bits_set(c, 1u << 12 | 1u << 28 | 1u << 29 /* FMA, AVX, F16C */)) return 0;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !bits_set(b, 1u << 5 /* AVX2 */)) return 0;
  const uint32_t subleaves = a;
  unsigned found = AVX2;
  if (bits_set(saved, 0xe6) && bits_set(b, 1u << 16 | 1u << 30 | 1u << 31 /* F, BW, VL */) && bits_set(c, 1u << 11 /* VNNI */))
    found |= AVX512;
  if (subleaves >= 1 && __get_cpuid_count(7, 1, &a, &none, &none, &none) && bits_set(a, 1u << 4)) found |= AVXVNNI;
  return found;
}

#elif defined(__aarch64__)

static unsigned features(void) {
  unsigned found = NEON;
#if defined(__linux__)
  if (getauxval(AT_HWCAP) & 1ul << 20 /* HWCAP_ASIMDDP */) {
    found |= DOTPROD;
    if (getauxval(AT_HWCAP2) & 1ul << 13 /* HWCAP2_I8MM */) found |= I8MM;
  }
#elif defined(__APPLE__)
  found |= DOTPROD; /* every processor of theirs with 64 bits that is still sold */
#endif
  return found;
}

#else

static unsigned features(void) {
  return 0;
}

#endif

/* In order of speed; base is applied first. */
static const struct {
  const char *name;
  unsigned feature;
  wisp_kernel_set_fn *base, *apply;
} sets[] = {
    {"c", 0, NULL, NULL},
#if defined(WISP_KERNELS_X86)
    {"avx2", AVX2, NULL, wisp_kernels_avx2},
    {"avxvnni", AVXVNNI, wisp_kernels_avx2, wisp_kernels_avxvnni},
    {"avx512", AVX512, wisp_kernels_avx2, wisp_kernels_avx512},
#elif defined(WISP_KERNELS_ARM64)
    {"neon", NEON, NULL, wisp_kernels_neon},
    {"dotprod", DOTPROD, wisp_kernels_neon, wisp_kernels_dotprod},
    {"i8mm", I8MM, wisp_kernels_neon, wisp_kernels_i8mm},
#endif
};
enum { SETS = sizeof sets / sizeof *sets };

/* The index-th set that is here, as an index of sets; SETS behind the last. */
static uint32_t set_at(uint32_t index) {
  const unsigned found = features();
  uint32_t i = 0;
  for (; i < SETS; i++) {
    if ((sets[i].feature & found) == sets[i].feature && index-- == 0) break;
  }
  return i;
}

uint32_t wisp_kernel_set_count(void) {
  uint32_t count = 0;
  while (set_at(count) < SETS) count++;
  return count;
}

wisp_cpu_kernels wisp_kernel_set(uint32_t index) {
  wisp_cpu_kernels kernels = wisp_reference_kernels;
  const uint32_t i = set_at(index);
  if (i < SETS && sets[i].base) sets[i].base(&kernels);
  if (i < SETS && sets[i].apply) sets[i].apply(&kernels);
  return kernels;
}

wisp_status wisp_kernel_set_choose(const wisp_host *host, const char *name, wisp_cpu_kernels *kernels) {
  const uint32_t count = wisp_kernel_set_count();
  char names[64] = "";
  for (uint32_t i = count; i-- > 0;) {
    *kernels = wisp_kernel_set(i);
    if (!name || !strcmp(name, kernels->name)) return WISP_OK;
    const size_t used = strlen(names);
    snprintf(names + used, sizeof names - used, "%s%s", used ? ", " : "", kernels->name);
  }
  return wisp_fail(host, WISP_ERROR_ARGUMENT, "WISP_CPU: \"%s\" is not there; this machine has %s", name, names);
}
