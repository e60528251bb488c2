/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WISP_GPU_PIPELINES_H
#define WISP_GPU_PIPELINES_H

#include "base/crew.h"
#include "wvk.h"

/* Builds count pipelines on up to threads threads of an idle crew. results[i] tells of each; returns the first that is not OK.
 */
wvk_status wisp_pipelines_create(wisp_crew *crew, uint32_t threads, wvk_pipeline **pipelines, wvk_status *results,
                                 wvk_layout *layout, const wvk_pipeline_params *params, uint32_t count);

#endif
