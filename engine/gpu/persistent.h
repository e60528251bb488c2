/* SPDX-License-Identifier: Apache-2.0
 * The persistent path: a whole token of decode in one dispatch, workgroups sending each other their results as mail and
 * adding them to sums (shaders/persistent.comp). Taken only where all workgroups run at the same time, which no driver
 * promises: devices where it was seen to work, after a check at start, each wait bounded. Where a wait ever runs out the
 * timeline goes on with dispatches.
 */
#ifndef WISP_GPU_PERSISTENT_H
#define WISP_GPU_PERSISTENT_H

#include <pthread.h>
#include <stdatomic.h>

#include "gpu/kernels.h"
#include "shared/persistent.h"

typedef struct gpu_executor gpu_executor;
typedef struct gpu_timeline gpu_timeline;

typedef struct wisp_persistent_kernel wisp_persistent_kernel;

typedef struct wisp_persistent_build { /* of the pipeline for a KV type, on a thread of its own: it may take seconds */
  gpu_executor *executor;
  wisp_persistent_kernel *kernel;
  pthread_t thread;
  bool started, done; /* done: nothing more is to come; both guarded by the executor's mutex */
  atomic_bool ready;  /* pipeline is there */
  wvk_pipeline *pipeline;
} wisp_persistent_build;

typedef struct wisp_decode_text { /* "persistent: SHAPE"; or what goes on without it, and why */
  char by_ops[224], fused[240];
} wisp_decode_text;

struct wisp_persistent_kernel {
  uint32_t local;                   /* value of the knob persistent_local that it is for, 0 = its shape is chosen by counting */
  wisp_decode_text text;            /* "persistent: SHAPE" */
  wisp_persistent_build builds[2];  /* KV as f16, as f32: begun when first needed */
  uint32_t constants[WISP_P_COUNT]; /* all but KV_F32 */
  uint64_t mail_bytes;
};

enum { WISP_PERSISTENT_KERNELS = 4 }; /* the one that start-up builds, and one for each value of the knob */

typedef struct wisp_persistent {
  bool planned;                                       /* model and device fit: layout and first kernel are there */
  bool wished;                                        /* by the environment: then start-up waits for it */
  uint32_t wished_groups, wished_local, wished_split; /* 0: for the device to choose */
  atomic_bool available;                              /* compared with dispatches, here or at an earlier start */
  _Atomic(const wisp_decode_text *) decode;           /* what decode goes by, or why not (yet) */
  wisp_decode_text planned_text, refusal, failure;    /* each is written once */
  wvk_layout *layout;
  wisp_persistent_kernel kernels[WISP_PERSISTENT_KERNELS];
  uint32_t kernel_count; /* guarded by the executor's mutex */
} wisp_persistent;

typedef struct wisp_persistent_state { /* of a timeline */
  bool active, failed;
  const wisp_persistent_kernel *kernel;
  wvk_set *set; /* NULL: never taken */
  wvk_buffer *mail;
} wisp_persistent_state;

/* Decides whether this model on this device takes the path, and begins to compile it; then, when weights and other pipelines
 * are there (the executor's opened), compares it with dispatches on a few tokens, and their times, unless it has passed at an
 * earlier start.
 * Until then timelines use dispatches. What speaks against it is in decode. The environment variable WISP_PERSISTENT: 0 =
 * never; 1 = also on devices where it was not seen to work; GROUPSxLOCAL or GROUPSxLOCALxSPLIT = likewise, with that shape; all
 * but 0 wait for it at start-up. An executor that only compiles compares nothing. */
wisp_status wisp_persistent_open(gpu_executor *executor);
void wisp_persistent_close(gpu_executor *executor);

/* Waits where that takes a moment only, since it passed at an earlier start and is in the pipeline cache, or where it is
 * wished. */
void wisp_persistent_expect(gpu_executor *executor);

/* Waits until nothing is compiled or compared any more. Any thread. */
void wisp_persistent_settle(gpu_executor *executor);

/* How decode goes, fused: where it is by fused kernels if not in one dispatch. The text stays; any thread. */
const char *wisp_persistent_text(const wisp_persistent *persistent, bool fused);

/* Mail and descriptor set of a timeline, its buffers made; takes the path if it is ready. */
wisp_status wisp_persistent_timeline_open(gpu_timeline *timeline);
void wisp_persistent_timeline_close(gpu_timeline *timeline);

/* Whether the timeline takes the path from now on and did not before: its commands are to be recorded again. */
bool wisp_persistent_take(gpu_timeline *timeline);

/* The timeline never takes the path: for comparing with it. Nothing of it is recorded yet. */
void wisp_persistent_bar(gpu_timeline *timeline);

/* Records one token, a barrier behind it. */
void wisp_persistent_record(gpu_timeline *timeline, wvk_commands *commands);

/* Gives it up for all timelines to come: dispatches were found to be faster. */
void wisp_persistent_give_up(gpu_executor *executor);

/* Adds the kernel for a value of the knob persistent_local, if it is not there, and waits until it is compiled; timelines whose
 * choice has that value take it. False: no such shape, it is that of value 0, or the driver refuses it. One thread at a time.
 */
bool wisp_persistent_add(gpu_executor *executor, uint32_t local);

/* Of the executor's choice it is known now that its kernel computes what dispatches do: decode goes by it, here and at further
 * starts. */
void wisp_persistent_adopt(gpu_executor *executor);

/* After a run: whether workgroups waited in vain. Then the path is given up for this timeline and the executor. */
bool wisp_persistent_failed(gpu_timeline *timeline);

/* Describes the pipeline for that KV type in *info, which may be NULL; false where it was not built. The caller holds the
 * executor's mutex. */
bool wisp_persistent_pipeline(const gpu_executor *executor, bool kv_f32, wisp_pipeline_info *info);

#endif
