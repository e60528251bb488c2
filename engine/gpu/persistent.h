/* SPDX-License-Identifier: Apache-2.0
 * The persistent path: a whole token of decode in one dispatch, workgroups sending each other their results as mail
 * (shaders/persistent.comp). Taken only where all workgroups run at the same time, which no driver promises: devices where it
 * was seen to work, after a check at start, each wait bounded. Where a wait ever runs out the timeline goes on with dispatches.
 */
#ifndef WISP_GPU_PERSISTENT_H
#define WISP_GPU_PERSISTENT_H

#include "gpu/kernels.h"
#include "shared/persistent.h"

typedef struct gpu_executor gpu_executor;
typedef struct gpu_timeline gpu_timeline;

typedef struct wisp_persistent {
  bool available;
  char decode[200]; /* "persistent: SHAPE" or "dispatches: why not" */
  wvk_layout *layout;
  wvk_pipeline *pipelines[2];       /* KV as f16, as f32: built when first needed, under the executor's mutex */
  uint32_t constants[WISP_P_COUNT]; /* all but KV_F32 */
  uint64_t mail_bytes;
} wisp_persistent;

typedef struct wisp_persistent_state { /* of a timeline */
  bool active;
  const wvk_pipeline *pipeline;
  wvk_set *set;
  wvk_buffer *mail;
} wisp_persistent_state;

/* Decides whether this model on this device takes the path, and compares it with dispatches on a few tokens. What speaks
 * against it is in decode; only errors of the device itself fail. The environment variable WISP_PERSISTENT: 0 = never; 1 =
 * also on devices where it was not seen to work; GROUPSxLOCAL or GROUPSxLOCALxSPLIT = likewise, with that shape. */
wisp_status wisp_persistent_open(gpu_executor *executor);
void wisp_persistent_close(gpu_executor *executor);

/* Mail and descriptor set of a timeline, its buffers made; leaves it inactive where the path is not taken. */
wisp_status wisp_persistent_timeline_open(gpu_timeline *timeline);
void wisp_persistent_timeline_close(gpu_timeline *timeline);

/* Records one token, a barrier behind it. */
void wisp_persistent_record(gpu_timeline *timeline, wvk_commands *commands);

/* After a run: whether workgroups waited in vain. Then the path is given up for this timeline and the executor. */
bool wisp_persistent_failed(gpu_timeline *timeline);

#endif
