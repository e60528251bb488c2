/* SPDX-License-Identifier: Apache-2.0
 * What memory and arithmetic of this machine allow: measured, in a turn of the pool. */
#ifndef WISP_CPU_LIMITS_H
#define WISP_CPU_LIMITS_H

#include "cpu/weights.h"

/* As wisp_engine_copy_bandwidth. */
wisp_status wisp_cpu_copy_bandwidth(const wisp_host *host, wisp_threads *threads, double *gb_per_s);

/* As wisp_engine_cpu_limits; products by the kernels that the plan's first matrix takes. */
wisp_status wisp_cpu_measure_limits(const wisp_plan *plan, const wisp_cpu_kernels *kernels, const wisp_cpu_weights *weights,
                                    wisp_threads *threads, wisp_cpu_limits *limits);

#endif
