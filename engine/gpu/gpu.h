/* SPDX-License-Identifier: Apache-2.0
 * What the engine needs of the GPU side besides the executor. */
#ifndef WISP_GPU_GPU_H
#define WISP_GPU_GPU_H

#include "base/host.h"
#include "wvk.h"

wvk_host wisp_gpu_host(const wisp_host *host); /* host must outlive it */
void wisp_gpu_device_info(const wvk_caps *caps, uint32_t index, wisp_device_info *info);

#endif
