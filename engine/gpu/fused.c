/* SPDX-License-Identifier: Apache-2.0 */
#include "gpu/fused.h"

#include <stdlib.h>
#include <string.h>

enum {
  SETTLE_LOCAL = 64,
  ATTENTION_LOCAL = 512,
  ATTENTION_SLICES = 6, /* of the output projection's rows: workgroups of a head */
  QKV_ROWS = 8,
  TEAM_LOCAL = 640, /* invocations of matvec_team.comp */
  MOST_AHEAD = 4,   /* rounds there */
  WORDS_AHEAD = 72, /* of weights in an invocation's registers: with 640 invocations more would spill on 64 K registers */
  HEAD_ROWS = 128,
  HEAD_SUMS = 5120, /* floats of shared memory */
  WIDE_GROUPS = 192 /* workgroups, beyond which each makes twice as much: of gate_up 32 hidden units, of qkv 16 rows */
};

static uint32_t divide_up(uint32_t value, uint32_t by) {
  return (value + by - 1) / by;
}

/* The last block's residual stream becomes floats, for the head. */
static bool settles(const wisp_kernel_context *context, const wisp_op *op) {
  const wisp_model *m = context->model;
  return op->kind == WISP_OP_GATE_UP && op->executed_block + 1 == (int32_t)(m->weight_blocks * m->block_repeat);
}

uint32_t wisp_fused_parts(const wisp_kernel_context *context, const wisp_op *op) {
  switch (op->kind) {
  case WISP_OP_ATTN_OUT:
  case WISP_OP_DOWN:
    return 0;
  case WISP_OP_EMBED:
    return context->weights->embedding_parts;
  case WISP_OP_HEAD:
    return context->weights->head_parts;
  default:
    return 1 + settles(context, op);
  }
}

/* Units of a block of 32 weights, of which matvec_team.comp's and attention_fused.comp's hold at most 16 words. */
static uint32_t least_parts(const wisp_placed *placed) {
  return placed->layout->quant_bytes > 64 ? 2 : 1;
}

/* At most so many invocations has a workgroup of matvec_team.comp. */
static uint32_t team_local(const wisp_kernel_context *context) {
  const uint32_t local = wisp_chosen(context, WISP_KNOB_TEAM_LOCAL, TEAM_LOCAL), most = context->caps->max_workgroup;
  return local < most ? local : most;
}

static uint32_t team_size(uint32_t cols, uint32_t parts) {
  return 8 * divide_up(cols, 32) * parts;
}

/* 2 where a team of them has the invocations, else as few as there can be. */
static uint32_t more_parts(const wisp_kernel_context *context, const wisp_placed *placed) {
  return team_size(context->model->width, 2) <= team_local(context) ? 2 : least_parts(placed);
}

static uint32_t chosen_parts(const wisp_kernel_context *context, wisp_knob knob, const wisp_placed *placed, uint32_t usual) {
  const uint32_t parts = wisp_chosen(context, knob, usual);
  return parts < least_parts(placed) || team_size(context->model->width, parts) > team_local(context) ? usual : parts;
}

static uint32_t unit_words(const wisp_placed *placed, uint32_t parts) {
  return placed->layout->quant_bytes / 4 / parts + 1;
}

bool wisp_team_fits(const wisp_kernel_context *context, const wisp_placed *matrix) {
  return context->caps->shared_memory >= 32768 && team_size(context->model->width, least_parts(matrix)) <= team_local(context);
}

static uint32_t words_ahead(const wisp_kernel_context *context) {
  return wisp_chosen(context, WISP_KNOB_AHEAD_WORDS, WORDS_AHEAD);
}

/* matvec_team.comp's geometry: rows a workgroup, all of whose tiles have a subgroup to add them up; as many teams as there are
 * invocations for and tiles keep busy in as few rounds; weights of several rounds at a time where registers last. */
