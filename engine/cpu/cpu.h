/* SPDX-License-Identifier: Apache-2.0
 * What the processor and its memory are, as far as this process may use them. Thread-safe. */
#ifndef WISP_CPU_CPU_H
#define WISP_CPU_CPU_H

#include "wisp/wisp.h"

/* Physical cores in this process's affinity mask, at most its CPU quota; at least 1. */
uint32_t wisp_cpu_cores(void);

/* Bytes of physical memory, at most what this process's group may use; UINT64_MAX if unknown. */
uint64_t wisp_cpu_memory(void);

/* The CPU as a device: always usable. */
void wisp_cpu_device_info(wisp_device_info *info);

#endif
