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

/* Turns call, which is that of op's product with everything but its kernel set, into preparing the inputs, or into the product
 * itself by tiles. */
void wisp_batch_prepare(wisp_kernel_call *call, const wisp_kernel_context *context, const wisp_op *op);
void wisp_batch_product(wisp_kernel_call *call, const wisp_kernel_context *context, const wisp_op *op);

/* Whether attention over a batch takes attention_tile; sets its kernel and grid. */
bool wisp_batch_attention(wisp_kernel_call *call, const wisp_kernel_context *context);

#endif