static void set_team(uint32_t *c, const wisp_kernel_context *context, uint32_t rows, const wisp_placed *matrix,
                     uint32_t matrices, uint32_t parts) {
  const wvk_caps *caps = context->caps;
  const uint32_t team = team_size(c[WISP_C_COLS], parts), most = team_local(context) / team;
  const uint32_t rounds = divide_up(rows / 8, most), fit = words_ahead(context) / (matrices * unit_words(matrix, parts));
  uint32_t ahead = rounds < MOST_AHEAD ? rounds : MOST_AHEAD;
  if (ahead > fit) ahead = fit ? fit : 1;
  uint32_t local = team * divide_up(rows / 8, rounds);
  if (local < rows / 8 * caps->subgroup_max) local = rows / 8 * caps->subgroup_max;
  c[WISP_C_LOCAL] = divide_up(local, caps->subgroup_max) * caps->subgroup_max;
  c[WISP_C_SLICES] = c[WISP_C_TILE] = 0;
  c[WISP_C_TILE_ROWS] = rows;
  c[WISP_C_PARTS] = parts;
  c[WISP_C_AHEAD] = ahead;
}

/* 8 rows a workgroup; where there are too many workgroups then, two tiles of 8 side by side, of whole blocks if two teams fit.
 */
static void set_qkv_team(uint32_t *c, const wisp_kernel_context *context, const wisp_placed *matrix) {
  const uint32_t least = least_parts(matrix);
  const bool wide = c[WISP_C_ROWS] > QKV_ROWS * WIDE_GROUPS && 2 * team_size(c[WISP_C_COLS], least) <= team_local(context);
  const uint32_t usual = wide ? least : more_parts(context, matrix);
  set_team(c, context, wisp_chosen(context, WISP_KNOB_QKV_ROWS, wide ? 2 * QKV_ROWS : QKV_ROWS), matrix, 1,
           chosen_parts(context, WISP_KNOB_QKV_PARTS, matrix, usual));
}

/* As many as have a subgroup for each tile, and sums of their units in half of the shared memory that is always there. */
uint32_t wisp_team_head_rows(const wisp_kernel_context *context, const wisp_placed *matrix) {
  const uint32_t most = wisp_chosen(context, WISP_KNOB_HEAD_ROWS, HEAD_ROWS);
  uint32_t rows = 8 * (team_local(context) / context->caps->subgroup_max);
  if (rows > most) rows = most;
  while (rows > 8 && rows * divide_up(context->model->width, 32) * least_parts(matrix) > HEAD_SUMS) rows -= 8;
  return rows;
}

void wisp_team_head(wisp_kernel_call *call, const wisp_kernel_context *context) {
  uint32_t *c = call->kernel.constants;
  const wisp_placed *matrix = &call->window->matrices[0];
  set_team(c, context, wisp_team_head_rows(context, matrix), matrix, 1, least_parts(matrix));
  call->groups_x = divide_up(c[WISP_C_ROWS], c[WISP_C_TILE_ROWS]);
}

static uint32_t attention_local(const wisp_kernel_context *context) {
  return wisp_chosen(context, WISP_KNOB_ATTENTION_LOCAL, ATTENTION_LOCAL);
}

/* Of the output projection's rows, those of a workgroup of attention. */
static uint32_t attention_rows(const wisp_kernel_context *context) {
  const uint32_t groups = wisp_chosen(context, WISP_KNOB_ATTENTION_GROUPS, ATTENTION_SLICES);
  return divide_up(divide_up(context->model->width, groups), 8) * 8;
}

/* Matrices of one kernel have units of one size. */
static bool block_fits(const wisp_kernel_context *context, uint32_t block) {
  const wisp_model *m = context->model;
  const wisp_block *b = &m->blocks[block];
  const wisp_placed *matrices = context->weights->blocks[block].matrices;
  if (b->q_norm || b->attn_post_norm || b->ffn_post_norm) return false;
  if (least_parts(&matrices[1]) != least_parts(&matrices[0]) || least_parts(&matrices[2]) != least_parts(&matrices[0]))
    return false;
  if (least_parts(&matrices[4]) != least_parts(&matrices[5])) return false;
  return wisp_team_fits(context, &matrices[0]) && wisp_team_fits(context, &matrices[4]) &&
         attention_rows(context) * (m->head_size / 32) * least_parts(&matrices[3]) <= MOST_AHEAD * attention_local(context);
}

