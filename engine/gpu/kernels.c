/* SPDX-License-Identifier: Apache-2.0 */
#include "gpu/kernels.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "gpu/batch_kernels.h"
#include "gpu/fused.h"

enum {
  EMBED_LOCAL = 64,
  SAMPLE_LOCAL = WISP_MAX_LOCAL,
  DRAW_LOCAL = 1024 /* the one workgroup has a whole core of a discrete GPU to itself */,
  MATRIX_LOCAL = 128,
  BATCH_LOCAL = 64,
  STORE_LOCAL = 64,
  DIRECT_ATTENTION_LOCAL = 512,
  MOST_QUERIES = 4 /* of a KV head, in attention.comp */
};
enum { BATCH_TILE = 128 }; /* input features staged at a time by the batch kernels: small, for many workgroups a core */

static uint32_t round_up(uint32_t value, uint32_t to) {
  return (value + to - 1) / to * to;
}

static uint32_t float_bits(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}

static bool norms_heads(const wisp_model *m) {
  return m->qk_norm_plain || m->blocks[0].q_norm;
}

wisp_status wisp_kernels_check(const wisp_host *host, const wisp_model *m) {
  if (m->width % 4 || m->ffn_width % 4 || m->head_size % 8 || m->head_size > 2 * WISP_MAX_LOCAL)
    return wisp_fail(host, WISP_ERROR_UNSUPPORTED,
                     "%s: the GPU kernels need width %u and FFN width %u divisible by 4, head size %u by 8 and at most %u; "
                     "run it with --device cpu",
                     m->name, m->width, m->ffn_width, m->head_size, 2 * WISP_MAX_LOCAL);
  if (norms_heads(m) && (m->head_size & (m->head_size - 1) || m->head_size > WISP_MAX_LOCAL))
    return wisp_fail(host, WISP_ERROR_UNSUPPORTED,
                     "%s: the GPU kernels norm heads of 8, 16, ... 256, not of %u; run it with --device cpu", m->name,
                     m->head_size);
  return WISP_OK;
}

/* The head stays outside the 8-bit scheme, as the embedding does. */
static bool rounds_inputs(const wisp_model *m, wisp_op_kind kind) {
  return m->int8_activations && kind != WISP_OP_ATTENTION && kind != WISP_OP_HEAD;
}

/* What only matrix.comp does of a token alone: whole heads in a workgroup, inputs rounded to 8 bits. */
static bool needs_plain(const wisp_model *m, wisp_op_kind kind) {
  return (kind == WISP_OP_QKV && norms_heads(m)) || rounds_inputs(m, kind);
}

/* A batch of tokens together; else token by token, and so with one dispatch where the self-test refused what has several. */
static bool takes_batch(const wisp_kernel_context *context, wisp_op_kind kind) {
  const bool apart = kind == WISP_OP_QKV && norms_heads(context->model);
  return !rounds_inputs(context->model, kind) && !(apart && context->refused & 1u << kind);
}

/* Heads of a batch are normed by a dispatch of its own, behind the product. */
static bool norms_apart(const wisp_kernel_context *context, const wisp_op *op, bool batch) {
  return batch && op->kind == WISP_OP_QKV && norms_heads(context->model) &&
         (wisp_batch_tiles(context, op) || takes_batch(context, op->kind));
}

/* Whether workgroups of attention of that size fit; direct: those of attention_direct.comp. */
static bool attention_local_fits(const wisp_kernel_context *context, uint32_t local, bool direct) {
  const wvk_caps *caps = context->caps;
  const uint32_t head_size = context->model->head_size, most = direct ? caps->max_workgroup : WISP_MAX_LOCAL;
  if (local > most || local < caps->subgroup_max || local < head_size / 2) return false;
  return !direct || local / caps->subgroup_min * (head_size + 2) * sizeof(float) <= caps->shared_memory;
}

static uint32_t attention_local(const wisp_kernel_context *context, bool direct) {
  const uint32_t usual = direct                                         ? DIRECT_ATTENTION_LOCAL
                         : context->model->head_size > MATRIX_LOCAL * 2 ? WISP_MAX_LOCAL
                                                                        : MATRIX_LOCAL;
  const uint32_t local = wisp_chosen(context, WISP_KNOB_ATTENTION_LOCAL, usual);
  return attention_local_fits(context, local, direct) ? local : usual;
}

