/* SPDX-License-Identifier: Apache-2.0
 * The model's weights on a device, as windows: a window is what one dynamic offset makes visible, a whole block or a run of
 * vocabulary rows. All block windows of a model look alike where their types do, so that one pipeline serves them all. */
#ifndef WISP_GPU_WEIGHTS_H
#define WISP_GPU_WEIGHTS_H

#include "base/crew.h"
#include "gpu/gpu.h"
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
  uint64_t *sizes;      /* [buffer_count] bytes */
  uint32_t buffer_count;
  wisp_window *blocks;                  /* [weight_blocks], then the others: [window_count] in all */
  wisp_window *embedding, *head;        /* [embedding_parts], [head_parts]: rows split where one binding cannot hold all */
  uint32_t embedding_parts, head_parts; /* a shared head is the embedding's windows */
  uint32_t window_count;
  wvk_uploader *uploader; /* NULL: no staging is held */
  uint64_t bytes;         /* of all windows */
  void *owned;
} wisp_weights;

/* Plans the windows for limits caps: needs no device, and nothing is there yet. */
wisp_status wisp_weights_plan(wisp_weights *weights, const wisp_host *host, const wvk_caps *caps, const wisp_model *model);

/* Reads ahead in the model's bytes, a touch a page, while the device is being opened: has the system map them. */
void wisp_weights_touch(const wisp_model *model, wisp_gpu_opening *opening);

/* Makes the buffers of planned windows and fills them, repacking and copying on up to threads threads of an idle crew with at
 * most 16 MiB of staging; on unified memory in place. Progress from the calling thread. */
wisp_status wisp_weights_upload(wisp_weights *weights, wvk_device *device, const wisp_model *model, wisp_crew *crew,
                                uint32_t threads, void (*progress)(void *user, const char *stage, float fraction),
                                void *progress_user);
/* Frees the staging that upload has left, which may take the driver some milliseconds: any thread, once. */
void wisp_weights_free_staging(wisp_weights *weights);

void wisp_weights_close(wisp_weights *weights);

#endif
