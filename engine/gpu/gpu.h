/* SPDX-License-Identifier: Apache-2.0
 * What the engine needs of the GPU side besides the executor. */
#ifndef WISP_GPU_GPU_H
#define WISP_GPU_GPU_H

#include "base/startup.h"
#include "wvk.h"

wvk_host wisp_gpu_host(const wisp_host *host);  /* host must outlive it */
wisp_status wisp_gpu_status(wvk_status status); /* the runtime has said what happened */
void wisp_gpu_device_info(const wvk_caps *caps, uint32_t index, wisp_device_info *info);

/* A device that is being opened on a thread of its own, while the model's file is read. */
typedef struct wisp_gpu_opening wisp_gpu_opening;

/* index as in wvk_device_params. host and startup must outlive it. NULL: no memory for it, which has been logged. */
wisp_gpu_opening *wisp_gpu_open(const wisp_host *host, int32_t index, bool validate, wisp_startup *startup);

/* Whether waiting takes no time. */
bool wisp_gpu_open_done(wisp_gpu_opening *opening);

/* Waits for the device, which stays the opening's. What went wrong has been logged. */
wvk_status wisp_gpu_open_wait(wisp_gpu_opening *opening, wvk_device **device);

/* Destroys the device too; accepts NULL there. */
void wisp_gpu_open_close(wisp_gpu_opening **opening);

#endif
