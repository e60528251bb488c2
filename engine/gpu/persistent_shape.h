/* SPDX-License-Identifier: Apache-2.0
 * Who does what on the persistent path (shaders/persistent.comp): workgroups, invocations, and the units of weights that each
 * takes of a block. Chosen by counting what all invocations take, not by trying. */
#ifndef WISP_GPU_PERSISTENT_SHAPE_H
#define WISP_GPU_PERSISTENT_SHAPE_H

#include "gpu/layout.h"
#include "wvk.h"

enum { /* the phases that go by rows */
       WISP_P_QKV,
       WISP_P_GATE_UP,
       WISP_P_HEAD_ROWS,
       WISP_P_ROW_PHASES
};

typedef struct wisp_persistent_rows { /* of one or two matrices, times an input */
  uint32_t cols, matrices;
  uint32_t items; /* four rows each, of a workgroup */
  const wisp_layout *layout;
  uint32_t slices; /* invocations that share a row; 0: it cannot be done */
  uint32_t parts;  /* units of a block of 32 weights */
  uint32_t units;  /* that an invocation takes */
} wisp_persistent_rows;

typedef struct wisp_persistent_columns { /* of attn_out, or down, that a workgroup takes */
  const wisp_layout *layout;
  uint32_t parts, units; /* as above */
} wisp_persistent_columns;

typedef struct wisp_persistent_shape {
  uint32_t groups, local;
  wisp_persistent_rows rows[WISP_P_ROW_PHASES];
  wisp_persistent_columns attn_out, down;
  uint32_t hidden;         /* units of a workgroup */
  uint32_t stream, across; /* units of weights that an invocation asks for ahead; of these, units of a later phase */
  uint32_t shared_bytes;   /* shared memory */
} wisp_persistent_shape;

/* Fills all but the layouts of rows, attn_out and down, which the caller has set. groups: wished, or of the device; local:
 * wished, or 0. Returns NULL, or why the device cannot: static text. */
const char *wisp_persistent_choose_shape(const wisp_model *model, const wvk_caps *caps, uint32_t groups, uint32_t local,
                                         wisp_persistent_shape *shape);

#endif