/* The decode kernels that read inputs straight from memory: where loads are cached and threads are plenty. */
static bool takes_direct(const wisp_kernel_context *context, wisp_op_kind kind, bool batch) {
  const wvk_caps *caps = context->caps;
  const wisp_reductions usual = caps->kind == WVK_KIND_DISCRETE ? WISP_DIRECT : WISP_SUBGROUP;
  if (batch || wisp_chosen(context, WISP_KNOB_REDUCTIONS, usual) != WISP_DIRECT) return false;
  if (!caps->subgroup_shuffle || context->refused & 1u << kind) return false;
  if (kind == WISP_OP_QKV && context->kv_type == WISP_KV_Q8_0) return false; /* its workgroups have fewer rows than a block */
  if (caps->subgroup_min < 8) return false;                                  /* 8 rows side by side meet by shuffles */
  if (needs_plain(context->model, kind)) return false;
  if (kind == WISP_OP_HEAD) return wisp_team_fits(context, &context->weights->head[0].matrices[0]);
  if (kind != WISP_OP_ATTENTION) return true;
  const uint32_t head_size = context->model->head_size, team = head_size / 8; /* invocations that share a position */
  return !(team & (team - 1)) && team <= caps->subgroup_min &&
         attention_local_fits(context, attention_local(context, true), true);
}

/* Subgroup variants, where this device gets them right. Those of the batch kernels replace loads by shuffles, which only pays
 * on a CPU, and need subgroups of one size, at least 8. */
static bool takes_subgroup(const wisp_kernel_context *context, wisp_op_kind kind, bool batch) {
  const wvk_caps *caps = context->caps;
  if (!caps->subgroup_shuffle || context->refused & 1u << kind) return false;
  if (!batch && wisp_chosen(context, WISP_KNOB_REDUCTIONS, WISP_SUBGROUP) == WISP_SHARED) return false;
  return !batch || (caps->kind == WVK_KIND_SOFTWARE && caps->subgroup_min >= 8 && caps->subgroup_min == caps->subgroup_max);
}

bool wisp_kernel_halves(const wisp_kernel_context *context, const wisp_op *op) {
  if (!op->matrix_count || op->kind == WISP_OP_EMBED || context->choice.knobs[WISP_KNOB_ARITHMETIC] != WISP_ARITHMETIC_F16)
    return false;
  if (!context->caps->float16 || context->caps->wrong_float16 || context->refused & WISP_REFUSED_HALF) return false;
  if (rounds_inputs(context->model, op->kind) || takes_direct(context, op->kind, false)) return false;
  static const uint32_t orders[] = {[WISP_LAYOUT_F16] = 1, [WISP_LAYOUT_Q4S] = 2, [WISP_LAYOUT_Q4A] = 2,
                                    [WISP_LAYOUT_Q8S] = 3, [WISP_LAYOUT_Q8A] = 3, [WISP_LAYOUT_Q8H] = 3};
  const uint32_t order = orders[wisp_layout_for(op->matrices[0]->type)->id];
  for (uint32_t i = 1; i < op->matrix_count; i++)
    if (orders[wisp_layout_for(op->matrices[i]->type)->id] != order) return false;
  return order != 0;
}

typedef struct geometry {
  uint32_t local, slices;
} geometry;

/* Of the ops with matrices. */
static const wisp_knob slices_knobs[] = {[WISP_OP_QKV] = WISP_KNOB_QKV_SLICES,
                                         [WISP_OP_ATTN_OUT] = WISP_KNOB_ATTN_OUT_SLICES,
                                         [WISP_OP_GATE_UP] = WISP_KNOB_GATE_UP_SLICES,
                                         [WISP_OP_DOWN] = WISP_KNOB_DOWN_SLICES,
                                         [WISP_OP_HEAD] = WISP_KNOB_HEAD_SLICES};

