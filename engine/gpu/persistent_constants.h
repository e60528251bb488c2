/* SPDX-License-Identifier: Apache-2.0
 * What the persistent kernel is told of a model on a device: its shape and its specialisation constants. Needs no device. */
#ifndef WISP_GPU_PERSISTENT_CONSTANTS_H
#define WISP_GPU_PERSISTENT_CONSTANTS_H

#include "gpu/kernels.h"
#include "gpu/persistent_shape.h"
#include "shared/persistent.h"

/* wisp_persistent_choose_shape for the layouts that the planned weights of context have. */
const char *wisp_persistent_shape_for(const wisp_kernel_context *context, uint32_t groups, uint32_t local,
                                      wisp_persistent_shape *shape);

/* Fills all constants but KV_F32, weights and activations of context being planned. split: positions that a workgroup of
 * attention takes at least; 0 = as measured. Returns the bytes of mail that a timeline needs. */
uint64_t wisp_persistent_set_constants(uint32_t constants[WISP_P_COUNT], const wisp_kernel_context *context,
                                       const wisp_plan *plan, const wisp_persistent_shape *shape, uint32_t split);

#endif
