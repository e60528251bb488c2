/* SPDX-License-Identifier: Apache-2.0
 * How batches of tokens are computed on a device: which family of matrix kernels, which tiles, how many tokens at a time. */
#ifndef WISP_GPU_BATCH_KERNELS_H
#define WISP_GPU_BATCH_KERNELS_H

#include "gpu/kernels.h"

/* Tokens of a batch that suit the device. */
uint32_t wisp_batch_columns(const wvk_caps *caps);

/* Whether an invocation of the batch kernels takes 4 rows: they hold 2 rows x 8 tokens in 64 registers, some devices have more.
 */
bool wisp_batch_wide(const wvk_caps *caps);

/* Whether op takes the tile or dot kernels, "_coopmat", "_tile" or "_dot" (NULL: none): their inputs are prepared by a dispatch
 * before. */
const char *wisp_batch_tiles(const wisp_kernel_context *context, const wisp_op *op);

/* Floats of the prepared inputs: of a column with that many features, or of the longest one; 0 where nothing takes tiles. */
uint32_t wisp_batch_input_stride(const wisp_kernel_context *context, uint32_t cols);
uint32_t wisp_batch_input_floats(const wisp_kernel_context *context);

/* Floats of a column of what workgroups that share a tile leave; 0 where nothing takes such tiles. */
uint32_t wisp_batch_split_floats(const wisp_kernel_context *context);

/* What results of attention and gate_up in a batch are divided by where they are left as f16, the inputs of attn_out and down
 * as these take them: [column][features], two a word. 0: floats. The same for both ops of a pair. */
float wisp_batch_factor(const wisp_kernel_context *context, wisp_op_kind kind);

/* Which part of op its product is: 1 where inputs are prepared before, else 0. */
uint32_t wisp_batch_product(const wisp_kernel_context *context, const wisp_op *op);

/* How many dispatches make op's product in a batch: where it takes tiles its inputs are prepared before, unless the op before
 * has left them so, and the sums of workgroups that share a tile added up behind it. */
uint32_t wisp_batch_parts(const wisp_kernel_context *context, const wisp_op *op);

/* Turns call, which is that of op's product with everything but its kernel set, into that part of it. */
void wisp_batch_part(wisp_kernel_call *call, const wisp_kernel_context *context, const wisp_op *op, uint32_t part);

/* Whether attention over a batch takes attention_tile; sets its kernel and grid. */
bool wisp_batch_attention(wisp_kernel_call *call, const wisp_kernel_context *context);

#endif