/* Of decode's matrix kernels. */
static geometry matrix_geometry(const wisp_kernel_context *context, wisp_op_kind kind, uint32_t rows, uint32_t cols) {
  const uint32_t blocks = wisp_layout_row_blocks(cols);
  if (takes_direct(context, kind, false)) {
    /* As few rounds as 512 invocations allow; whole groups of 4 slices, so that shuffles can add them. */
    uint32_t most = wisp_chosen(context, slices_knobs[kind], 64);
    if (most > 32 && context->caps->max_workgroup < 512) most = 32;
    const uint32_t rounds = (blocks + most - 1) / most, slices = round_up((blocks + rounds - 1) / rounds, 4);
    return (geometry){8 * slices, slices};
  }
  if (kind == WISP_OP_QKV && norms_heads(context->model))
    return (geometry){WISP_MAX_LOCAL, WISP_MAX_LOCAL / context->model->head_size};
  if (kind == WISP_OP_QKV && context->kv_type == WISP_KV_Q8_0)
    return (geometry){WISP_MAX_LOCAL, WISP_MAX_LOCAL / WISP_KV_BLOCK};
  uint32_t local = wisp_chosen(context, WISP_KNOB_MATRIX_LOCAL, MATRIX_LOCAL);
  if (local < context->caps->subgroup_max) local = MATRIX_LOCAL;
  uint32_t slices = wisp_chosen(context, slices_knobs[kind], rows > 8192 ? 4 : local / 8);
  while (slices > 1 && (slices > blocks || slices > local / 8)) slices /= 2;
  return (geometry){local, slices};
}

static uint32_t row_groups(geometry g, uint32_t rows) {
  const uint32_t group_rows = g.local / g.slices;
  return (rows + group_rows - 1) / group_rows;
}

/* Workgroups of the head in decode, each leaves one candidate. */
static uint32_t head_groups(const wisp_kernel_context *context, uint32_t part) {
  const uint32_t rows = context->weights->head[part].rows;
  if (takes_direct(context, WISP_OP_HEAD, false)) {
    const uint32_t each = wisp_team_head_rows(context, &context->weights->head[part].matrices[0]);
    return (rows + each - 1) / each;
  }
  return row_groups(matrix_geometry(context, WISP_OP_HEAD, rows, context->model->width), rows);
}

void wisp_activations_plan(wisp_kernel_context *context, uint32_t columns) {
  const wisp_model *m = context->model;
  wisp_activations *a = &context->activations;
  const uint32_t q = m->heads * m->head_size, kv = 2 * m->kv_heads * m->head_size;
  *a = (wisp_activations){
      .columns = columns, .split_columns = columns, .logit_columns = 16, .logit_stride = round_up(m->vocabulary, 4)};
  for (uint32_t i = 0; i < context->weights->head_parts; i++) a->candidate_stride += head_groups(context, i);
  /* Whatever is chosen: the others' places must not depend on it, since kernels know them. */
  const uint32_t most_candidates = m->vocabulary / WISP_ROW_TILE + context->weights->head_parts;
  uint32_t at = 0;
  const struct {
    uint32_t *offset, floats;
  } parts[] = {
      {&a->x, columns * m->width},
      {&a->q, columns * q},
      {&a->attention, columns * q},
      {&a->hidden, columns * (m->ffn_width > kv ? m->ffn_width : kv)},
      {&a->inputs, columns * wisp_batch_input_floats(context)},
      {&a->splits, columns * wisp_batch_split_floats(context)},
      {&a->projected, m->blocks[0].attn_post_norm ? columns * m->width : 0},
      {&a->logits, a->logit_columns * a->logit_stride},
      {&a->candidates, a->logit_columns * most_candidates * 2},
      {&a->partials, m->heads * WISP_MOST_SPLITS * (m->head_size + 2)},
      {&a->arrivals, m->heads},
  };
  for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
    *parts[i].offset = at;
    at = round_up(at + parts[i].floats, 64);
  }
  a->rope = at;
}

const wisp_shader *wisp_shader_find(const char *name) {
  for (uint32_t i = 0; i < wisp_shader_count; i++)
    if (!strcmp(wisp_shaders[i].name, name)) return &wisp_shaders[i];
  return NULL;
}