bool wisp_fused_fits(const wisp_kernel_context *context) {
  const wisp_model *m = context->model;
  const wvk_caps *caps = context->caps;
  const char *wanted = getenv("WISP_FUSED");
  const wisp_switch usual = caps->kind == WVK_KIND_DISCRETE ? WISP_ON : WISP_OFF;
  if (wanted && *wanted ? *wanted == '0' : wisp_chosen(context, WISP_KNOB_FUSED, usual) == WISP_OFF) return false;
  if (context->refused & WISP_REFUSED_FUSED) return false;
  if (!caps->atomic64 || !caps->subgroup_shuffle || caps->subgroup_min < 8 || caps->storage_buffers < WISP_FUSED_BINDINGS)
    return false;
  const uint32_t team = m->head_size / 8, local = attention_local(context), subgroups = local / caps->subgroup_min;
  if (local > caps->max_workgroup || local % caps->subgroup_max) return false;
  if (m->head_size % 32 || team & (team - 1) || team > caps->subgroup_min) return false;
  if (subgroups * (m->head_size + 2) * 4 + MOST_AHEAD * local * 4 + 2048 > caps->shared_memory) return false;
  if (m->int8_activations || m->qk_norm_plain || context->kv_type == WISP_KV_Q8_0) return false;
  for (uint32_t i = 0; i < m->weight_blocks; i++)
    if (!block_fits(context, i)) return false;
  return true;
}

void wisp_fused_call(wisp_kernel_call *call, const wisp_kernel_context *context, const wisp_op *op, uint32_t part) {
  const wisp_model *m = context->model;
  const wvk_caps *caps = context->caps;
  uint32_t *c = call->kernel.constants;
  const wisp_placed *matrices = call->window ? call->window->matrices : NULL;
  if (part && settles(context, op)) {
    *call = (wisp_kernel_call){.kernel.shader = wisp_shader_find("settle"),
                               .groups_x = divide_up(m->width, SETTLE_LOCAL),
                               .column_items = 1,
                               .items_each = 1,
                               .residual = ~(uint32_t)op->executed_block & 1};
    call->kernel.constants[WISP_C_LOCAL] = SETTLE_LOCAL;
    call->kernel.constants[WISP_C_COLS] = m->width;
    call->kernel.constants[WISP_C_Y] = context->activations.x;
    return;
  }
  switch (op->kind) {
  case WISP_OP_EMBED:
    call->kernel.shader = wisp_shader_find("embed_fused");
    break;
  case WISP_OP_QKV:
    call->kernel.shader = wisp_shader_find("qkv_fused");
    set_qkv_team(c, context, &matrices[0]);
    call->groups_x = divide_up(c[WISP_C_ROWS], c[WISP_C_TILE_ROWS]);
    break;
  case WISP_OP_ATTENTION:
    call->kernel.shader = wisp_shader_find("attention_fused");
    c[WISP_C_LOCAL] = attention_local(context);
    c[WISP_C_SUBGROUPS] = c[WISP_C_LOCAL] / caps->subgroup_min;
    c[WISP_C_ROWS] = m->width;
    c[WISP_C_TILE_ROWS] = attention_rows(context);
    c[WISP_C_PARTS] = least_parts(&matrices[3]);
    wisp_kernel_set_matrix(c, 0, &matrices[3]);
    call->column_items = divide_up(m->width, c[WISP_C_TILE_ROWS]);
    break;
  case WISP_OP_GATE_UP: {
    const wisp_placed *down = &matrices[6];
    uint32_t rows = wisp_chosen(context, WISP_KNOB_UNITS, m->ffn_width > 16 * WIDE_GROUPS ? 32 : 16);
    if (rows > 32 / least_parts(down)) rows = 16;
    const bool wide = rows > 16;
    const bool small = matrices[4].layout->quant_bytes < 64; /* whole blocks then, or a workgroup has too many units */
    const uint32_t parts = wide && small ? least_parts(&matrices[4]) : more_parts(context, &matrices[4]);
    call->kernel.shader = wisp_shader_find("gate_up_fused");
    set_team(c, context, rows, &matrices[4], 2, chosen_parts(context, WISP_KNOB_GATE_UP_PARTS, &matrices[4], parts));
    const uint32_t taken = 2 * c[WISP_C_AHEAD] * unit_words(&matrices[4], c[WISP_C_PARTS]);
    const uint32_t most = words_ahead(context), left = taken < most ? (most - taken) / unit_words(down, 32 / rows) : 0;
    c[WISP_C_DOWN_AHEAD] = left < MOST_AHEAD ? left : MOST_AHEAD;
    wisp_kernel_set_matrix(c, 2, down);
    call->groups_x = divide_up(m->ffn_width, rows);
    break;
  }
  default:
    break;
  }
  if (op->executed_block >= 0) call->residual = (uint32_t)op->executed_block & 1;
}
