/* SPDX-License-Identifier: Apache-2.0
 * What the processor and its memory are, as far as this process may use them. Thread-safe. */
#ifndef WISP_CPU_CPU_H
#define WISP_CPU_CPU_H

#include "wisp/wisp.h"

enum { WISP_CPU_PROCESSORS_MAX = 1024 };
typedef struct wisp_cpu_mask {
  uint64_t words[WISP_CPU_PROCESSORS_MAX / 64]; /* bit i % 64 of word i / 64: processor i */
} wisp_cpu_mask;

static inline bool wisp_cpu_mask_has(const wisp_cpu_mask *mask, int processor) {
  return mask->words[processor / 64] >> processor % 64 & 1;
}
static inline void wisp_cpu_mask_add(wisp_cpu_mask *mask, int processor) {
  mask->words[processor / 64] |= 1ull << processor % 64;
}

/* The fast ones of the allowed processors, by folder/cpuN (/sys/devices/system/cpu): those with half of the largest
 * cpu_capacity, else with 80 % of the highest clock rate; all where the system tells neither. */
void wisp_cpu_fast(const char *folder, const wisp_cpu_mask *allowed, wisp_cpu_mask *fast);

/* Physical cores with fast processors that the calling thread may use, at most the process's CPU quota; at least 1. */
uint32_t wisp_cpu_cores(void);

/* Keeps the calling thread on the fast ones of the processors that it may use. */
void wisp_cpu_prefer_fast(void);

/* Bytes of physical memory, at most what this process's group may use; UINT64_MAX if unknown. */
uint64_t wisp_cpu_memory(void);

/* The CPU as a device: always usable. */
void wisp_cpu_device_info(wisp_device_info *info);

#endif