/* base, or its _batch, _wide, _half, _subgroup or _direct variant. */
static const wisp_shader *choose_shader(const wisp_kernel_context *context, const wisp_op *op, const char *base, bool batch) {
  char name[48];
  const wisp_op_kind kind = op->kind;
  const bool subgroup = takes_subgroup(context, kind, batch);
  const bool direct = takes_direct(context, kind, batch);
  snprintf(name, sizeof name, "%s%s%s", base,
           batch                             ? "_batch"
           : wisp_kernel_halves(context, op) ? "_half"
                                             : "",
           direct                                    ? "_direct"
           : subgroup                                ? "_subgroup"
           : batch && wisp_batch_wide(context->caps) ? "_wide"
                                                     : "");
  return wisp_shader_find(name);
}

void wisp_kernel_set_matrix(uint32_t *constants, uint32_t index, const wisp_placed *placed) {
  constants[WISP_C_LAYOUT0 + 3 * index] = placed->layout->id;
  constants[WISP_C_QUANTS0 + 3 * index] = placed->quants;
  constants[WISP_C_SCALES0 + 3 * index] = placed->scales;
}

/* x, y and their strides for the ops with matrices. */
static void set_data(uint32_t *constants, uint32_t x, uint32_t x_stride, uint32_t y, uint32_t y_stride) {
  constants[WISP_C_X] = x;
  constants[WISP_C_X_STRIDE] = x_stride;
  constants[WISP_C_Y] = y;
  constants[WISP_C_Y_STRIDE] = y_stride;
}

static void set_heads(uint32_t *constants, const wisp_kernel_context *context) {
  constants[WISP_C_HEADS] = context->model->heads;
  constants[WISP_C_KV_HEADS] = context->model->kv_heads;
  constants[WISP_C_HEAD_SIZE] = context->model->head_size;
  constants[WISP_C_KV_TYPE] = context->kv_type;
}

/* Geometry of decode's matrix kernels. */
static void set_rows(wisp_kernel_call *call, const wisp_kernel_context *context, wisp_op_kind kind) {
  uint32_t *c = call->kernel.constants;
  const uint32_t rows = c[WISP_C_ROWS], cols = c[WISP_C_COLS], tiles = (cols + WISP_TILE_FLOATS - 1) / WISP_TILE_FLOATS;
  const geometry g = matrix_geometry(context, kind, rows, cols);
  c[WISP_C_LOCAL] = g.local;
  c[WISP_C_SLICES] = g.slices;
  c[WISP_C_TILE] = takes_direct(context, kind, false) ? 0 : round_up((cols + tiles - 1) / tiles, 32);
  call->groups_x = row_groups(g, rows);
}

/* Geometry of the batch's matrix kernels. */
static void set_batch_rows(wisp_kernel_call *call, const wisp_kernel_context *context, wisp_op_kind kind) {
  uint32_t *c = call->kernel.constants;
  const bool subgroup = takes_subgroup(context, kind, true);
  const uint32_t matrices = kind == WISP_OP_GATE_UP ? 2 : 1;
  const uint32_t rows_each = (subgroup || wisp_batch_wide(context->caps) ? WISP_BATCH_WIDE_ROWS : WISP_BATCH_ROWS) / matrices;
  c[WISP_C_LOCAL] = subgroup ? context->caps->subgroup_size : BATCH_LOCAL;
  c[WISP_C_TILE] = BATCH_TILE;
  call->groups_x = (c[WISP_C_ROWS] + c[WISP_C_LOCAL] * rows_each - 1) / (c[WISP_C_LOCAL] * rows_each);
  call->items_each = WISP_BATCH_COLUMNS;
}

/* Shader, shape and grid of an op with matrices: rows of all of them together (gate_up: of one), cols input features. */
static void set_matmul(wisp_kernel_call *call, const wisp_kernel_context *context, const wisp_op *op, const char *base,
                       uint32_t rows, uint32_t cols, bool batch) {
  const wisp_op_kind kind = op->kind;
  batch = batch && takes_batch(context, kind);
  call->kernel.shader = choose_shader(context, op, base, batch);
  call->kernel.constants[WISP_C_ROUND] = rounds_inputs(context->model, kind);
  call->kernel.constants[WISP_C_ROWS] = rows;
  call->kernel.constants[WISP_C_COLS] = cols;
  (batch ? set_batch_rows : set_rows)(call, context, kind);
}

/* Decode's attention: many positions are shared by several workgroups a head. Outside discrete GPUs these take QUERIES heads at
 * a time, since there reading K and V is what counts; on them, by measure, the splits' meeting is paid for late. */
