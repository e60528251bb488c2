/* SPDX-License-Identifier: Apache-2.0
 * Decode's attention over many positions, which several workgroups share (shaders/lib/splits.glsl): that the last one to arrive
 * is the only one to add up, and sees what the others have left. Part of the self-test. */
#ifndef WISP_GPU_SPLITS_CHECK_H
#define WISP_GPU_SPLITS_CHECK_H

#include "gpu/executor.h"

/* Positions that the check needs room for; 0: context's decode shares none. */
uint32_t wisp_splits_reach(const wisp_plan *plan, const wisp_kernel_context *context);

/* Compares all heads with the reference, in a timeline with KV in f16, room for those positions and nothing in it that is still
 * needed. wrong says what differs; it stays as it is where nothing does. */
wisp_status wisp_splits_check(gpu_timeline *timeline, char wrong[96]);

#endif
