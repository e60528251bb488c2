/* SPDX-License-Identifier: Apache-2.0 */
#include "gpu/persistent_constants.h"

#include <string.h>

enum {
  SPLIT = 128,  /* positions a workgroup of attention takes */
  AHEAD = 2,    /* of them, an invocation reads at once */
  SPINS = 20000 /* looks at a mail: over 10 ms, a hundred times what one takes */
};

const char *wisp_persistent_shape_for(const wisp_kernel_context *context, uint32_t groups, uint32_t local,
                                      wisp_persistent_shape *shape) {
  const wisp_weights *weights = context->weights;
  const wisp_placed *matrices = weights->blocks[0].matrices;
  *shape = (wisp_persistent_shape){.attn_out.layout = matrices[3].layout, .down.layout = matrices[6].layout};
  shape->rows[WISP_P_QKV].layout = matrices[0].layout;
  shape->rows[WISP_P_GATE_UP].layout = matrices[4].layout;
  shape->rows[WISP_P_HEAD_ROWS].layout = weights->head[0].matrices[0].layout;
  return wisp_persistent_choose_shape(context->model, context->caps, groups, local, shape);
}

static uint32_t float_bits(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}

static void set_matrix(uint32_t *constants, uint32_t index, const wisp_placed *placed) {
  constants[WISP_P_MATRICES + 3 * index] = placed->layout->id;
  constants[WISP_P_MATRICES + 3 * index + 1] = placed->quants;
  constants[WISP_P_MATRICES + 3 * index + 2] = placed->scales;
}

/* Few enough that none is empty: (positions / splits rounded up) * (splits - 1) < positions. */
static uint32_t most_splits(const wisp_model *m, uint32_t groups, uint32_t split) {
  const uint32_t wanted = groups / m->heads, most = split / 2;
  return wanted < 1 || most < 1 ? 1 : wanted < most ? wanted : most;
}

uint64_t wisp_persistent_set_constants(uint32_t c[WISP_P_COUNT], const wisp_kernel_context *context, const wisp_plan *plan,
                                       const wisp_persistent_shape *s, uint32_t split) {
  const wisp_model *m = context->model;
  const wisp_weights *weights = context->weights;
  const wisp_window *block = &weights->blocks[0], *head = &weights->head[0], *embedding = &weights->embedding[0];
  if (!split) split = SPLIT;
  c[WISP_P_LOCAL] = s->local;
  c[WISP_P_SUBGROUP] = context->caps->subgroup_size;
  c[WISP_P_GROUPS] = s->groups;
  c[WISP_P_BLOCKS] = plan->executed_blocks;
  c[WISP_P_REPEAT] = plan->executed_blocks / m->weight_blocks;
  c[WISP_P_WIDTH] = m->width;
  c[WISP_P_FFN_WIDTH] = m->ffn_width;
  c[WISP_P_HEADS] = m->heads;
  c[WISP_P_KV_HEADS] = m->kv_heads;
  c[WISP_P_HEAD_SIZE] = m->head_size;
  c[WISP_P_VOCABULARY] = m->vocabulary;
  c[WISP_P_EPSILON] = float_bits(m->norm_epsilon);
  c[WISP_P_ATTENTION_SCALE] = float_bits(m->attention_scale);
  c[WISP_P_EMBEDDING_SCALE] = float_bits(m->embedding_scale);
  c[WISP_P_GELU] = m->gelu;
  c[WISP_P_ROPE] = context->activations.rope;
  c[WISP_P_ROPE_STRIDE] = wisp_rope_tables(m) * m->head_size;
  c[WISP_P_LOGITS] = context->activations.logits;
  c[WISP_P_FIRST] = (uint32_t)(block->offset / 16);
  c[WISP_P_STRIDE] = m->weight_blocks > 1 ? (uint32_t)((weights->blocks[1].offset - block->offset) / 16) : 0;
  c[WISP_P_EMBEDDING] = (uint32_t)(embedding->offset / 16);
  c[WISP_P_HEAD] = (uint32_t)(head->offset / 16);
  c[WISP_P_ATTN_NORM] = block->vectors[WISP_ATTN_NORM];
  c[WISP_P_FFN_NORM] = block->vectors[WISP_FFN_NORM];
  c[WISP_P_FINAL_NORM] = head->vectors[WISP_FINAL_NORM];
  c[WISP_P_BIAS] = m->blocks[0].q_bias ? block->vectors[WISP_Q_BIAS] : 0;
  for (uint32_t i = 0; i < WISP_WINDOW_MATRICES; i++) set_matrix(c, i, &block->matrices[i]);
  set_matrix(c, 7, &embedding->matrices[0]);
  set_matrix(c, 8, &head->matrices[0]);
  for (uint32_t i = 0; i < WISP_P_ROW_PHASES; i++) {
    c[WISP_P_SLICES + i] = s->rows[i].slices;
    c[WISP_P_PARTS + i] = s->rows[i].parts;
  }
  c[WISP_P_PARTS + WISP_P_ROW_PHASES] = s->attn_out.parts;
  c[WISP_P_PARTS + WISP_P_ROW_PHASES + 1] = s->down.parts;
  c[WISP_P_HIDDEN] = s->hidden;
  c[WISP_P_STREAM] = s->stream;
  c[WISP_P_ACROSS] = s->across;
  c[WISP_P_AHEAD] = AHEAD;
  c[WISP_P_SPLIT] = split;
  c[WISP_P_SPLITS] = most_splits(m, s->groups, split);
  c[WISP_P_SPINS] = SPINS;

  const uint64_t q_rows = m->heads * m->head_size, kv_rows = m->kv_heads * m->head_size;
  const uint64_t mailbox = q_rows + 2 * kv_rows + c[WISP_P_SPLITS] * (q_rows + 2 * m->heads);
  const uint64_t sums = (m->width + 3) / 4 * 16ull;         /* of a set, from the next multiple of 16 on */
  return 8 * (2 * mailbox + 2 * s->groups + 15 + 3 * sums); /* two mailboxes, the candidates, the sums */
}