static void set_splits(wisp_kernel_call *call, const wisp_kernel_context *context, bool batch) {
  const wisp_model *m = context->model;
  const bool direct = takes_direct(context, WISP_OP_ATTENTION, false);
  const uint32_t group = m->heads / m->kv_heads;
  uint32_t *c = call->kernel.constants, queries = 1;
  c[WISP_C_QUERIES] = c[WISP_C_SPLITS] = 1;
  if (batch) return;
  c[WISP_C_SPLIT_FROM] = direct ? 640 : 384;
  if (context->refused & WISP_REFUSED_SPLITS) return;
  for (uint32_t i = 2; i <= MOST_QUERIES && !direct; i++)
    if (group % i == 0 && i * m->head_size <= 2 * WISP_MAX_LOCAL) queries = i;
  c[WISP_C_QUERIES] = queries;
  c[WISP_C_SPLITS] = direct ? 4 : WISP_MOST_SPLITS / queries * queries;
  c[WISP_C_PARTIALS] = context->activations.partials;
  c[WISP_C_ARRIVALS] = context->activations.arrivals;
  call->column_items = c[WISP_C_SPLITS] / queries;
}

/* Shader and grid of attention. */
static void set_attention(wisp_kernel_call *call, const wisp_kernel_context *context, const wisp_op *op, bool batch) {
  const wisp_model *m = context->model;
  uint32_t *c = call->kernel.constants;
  if (batch && wisp_batch_attention(call, context)) return;
  call->kernel.shader = choose_shader(context, op, "attention", batch);
  if (batch) {
    const bool subgroup = takes_subgroup(context, WISP_OP_ATTENTION, batch);
    c[WISP_C_LOCAL] = subgroup ? context->caps->subgroup_size : BATCH_LOCAL;
    call->groups_x = m->kv_heads;
    call->column_items = m->heads / m->kv_heads;
    call->items_each = subgroup || wisp_batch_wide(context->caps) ? WISP_BATCH_WIDE_QUERIES : WISP_BATCH_QUERIES;
    return;
  }
  const bool direct = takes_direct(context, WISP_OP_ATTENTION, batch);
  c[WISP_C_LOCAL] = attention_local(context, direct);
  if (direct) c[WISP_C_SUBGROUPS] = c[WISP_C_LOCAL] / context->caps->subgroup_min;
  call->groups_x = m->heads;
}

static void set_norm(uint32_t *constants, const wisp_kernel_context *context, uint32_t norm) {
  constants[WISP_C_NORM] = norm;
  constants[WISP_C_EPSILON] = float_bits(context->model->norm_epsilon);
}

/* A batch's K and V become q8_0 in a dispatch of their own. */
static bool stores_apart(const wisp_kernel_context *context, const wisp_op *op, bool batch) {
  return batch && op->kind == WISP_OP_QKV && context->kv_type == WISP_KV_Q8_0 &&
         (wisp_batch_tiles(context, op) || takes_batch(context, op->kind));
}

static void set_kv_store(wisp_kernel_call *call, const wisp_kernel_context *context) {
  uint32_t *c = call->kernel.constants;
  call->kernel.shader = wisp_shader_find("kv_store");
  c[WISP_C_LOCAL] = STORE_LOCAL;
  c[WISP_C_KV_HEADS] = context->model->kv_heads;
  c[WISP_C_HEAD_SIZE] = context->model->head_size;
  c[WISP_C_KV_TYPE] = context->kv_type;
  c[WISP_C_STAGED] = context->activations.hidden;
  call->groups_x = 1;
  call->column_items = context->model->kv_heads * context->model->head_size / WISP_KV_BLOCK;
  call->items_each = STORE_LOCAL;
}

uint32_t wisp_kernel_parts(const wisp_kernel_context *context, const wisp_op *op, bool batch) {
  if (!batch && context->fused) return wisp_fused_parts(context, op);
  if (op->kind == WISP_OP_EMBED) return context->weights->embedding_parts;
  if (op->kind == WISP_OP_HEAD) return context->weights->head_parts;
  return (batch ? wisp_batch_parts(context, op) : 1) + norms_apart(context, op, batch) + stores_apart(context, op, batch) +
         (op->post_norm != NULL);
}

