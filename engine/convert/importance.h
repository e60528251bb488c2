/* SPDX-License-Identifier: Apache-2.0
 * How much each column of a matrix matters: the mean square of what it was multiplied with. In a GGUF file, for each matrix
 * NAME the tensors NAME.in_sum2 [cols] (sum of squares) and NAME.counts [1] (tokens): docs/formats.md. */
#ifndef WISP_CONVERT_IMPORTANCE_H
#define WISP_CONVERT_IMPORTANCE_H

#include "model/gguf.h"

#define WISP_IMPORTANCE_SUM ".in_sum2"
#define WISP_IMPORTANCE_COUNT ".counts"

typedef struct wisp_importance {
  const wisp_host *host;
  wisp_bytes bytes;
  wisp_gguf gguf;
  float *mean; /* of the matrix asked for last */
  bool open;
} wisp_importance;

/* A source with nothing set is fine: then there is no importance of anything. FORMAT if the file has none of any matrix of
 * the model. */
wisp_status wisp_importance_open(wisp_importance *importance, const wisp_host *host, const wisp_model_source *source,
                                 const wisp_gguf *model);
void wisp_importance_close(wisp_importance *importance); /* accepts a zeroed struct */

/* *mean: [shape[0]], until the next call; NULL where the file has none of this matrix. FORMAT if it is of another shape. */
wisp_status wisp_importance_of(wisp_importance *importance, const wisp_gguf_tensor *matrix, const float **mean);

#endif
