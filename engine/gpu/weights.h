/* SPDX-License-Identifier: Apache-2.0
 * The model's weights on a device, as windows: a window is what one dynamic offset makes visible, a whole block or a run of
 * vocabulary rows. All block windows of a model look alike where their types do, so that one pipeline serves them all. */
#ifndef WISP_GPU_WEIGHTS_H
#define WISP_GPU_WEIGHTS_H

#include "gpu/layout.h"
#include "wvk.h"

enum { WISP_WINDOW_MATRICES = 7 };

/* Vectors of a window; the biases lie one behind the other, and so do the norms of q and k. */
enum {
  WISP_ATTN_NORM,
  WISP_FFN_NORM,
  WISP_ATTN_POST_NORM,
  WISP_FFN_POST_NORM,
  WISP_Q_BIAS,
  WISP_K_BIAS,
  WISP_V_BIAS,
  WISP_Q_NORM,
  WISP_K_NORM,
  WISP_WINDOW_VECTORS,
  WISP_FINAL_NORM = WISP_ATTN_NORM /* of a vocabulary window */
};

typedef struct wisp_placed { /* a matrix in its window */
  const wisp_layout *layout;
  uint32_t quants; /* first uvec4 */
  uint32_t scales; /* first word */
} wisp_placed;

typedef struct wisp_window {
  uint32_t buffer;                            /* index into buffers */
  uint64_t offset, bytes;                     /* in the buffer; offset aligned for a dynamic binding */
  wisp_placed matrices[WISP_WINDOW_MATRICES]; /* block: q, k, v, attn_out, gate, up, down; vocabulary: the rows */
  uint32_t vectors[WISP_WINDOW_VECTORS];      /* first uvec4 */
  uint32_t row_begin, rows;                   /* of a vocabulary window */
} wisp_window;

typedef struct wisp_weights {
  wvk_device *device;
  const wisp_host *host;
  wvk_buffer **buffers; /* [buffer_count]; several where one allocation cannot hold all */
  uint64_t *ranges;     /* [buffer_count] bytes of the largest window: the descriptor's range */
  uint32_t buffer_count;
  wisp_window *blocks;                  /* [weight_blocks] */
  wisp_window *embedding, *head;        /* [embedding_parts], [head_parts]: rows split where one binding cannot hold all */
  uint32_t embedding_parts, head_parts; /* a shared head is the embedding's windows */
  uint64_t bytes;                       /* of all windows */
  void *owned;
} wisp_weights;

/* Plans the windows and fills them. device NULL only plans, for limits caps (memory figures and pipelines without a device). */
wisp_status wisp_weights_open(wisp_weights *weights, const wisp_host *host, wvk_device *device, const wvk_caps *caps,
                              const wisp_model *model, void (*progress)(void *user, const char *stage, float fraction),
                              void *progress_user);
void wisp_weights_close(wisp_weights *weights);

#endif
