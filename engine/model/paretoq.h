/* SPDX-License-Identifier: Apache-2.0
 * ParetoQ checkpoints (arXiv 2502.02631) hold latent weights and a scale alpha for each row; the weights that the model was
 * trained with are the latent ones rounded to a grid of alpha. Each grid lies in that of a block type, so that rounding is
 * lossless but for alpha's own rounding to f16. */
#ifndef WISP_MODEL_PARETOQ_H
#define WISP_MODEL_PARETOQ_H

#include "model/dtype.h"

/* bits: ParetoQ's w_bits, 1, 0 (ternary), 2, 3 or 4. */
wisp_dtype wisp_paretoq_dtype(int bits);

/* Rounds one row of count latent weights, a multiple of 32, into blocks of wisp_paretoq_dtype(bits). */
void wisp_paretoq_row(int bits, float alpha, const float *weights, uint8_t *blocks, size_t count);

#endif
