/* SPDX-License-Identifier: Apache-2.0
 * Finds out what decode is to be like on this device (choice.h): candidates are timed with the model's own weights, each in
 * turns with the best so far, and taken only where they are faster by a margin and compute what the kernels that start-up has
 * judged compute. */
#ifndef WISP_GPU_TUNE_H
#define WISP_GPU_TUNE_H

#include "gpu/executor.h"

enum {
  WISP_TUNE_POSITIONS = 128, /* tokens held where a token is timed */
  WISP_TUNE_TOKENS = 8,      /* timed together, at most */
  WISP_TUNE_CONTEXT = WISP_TUNE_POSITIONS + WISP_TUNE_TOKENS + 1
};

/* Takes on what the cache keeps, or what the environment variable WISP_TUNE says: 0 = nothing is kept or learned; passing =
 * also software devices learn in passing; else a choice as wisp_choice_parse takes it. ARGUMENT where that is not understood.
 * Before any kernel is chosen. */
wisp_status wisp_tune_open(gpu_executor *executor);

/* What was learned in passing since, to the cache. */
void wisp_tune_save(gpu_executor *executor);

/* In the background of a first start, where nothing is kept, some 0.3 s of the device's time: whether integrated and virtual
 * GPUs that could take the fused kernels are faster with them. argument: the executor, opened. What is found counts from the
 * next start on. */
void wisp_tune_in_passing(void *argument);

/* Likewise, whether the persistent path, which timeline has active, is faster than dispatches. *pays is true where that is not
 * to be asked. Where the path fails it is given up. */
wisp_status wisp_tune_persistent(gpu_timeline *timeline, bool *pays);

/* As wisp_engine_tune. */
wisp_status wisp_gpu_tune(wisp_executor *executor, const wisp_tune_params *params, wisp_tune_result *result);

#endif
