/* SPDX-License-Identifier: Apache-2.0
 * A plan's matrices as the kernels at hand want them: packed where that is faster, else as they are in the file. */
#ifndef WISP_CPU_WEIGHTS_H
#define WISP_CPU_WEIGHTS_H

#include "cpu/kernels.h"
#include "cpu/threads.h"
#include "session/executor.h"

typedef struct wisp_cpu_weights {
  const wisp_host *host;
  wisp_packed (*ops)[3]; /* [op_count], like wisp_op.matrices */
  uint8_t *memory;       /* of all tiles */
  uint64_t bytes;
} wisp_cpu_weights;

/* Packs on all threads. params: host, plan, release; the plan's model must outlive the struct. */
wisp_status wisp_cpu_weights_open(wisp_cpu_weights *weights, const wisp_executor_params *params,
                                  const wisp_cpu_kernels *kernels, wisp_threads *threads);
void wisp_cpu_weights_close(wisp_cpu_weights *weights); /* accepts a zeroed struct */

#endif
