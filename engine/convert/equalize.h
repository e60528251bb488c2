/* SPDX-License-Identifier: Apache-2.0
 * Takes outlier columns out of what is rounded to 8 bits with one scale for each token, as SmoothQuant does (Xiao et al. 2023):
 * a column of activations is divided by a factor, the matrix's column multiplied with it. The division costs nothing: it goes
 * into the weights of the norm before q, k, v and before gate, up, and into the rows of up before down. The model computes the
 * same but for rounding. */
#ifndef WISP_CONVERT_EQUALIZE_H
#define WISP_CONVERT_EQUALIZE_H

#include "base/arena.h"
#include "convert/importance.h"
#include "model/model_file.h"

/* What a tensor's weights are multiplied with; NULL = nothing. */
typedef struct wisp_factors {
  const float *columns; /* [shape[0]] */
  const float *rows;    /* [shape[1]] */
} wisp_factors;

typedef struct wisp_equalizer {
  wisp_arena arena;
  wisp_factors *factors; /* [tensor_count], or NULL */
} wisp_equalizer;

/* Reads all matrices of the file. Without importance, and for matrices without, nothing is changed. */
wisp_status wisp_equalizer_open(wisp_equalizer *equalizer, const wisp_host *host, const wisp_model_file *file,
                                wisp_importance *importance);
void wisp_equalizer_close(wisp_equalizer *equalizer); /* accepts a zeroed struct */

#endif
