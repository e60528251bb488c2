/* SPDX-License-Identifier: Apache-2.0
 * One way to decode, timed: a timeline of its own that runs the same few tokens again and again, in turns with another. One
 * thread at a time; an error of the device has been logged. */
#ifndef WISP_GPU_TRIAL_H
#define WISP_GPU_TRIAL_H

#include "gpu/executor.h"

enum { WISP_TRIAL_REPEATS = 7 };

typedef struct wisp_trial {
  gpu_timeline *timeline; /* owned, but where the caller has set it */
  wvk_commands *commands; /* count tokens */
  uint32_t count;
  bool persistent;
  double seconds; /* a token; the best run, 0 = none */
} wisp_trial;

/* The executor's context with that choice in it. */
wisp_kernel_context wisp_trial_context(const gpu_executor *executor, const wisp_choice *choice);

/* A timeline by dispatches, those kernels built that are not there yet; without a timeline where the driver refuses one. */
wisp_status wisp_trial_open(wisp_trial *trial, gpu_executor *executor, const wisp_kernel_context *context);

/* A timeline by the persistent kernel of the context's choice; without one where that kernel is not there. */
wisp_status wisp_trial_open_persistent(wisp_trial *trial, gpu_executor *executor, const wisp_kernel_context *context);
void wisp_trial_close(wisp_trial *trial);

/* Destroys the kernels that trials have added, from the first on. */
void wisp_trial_drop_kernels(gpu_executor *executor, uint32_t first);

/* Keys and values before the tokens that are timed: zeros cost what others cost, what lies in fresh memory might not. */
wisp_status wisp_trial_fill(gpu_timeline *timeline);

/* As many tokens as make a short submit. */
wisp_status wisp_trial_choose_count(wisp_trial *trial, uint32_t *count);

/* Records the tokens; runs them, timed by the device's clock where it has one. */
wisp_status wisp_trial_record(wisp_trial *trial, uint32_t count);
wisp_status wisp_trial_run(wisp_trial *trial);

/* Both in turns, each first as often as the other. a's time is its best one, b's is that times the median of what it took
 * beside a: clock rates change, mostly behind a pause for the compiler. until: of wisp_now_s. */
wisp_status wisp_trial_race(wisp_trial *a, wisp_trial *b, double until);

#endif
