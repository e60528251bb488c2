/* SPDX-License-Identifier: Apache-2.0
 * The kernel sets beside the reference. Each overwrites what its instructions make faster, in a table that those before it have
 * filled. Compiled where the compiler knows the instructions, called only where the processor has them. */
#ifndef WISP_CPU_KERNEL_SETS_H
#define WISP_CPU_KERNEL_SETS_H

#include "cpu/kernels.h"

typedef void wisp_kernel_set_fn(wisp_cpu_kernels *kernels);

wisp_kernel_set_fn wisp_kernels_avx2;    /* x86: AVX2, FMA, F16C */
wisp_kernel_set_fn wisp_kernels_avxvnni; /* behind avx2 */
wisp_kernel_set_fn wisp_kernels_avx512;  /* behind avx2: AVX-512 F, BW, VL, VNNI */
wisp_kernel_set_fn wisp_kernels_neon;    /* arm64 */
wisp_kernel_set_fn wisp_kernels_dotprod; /* behind neon */
wisp_kernel_set_fn wisp_kernels_i8mm;    /* behind neon */

/* Sets that were built and that this processor can run: wisp_kernel_set_count of them, "c" first, the fastest last. */
uint32_t wisp_kernel_set_count(void);
wisp_cpu_kernels wisp_kernel_set(uint32_t index);

/* The set called name, NULL = the fastest; ARGUMENT for one that is not there, with those that are. */
wisp_status wisp_kernel_set_choose(const wisp_host *host, const char *name, wisp_cpu_kernels *kernels);

#endif
