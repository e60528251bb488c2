/* SPDX-License-Identifier: Apache-2.0 */
#include "gpu/fused.h"

#include <stdlib.h>
#include <string.h>

enum {
  SETTLE_LOCAL = 64,
  ATTENTION_LOCAL = 512,
  ATTENTION_SLICES = 6, /* of the output projection's rows: workgroups of a head */
  TEAM_LOCAL = 640,     /* invocations of matvec_team.comp */
  MOST_AHEAD = 4,       /* rounds there */
  WORDS_AHEAD = 72,     /* of weights in an invocation's registers: with 640 invocations more would spill on 64 K registers */
  HEAD_ROWS = 128,
  WIDE_GROUPS = 192 /* workgroups of gate_up, beyond which each makes 32 hidden units */
};

static uint32_t divide_up(uint32_t value, uint32_t by) {
  return (value + by - 1) / by;
}

bool wisp_fused_fits(const wisp_kernel_context *context) {
  const wisp_model *m = context->model;
  const wvk_caps *caps = context->caps;
  const char *wanted = getenv("WISP_FUSED");
  if (wanted && *wanted ? *wanted == '0' : caps->kind != WVK_KIND_DISCRETE) return false;
  if (!caps->atomic64 || !caps->subgroup_shuffle || caps->subgroup_min < 8 || caps->storage_buffers < WISP_FUSED_BINDINGS)
    return false;
  if (caps->max_workgroup < TEAM_LOCAL || !wisp_team_fits(caps, m->width)) return false;
  const uint32_t team = m->head_size / 8;
  if (m->head_size % 32 || team & (team - 1) || team > caps->subgroup_min) return false;
  if (m->int8_activations || m->qk_norm_plain || context->kv_type == WISP_KV_Q8_0) return false;
  for (uint32_t i = 0; i < m->weight_blocks; i++) {
    const wisp_block *b = &m->blocks[i];
    if (b->q_norm || b->attn_post_norm || b->ffn_post_norm) return false;
  }
  return true;
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

static void set_matrix(uint32_t *constants, uint32_t index, const wisp_placed *placed) {
  constants[WISP_C_LAYOUT0 + 3 * index] = placed->layout->id;
  constants[WISP_C_QUANTS0 + 3 * index] = placed->quants;
  constants[WISP_C_SCALES0 + 3 * index] = placed->scales;
}

/* Units of a block of 32 weights: wanted, or as many as make units of at most 16 words. */
static uint32_t unit_parts(const wisp_placed *placed, uint32_t wanted) {
  const uint32_t least = placed->layout->quant_bytes > 64 ? 2 : 1;
  return wanted > least ? wanted : least;
}

static uint32_t unit_words(const wisp_placed *placed, uint32_t parts) {
  return placed->layout->quant_bytes / 4 / parts + 1;
}

bool wisp_team_fits(const wvk_caps *caps, uint32_t cols) {
  return 8 * divide_up(cols, 32) * 2 <= (caps->max_workgroup < TEAM_LOCAL ? caps->max_workgroup : TEAM_LOCAL) &&
         caps->shared_memory >= 32768;
}

/* matvec_team.comp's geometry: rows a workgroup, all of whose tiles have a subgroup to add them up; as many teams as there are
 * invocations for and tiles keep busy in as few rounds; weights of several rounds at a time where registers last. */
static void set_team(uint32_t *c, const wvk_caps *caps, uint32_t rows, const wisp_placed *matrix, uint32_t matrices,
                     uint32_t parts) {
  const uint32_t team = 8 * divide_up(c[WISP_C_COLS], 32) * parts, most = TEAM_LOCAL / team;
  const uint32_t rounds = divide_up(rows / 8, most), fit = WORDS_AHEAD / (matrices * unit_words(matrix, parts));
  uint32_t ahead = rounds < MOST_AHEAD ? rounds : MOST_AHEAD;
  if (ahead > fit) ahead = fit ? fit : 1;
  uint32_t local = team * divide_up(rows / 8, rounds);
  if (local < rows / 8 * caps->subgroup_max) local = rows / 8 * caps->subgroup_max;
  c[WISP_C_LOCAL] = divide_up(local, caps->subgroup_max) * caps->subgroup_max;
  c[WISP_C_TILE_ROWS] = rows;
  c[WISP_C_PARTS] = parts;
  c[WISP_C_AHEAD] = ahead;
}

uint32_t wisp_team_head_rows(const wvk_caps *caps) {
  const uint32_t tiles = TEAM_LOCAL / caps->subgroup_max; /* a subgroup each */
  return tiles * 8 < HEAD_ROWS ? tiles * 8 : HEAD_ROWS;
}

void wisp_team_head(wisp_kernel_call *call, const wisp_kernel_context *context) {
  uint32_t *c = call->kernel.constants;
  const wisp_placed *matrix = &call->window->matrices[0];
  set_team(c, context->caps, wisp_team_head_rows(context->caps), matrix, 1, unit_parts(matrix, 1));
  call->groups_x = divide_up(c[WISP_C_ROWS], c[WISP_C_TILE_ROWS]);
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
    set_team(c, caps, 8, &matrices[0], 1, unit_parts(&matrices[0], 2));
    call->groups_x = divide_up(c[WISP_C_ROWS], c[WISP_C_TILE_ROWS]);
    break;
  case WISP_OP_ATTENTION:
    call->kernel.shader = wisp_shader_find("attention_fused");
    c[WISP_C_LOCAL] = ATTENTION_LOCAL;
    c[WISP_C_SUBGROUPS] = ATTENTION_LOCAL / caps->subgroup_min;
    c[WISP_C_ROWS] = m->width;
    c[WISP_C_TILE_ROWS] = divide_up(divide_up(m->width, ATTENTION_SLICES), 8) * 8;
    c[WISP_C_PARTS] = unit_parts(&matrices[3], 1);
    set_matrix(c, 0, &matrices[3]);
    call->column_items = divide_up(m->width, c[WISP_C_TILE_ROWS]);
    break;
  case WISP_OP_GATE_UP: {
    const wisp_placed *down = &matrices[6];
    const bool wide = m->ffn_width > 16 * WIDE_GROUPS && down->layout->id != WISP_LAYOUT_F32;
    const uint32_t rows = wide ? 32 : 16;
    call->kernel.shader = wisp_shader_find("gate_up_fused");
    set_team(c, caps, rows, &matrices[4], 2, unit_parts(&matrices[4], wide ? 1 : 2));
    const uint32_t taken = 2 * c[WISP_C_AHEAD] * unit_words(&matrices[4], c[WISP_C_PARTS]);
    const uint32_t left = taken < WORDS_AHEAD ? (WORDS_AHEAD - taken) / unit_words(down, 32 / rows) : 0;
    c[WISP_C_DOWN_AHEAD] = left < MOST_AHEAD ? left : MOST_AHEAD;
    set_matrix(c, 2, down);
    call->groups_x = divide_up(m->ffn_width, rows);
    break;
  }
  default:
    break;
  }
  if (op->executed_block >= 0) call->residual = (uint32_t)op->executed_block & 1;
}
