/* SPDX-License-Identifier: Apache-2.0
 * From an op of the plan to a shader variant, its specialisation constants and its grid. */
#ifndef WISP_GPU_KERNELS_H
#define WISP_GPU_KERNELS_H

#include <string.h>

#include "gpu/choice.h"
#include "gpu/weights.h"
#include "plan/plan.h"
#include "shaders.h"
#include "shared/kernel.h"

/* Where activations lie in a timeline's data buffer, in floats, and how many tokens fit. The same for all timelines of an
 * executor. */
typedef struct wisp_activations {
  uint32_t columns;       /* tokens of a batch */
  uint32_t logit_columns; /* tokens whose logits are held at a time */
  uint32_t x;             /* [columns][width]: residual stream */
  uint32_t q;             /* [columns][heads * head_size] */
  uint32_t attention;     /* [columns][heads * head_size] */
  uint32_t hidden;        /* [columns][ffn_width]; [columns][2 * kv_heads * head_size]: what kv_store takes */
  uint32_t inputs;        /* [columns][wisp_batch_input_floats]: of the tile kernels; only where they are taken */
  uint32_t split_columns;
  uint32_t splits;    /* [WISP_TILE_SPLITS][split_columns][width]: of workgroups that share a tile; only where some do */
  uint32_t projected; /* [columns][width]: what a post norm takes; only where there are some */
  uint32_t logits;    /* [logit_columns][vocabulary rounded up to 4] */
  uint32_t logit_stride;
  uint32_t candidates; /* (logit, id)[logit_columns][candidate_stride] */
  uint32_t candidate_stride;
  uint32_t partials; /* [heads][WISP_MOST_SPLITS][head_size + 2]: lib/splits.glsl */
  uint32_t arrivals; /* [heads] words, 0 when the timeline is made */
  uint32_t rope;     /* (cos, sin)[context][head_size / 2]; last, so that it may have any length */
} wisp_activations;

typedef struct wisp_kernel {
  const wisp_shader *shader;
  uint32_t constants[WISP_C_COUNT];
  uint32_t subgroup_size; /* required; 0 = any */
} wisp_kernel;

static inline bool wisp_kernel_equal(const wisp_kernel *a, const wisp_kernel *b) {
  return a->shader == b->shader && !memcmp(a->constants, b->constants, sizeof a->constants);
}

/* The variant of that name; NULL: not built in. */
const wisp_shader *wisp_shader_find(const char *name);

typedef struct wisp_kernel_call {
  wisp_kernel kernel;
  const wisp_window *window; /* of its block or vocabulary rows, NULL for none */
  uint32_t groups_x;
  uint32_t residual;                 /* fused: the half of the residual stream that it reads */
  uint32_t column_items, items_each; /* what a workgroup takes items_each of: columns, or their queries of a KV head */
} wisp_kernel_call;

static inline uint32_t wisp_kernel_groups_y(const wisp_kernel_call *call, uint32_t columns) {
  return (columns * call->column_items + call->items_each - 1) / call->items_each;
}

/* What all kernels of an executor have in common. */
typedef struct wisp_kernel_context {
  const wisp_model *model;
  const wisp_weights *weights;
  const wvk_caps *caps;
  wisp_activations activations;
  wisp_kv_type kv_type;
  wisp_choice choice; /* zeroed: the kernels choose by themselves */
  bool fused;         /* decode by the fused kernels (fused.h) */
  bool draws;         /* tokens are drawn at random, not the argmax */
  uint32_t refused;   /* what this device does not get right: bit of each op kind whose subgroup variant; of WISP_OP_SAMPLE:
                         the draw; WISP_REFUSED_FUSED, WISP_REFUSED_SPLITS */
} wisp_kernel_context;

#define WISP_REFUSED_FUSED (1u << 31)
#define WISP_REFUSED_SPLITS (1u << 30) /* positions of decode's attention shared by several workgroups */
#define WISP_REFUSED_HALF (1u << 29)   /* f16 arithmetic in matrix.comp */

/* What was chosen, else otherwise. */
static inline uint32_t wisp_chosen(const wisp_kernel_context *context, wisp_knob knob, uint32_t otherwise) {
  return context->choice.knobs[knob] ? context->choice.knobs[knob] : otherwise;
}

/* Fails (UNSUPPORTED, with the reason) for shapes the kernels do not take. */
wisp_status wisp_kernels_check(const wisp_host *host, const wisp_model *model);

/* Plans context->activations; the rest of context is set. */
void wisp_activations_plan(wisp_kernel_context *context, uint32_t columns);

/* The index-th of the three matrices that a kernel's constants have room for. */
void wisp_kernel_set_matrix(uint32_t *constants, uint32_t index, const wisp_placed *placed);

/* How many dispatches op takes: embedding and head one for each of their windows, else one, one more before it where inputs are
 * prepared and one more behind it for a post norm, the norms of a batch's heads, or a batch's K and V in q8_0. */
uint32_t wisp_kernel_parts(const wisp_kernel_context *context, const wisp_op *op, bool batch);

/* Whether decode computes op's products in f16: asked for, and the device and the matrices' layouts have it. */
bool wisp_kernel_halves(const wisp_kernel_context *context, const wisp_op *op);

/* The call for part of op. batch: several tokens at a time. */
wisp_kernel_call wisp_kernel_for(const wisp_kernel_context *context, const wisp_op *op, uint32_t part, bool batch);

#endif