/* y += M x; with a post norm the product goes elsewhere, and the second part adds it. */
static void set_residual(wisp_kernel_call *call, const wisp_kernel_context *context, const wisp_op *op, uint32_t part,
                         bool batch, uint32_t x, uint32_t matrix) {
  const wisp_model *m = context->model;
  const wisp_activations *a = &context->activations;
  const uint32_t cols = op->matrices[0]->cols;
  uint32_t *c = call->kernel.constants;
  if (part == 1) {
    call->kernel.shader = wisp_shader_find("post_norm");
    c[WISP_C_LOCAL] = WISP_MAX_LOCAL;
    c[WISP_C_COLS] = m->width;
    set_data(c, a->projected, m->width, a->x, m->width);
    set_norm(c, context, call->window->vectors[op->kind == WISP_OP_DOWN ? WISP_FFN_POST_NORM : WISP_ATTN_POST_NORM]);
    call->groups_x = 1;
    return;
  }
  set_matmul(call, context, op, "residual", m->width, cols, batch);
  set_data(c, x, cols, op->post_norm ? a->projected : a->x, m->width);
  wisp_kernel_set_matrix(c, 0, &call->window->matrices[matrix]);
  c[WISP_C_ADD] = !op->post_norm;
}

/* The product of q, k and v; where heads are normed apart, it leaves k where attention's results will be, and the second part
 * finishes; where K and V are stored apart, the last part does. */
static void set_qkv(wisp_kernel_call *call, const wisp_kernel_context *context, const wisp_op *op, uint32_t part, bool batch) {
  const wisp_model *m = context->model;
  const wisp_activations *a = &context->activations;
  const uint32_t q_rows = m->heads * m->head_size, kv_rows = m->kv_heads * m->head_size, tables = wisp_rope_tables(m);
  uint32_t *c = call->kernel.constants;
  if (stores_apart(context, op, batch) && part == 1u + norms_apart(context, op, batch)) {
    set_kv_store(call, context);
    return;
  }
  set_heads(c, context);
  if (stores_apart(context, op, batch)) c[WISP_C_STAGED] = a->hidden;
  c[WISP_C_ROPE] = a->rope + (tables > 1 && op->block->window ? m->head_size : 0);
  c[WISP_C_ROPE_STRIDE] = tables * m->head_size;
  c[WISP_C_HEAD_NORM] = op->block->q_norm ? 4 * call->window->vectors[WISP_Q_NORM] : m->qk_norm_plain;
  if (part == 1) {
    call->kernel.shader = wisp_shader_find("head_norm");
    c[WISP_C_LOCAL] = m->head_size / 2;
    set_data(c, a->attention, q_rows, a->q, q_rows);
    c[WISP_C_EPSILON] = float_bits(m->norm_epsilon);
    call->groups_x = m->heads + m->kv_heads;
    return;
  }
  set_matmul(call, context, op, "qkv", q_rows + 2 * kv_rows, m->width, batch);
  set_data(c, a->x, m->width, a->q, q_rows);
  set_norm(c, context, call->window->vectors[WISP_ATTN_NORM]);
  for (uint32_t i = 0; i < 3; i++) wisp_kernel_set_matrix(c, i, &call->window->matrices[i]);
  if (op->block->q_bias) c[WISP_C_BIAS] = 4 * call->window->vectors[WISP_Q_BIAS];
  if (norms_apart(context, op, batch)) {
    c[WISP_C_HEAD_NORM] = 0;
    c[WISP_C_RAW_K] = a->attention;
  }
}

