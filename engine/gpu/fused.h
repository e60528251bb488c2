/* SPDX-License-Identifier: Apache-2.0
 * Decode with three dispatches a block: attention goes on with its heads' share of the output projection, gate_up with its
 * hidden units' share of down, and both add what they made to a residual stream of integers (shaders/lib/residual.glsl).
 * attn_out and down then take no dispatch of their own. Prompts are not concerned. */
#ifndef WISP_GPU_FUSED_H
#define WISP_GPU_FUSED_H

#include "gpu/kernels.h"

/* Whether model and device take the fused kernels: 64-bit atomics, subgroups of at least 8, nine storage buffers; inputs
 * of at most 2560 features (f32: 1280); blocks without head or post norms and without rounded activations; no KV cache in q8_0.
 * On by default on discrete GPUs, elsewhere where it was chosen; WISP_FUSED=0 or 1 in the environment overrides. */
bool wisp_fused_fits(const wisp_kernel_context *context);

/* As wisp_kernel_parts and wisp_kernel_for in decode, where context->fused. op has one of the kinds that are there for both. */
uint32_t wisp_fused_parts(const wisp_kernel_context *context, const wisp_op *op);
void wisp_fused_call(wisp_kernel_call *call, const wisp_kernel_context *context, const wisp_op *op, uint32_t part);

/* The head in decode by matvec_team.comp, whether or not the others are fused: whether the model's width fits, the rows
 * that a workgroup takes, and the call's geometry. */
bool wisp_team_fits(const wisp_kernel_context *context, const wisp_placed *matrix);
uint32_t wisp_team_head_rows(const wisp_kernel_context *context, const wisp_placed *matrix);
void wisp_team_head(wisp_kernel_call *call, const wisp_kernel_context *context);

#endif