static wisp_kernel_call call_for(const wisp_kernel_context *context, const wisp_op *op, uint32_t part, bool batch) {
  const wisp_model *m = context->model;
  const wisp_activations *a = &context->activations;
  const uint32_t q_rows = m->heads * m->head_size;
  wisp_kernel_call call = {.column_items = 1, .items_each = 1};
  uint32_t *c = call.kernel.constants;
  if (op->executed_block >= 0) call.window = &context->weights->blocks[op->weight_block];
  switch (op->kind) {
  case WISP_OP_EMBED:
    call.window = &context->weights->embedding[part];
    call.kernel.shader = wisp_shader_find("embed");
    c[WISP_C_LOCAL] = EMBED_LOCAL;
    c[WISP_C_COLS] = m->width;
    c[WISP_C_ROWS] = call.window->rows;
    c[WISP_C_ROW_BEGIN] = call.window->row_begin;
    c[WISP_C_Y] = a->x;
    c[WISP_C_Y_STRIDE] = m->width;
    c[WISP_C_SCALE] = float_bits(m->embedding_scale);
    wisp_kernel_set_matrix(c, 0, &call.window->matrices[0]);
    call.groups_x = (m->width / 4 + EMBED_LOCAL - 1) / EMBED_LOCAL;
    break;
  case WISP_OP_QKV:
    set_qkv(&call, context, op, part, batch);
    break;
  case WISP_OP_ATTENTION:
    set_data(c, a->q, q_rows, a->attention, q_rows);
    set_attention(&call, context, op, batch && m->head_size <= 4 * BATCH_LOCAL);
    set_splits(&call, context, batch);
    c[WISP_C_WINDOW] = op->block->window;
    set_heads(c, context);
    c[WISP_C_SCALE] = float_bits(m->attention_scale);
    break;
  case WISP_OP_ATTN_OUT:
    set_residual(&call, context, op, part, batch, a->attention, 3);
    break;
  case WISP_OP_GATE_UP:
    set_matmul(&call, context, op, "gate_up", m->ffn_width, m->width, batch);
    set_data(c, a->x, m->width, a->hidden, m->ffn_width);
    set_norm(c, context, call.window->vectors[WISP_FFN_NORM]);
    for (uint32_t i = 0; i < 2; i++) wisp_kernel_set_matrix(c, i, &call.window->matrices[4 + i]);
    c[WISP_C_GELU] = m->gelu;
    break;
  case WISP_OP_DOWN:
    set_residual(&call, context, op, part, batch, a->hidden, 6);
    break;
  case WISP_OP_HEAD:
    call.window = &context->weights->head[part];
    set_matmul(&call, context, op, "head", call.window->rows, m->width, batch);
    set_data(c, a->x, m->width, a->logits, a->logit_stride);
    set_norm(c, context, call.window->vectors[WISP_FINAL_NORM]);
    wisp_kernel_set_matrix(c, 0, &call.window->matrices[0]);
    if (takes_direct(context, op->kind, batch)) wisp_team_head(&call, context);
    c[WISP_C_ROW_BEGIN] = call.window->row_begin;
    c[WISP_C_CANDIDATES] = a->candidates;
    c[WISP_C_CANDIDATE_STRIDE] = a->candidate_stride;
    for (uint32_t i = 0; i < part; i++) c[WISP_C_CANDIDATE_BEGIN] += head_groups(context, i);
    break;
  case WISP_OP_SAMPLE:
    call.groups_x = 1;
    c[WISP_C_LOCAL] = SAMPLE_LOCAL;
    if (context->draws) {
      call.kernel.shader = wisp_shader_find("draw");
      if (context->caps->kind == WVK_KIND_DISCRETE && context->caps->max_workgroup >= DRAW_LOCAL) c[WISP_C_LOCAL] = DRAW_LOCAL;
      c[WISP_C_COLS] = m->vocabulary;
      c[WISP_C_X] = a->logits;
      c[WISP_C_X_STRIDE] = a->logit_stride;
      break;
    }
    call.kernel.shader = wisp_shader_find("sample");
    c[WISP_C_CANDIDATES] = a->candidates;
    c[WISP_C_CANDIDATE_STRIDE] = a->candidate_stride;
    break;
  }
  return call;
}

wisp_kernel_call wisp_kernel_for(const wisp_kernel_context *context, const wisp_op *op, uint32_t part, bool batch) {
  if (!batch && context->fused) {
    wisp_kernel_call call = call_for(context, op, part, false);
    wisp_fused_call(&call, context, op, part);
    return call;
  }
  if (!batch || !wisp_batch_tiles(context, op)) return call_for(context, op, part, batch);
  const uint32_t first = wisp_batch_parts(context, op); /* of them make what call_for has as part 0 */
  wisp_kernel_call call = call_for(context, op, part < first ? 0 : part - first + 1, batch);
  if (part < first) wisp_batch_part(&call, context, op, part);
  return call;
}
