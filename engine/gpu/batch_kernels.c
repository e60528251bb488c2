/* SPDX-License-Identifier: Apache-2.0 */
#include "gpu/batch_kernels.h"

#include <stdio.h>
#include <string.h>

enum { COLUMNS = 64, TILE_COLUMNS = 512 };
enum { PREPARE_LOCAL = 128, TILE_FEATURES = 32, COOPMAT_FEATURES = 128 };
enum { ENOUGH_GROUPS = 96 }; /* workgroups that keep a large GPU busy: a smaller tile otherwise */
enum { ATTENTION_LOCAL = 128 };

typedef struct tile { /* results of a workgroup, features of a step; coopmat: cooperative matrices of a subgroup */
  uint32_t rows, columns, features, sub_rows, sub_columns;
} tile;

/* The larger ones first; the last one always fits where tiles are taken. */
static const tile float_tiles[] = {{128, 64, 32, 0, 0}, {64, 64, 32, 0, 0}};
static const tile coopmat_tiles[] = {{128, 128, 64, 4, 2}, {128, 64, 64, 2, 2}, {64, 64, 64, 2, 2}};

static uint32_t round_up(uint32_t value, uint32_t to) {
  return (value + to - 1) / to * to;
}

/* Large shared memory and many registers; phones keep the kernels that need little of either. */
static bool has_room(const wvk_caps *caps) {
  return caps->kind == WVK_KIND_DISCRETE && caps->subgroup_shuffle && caps->max_workgroup >= 256 &&
         caps->shared_memory >= 32768;
}

/* Subgroups of one size known beforehand, and cooperative matrices that divide the tiles. */
static bool has_coopmat(const wvk_caps *caps) {
  if (!caps->cooperative_matrix || !caps->float16 || !caps->memory_model || !wisp_shader_find("qkv_coopmat")) return false;
  if (!caps->subgroup_size_control && caps->subgroup_min != caps->subgroup_max) return false;
  return 16 % caps->cooperative_m == 0 && 16 % caps->cooperative_n == 0 && COOPMAT_FEATURES % caps->cooperative_k == 0 &&
         caps->cooperative_k % 4 == 0 && caps->cooperative_m * caps->cooperative_n % (2 * caps->subgroup_size) == 0;
}

uint32_t wisp_batch_columns(const wvk_caps *caps) {
  return has_room(caps) ? TILE_COLUMNS : COLUMNS;
}

const char *wisp_batch_tiles(const wisp_kernel_context *context, const wisp_op *op) {
  if (!has_room(context->caps) || context->refused & 1u << op->kind) return NULL;
  if (op->kind != WISP_OP_QKV && op->kind != WISP_OP_ATTN_OUT && op->kind != WISP_OP_GATE_UP && op->kind != WISP_OP_DOWN)
    return NULL;
  return has_coopmat(context->caps) ? "_coopmat" : "_tile";
}

static bool takes_coopmat(const wisp_kernel_context *context, const wisp_op *op) {
  return !strcmp(wisp_batch_tiles(context, op), "_coopmat");
}

uint32_t wisp_batch_input_stride(const wisp_kernel_context *context, uint32_t cols) {
  const bool coopmat = has_coopmat(context->caps);
  const uint32_t padded = round_up(cols, coopmat ? COOPMAT_FEATURES : TILE_FEATURES);
  return (coopmat ? padded / 2 : padded) + 4;
}

uint32_t wisp_batch_input_floats(const wisp_kernel_context *context) {
  const wisp_model *m = context->model;
  const uint32_t q = m->heads * m->head_size, widest = m->width > m->ffn_width ? m->width : m->ffn_width;
  return has_room(context->caps) ? wisp_batch_input_stride(context, q > widest ? q : widest) : 0;
}

void wisp_batch_prepare(wisp_kernel_call *call, const wisp_kernel_context *context, const wisp_op *op) {
  uint32_t *c = call->kernel.constants;
  call->kernel.shader = wisp_shader_find("prepare");
  uint32_t kept[WISP_C_COUNT] = {0};
  kept[WISP_C_LOCAL] = PREPARE_LOCAL;
  kept[WISP_C_COLS] = c[WISP_C_COLS];
  kept[WISP_C_TILE] = takes_coopmat(context, op) ? COOPMAT_FEATURES : TILE_FEATURES;
  kept[WISP_C_X] = c[WISP_C_X];
  kept[WISP_C_X_STRIDE] = c[WISP_C_X_STRIDE];
  kept[WISP_C_Y] = context->activations.inputs;
  kept[WISP_C_Y_STRIDE] = wisp_batch_input_stride(context, c[WISP_C_COLS]);
  kept[WISP_C_NORM] = op->norm ? c[WISP_C_NORM] : WISP_NO_NORM;
  kept[WISP_C_EPSILON] = c[WISP_C_EPSILON];
  kept[WISP_C_ROUND] = c[WISP_C_ROUND];
  kept[WISP_C_HALF] = takes_coopmat(context, op);
  memcpy(c, kept, sizeof kept);
  call->groups_x = call->column_items = call->items_each = 1;
}

static uint32_t subgroups(const tile *t, const wvk_caps *caps) {
  return t->rows / (t->sub_rows * caps->cooperative_m) * (t->columns / (t->sub_columns * caps->cooperative_n));
}

/* Bytes of shared memory, and invocations. */
static uint32_t shared_bytes(const tile *t, const wvk_caps *caps) {
  if (!t->sub_rows) return (t->rows + t->columns) * t->features * 4;
  return (t->rows + t->columns) * (t->features + 8) * 2 + subgroups(t, caps) * caps->cooperative_m * caps->cooperative_n * 4;
}

static uint32_t invocations(const tile *t, const wvk_caps *caps) {
  return t->sub_rows ? subgroups(t, caps) * caps->subgroup_size : t->rows * t->columns / 64;
}

static bool fits(const tile *t, const wvk_caps *caps) {
  const uint32_t local = invocations(t, caps);
  const uint32_t blocks = t->rows * t->features / 32, pieces = blocks < local ? 2 * blocks : blocks;
  const uint32_t inputs = t->columns * t->features / (t->sub_rows ? 8 : 4);
  return shared_bytes(t, caps) <= caps->shared_memory && local <= caps->max_workgroup && pieces % local == 0 &&
         inputs % local == 0;
}

/* The largest tile of which there are enough, else the smallest; of several features the most that fit. */
static tile choose_tile(const wisp_kernel_context *context, const tile *tiles, uint32_t count, uint32_t rows) {
  const uint32_t columns = context->activations.columns;
  const tile *chosen = NULL;
  for (const tile *t = tiles; t < tiles + count; t++) {
    if (!fits(t, context->caps) || (chosen && t->rows * t->columns == chosen->rows * chosen->columns)) continue;
    chosen = t;
    if ((rows + t->rows - 1) / t->rows * ((columns + t->columns - 1) / t->columns) >= ENOUGH_GROUPS) break;
  }
  return *chosen;
}

static void set_coopmat(wisp_kernel *kernel, const wvk_caps *caps, uint32_t subgroups_each) {
  kernel->constants[WISP_C_COOP_M] = caps->cooperative_m;
  kernel->constants[WISP_C_COOP_N] = caps->cooperative_n;
  kernel->constants[WISP_C_COOP_K] = caps->cooperative_k;
  kernel->constants[WISP_C_SUBGROUPS] = subgroups_each;
  kernel->subgroup_size = caps->subgroup_size_control ? caps->subgroup_size : 0;
}

void wisp_batch_product(wisp_kernel_call *call, const wisp_kernel_context *context, const wisp_op *op) {
  const wvk_caps *caps = context->caps;
  const bool coopmat = takes_coopmat(context, op);
  const uint32_t matrices = op->kind == WISP_OP_GATE_UP ? 2 : 1;
  uint32_t *c = call->kernel.constants;
  const char *base = op->kind == WISP_OP_QKV ? "qkv" : op->kind == WISP_OP_GATE_UP ? "gate_up" : "residual";
  char name[48];
  snprintf(name, sizeof name, "%s%s", base, wisp_batch_tiles(context, op));
  call->kernel.shader = wisp_shader_find(name);
  const uint32_t rows = matrices * c[WISP_C_ROWS];
  const tile t = coopmat ? choose_tile(context, coopmat_tiles, sizeof coopmat_tiles / sizeof *coopmat_tiles, rows)
                         : choose_tile(context, float_tiles, sizeof float_tiles / sizeof *float_tiles, rows);
  c[WISP_C_LOCAL] = invocations(&t, caps);
  c[WISP_C_TILE] = t.features;
  c[WISP_C_TILE_ROWS] = t.rows;
  c[WISP_C_TILE_COLUMNS] = t.columns;
  c[WISP_C_X] = context->activations.inputs;
  c[WISP_C_X_STRIDE] = wisp_batch_input_stride(context, c[WISP_C_COLS]);
  c[WISP_C_SLICES] = c[WISP_C_NORM] = c[WISP_C_EPSILON] = c[WISP_C_ROUND] = 0;
  if (coopmat) {
    c[WISP_C_SUB_ROWS] = t.sub_rows;
    c[WISP_C_SUB_COLUMNS] = t.sub_columns;
    set_coopmat(&call->kernel, caps, subgroups(&t, caps));
  }
  call->groups_x = (rows + t.rows - 1) / t.rows;
  call->column_items = 1;
  call->items_each = t.columns;
}

/* Bytes of shared memory for tiles of so many positions; as the shaders lay it out. */
static uint32_t attention_bytes(uint32_t size, uint32_t positions, bool coopmat) {
  const uint32_t queries = WISP_TILE_QUERIES, row = size > positions ? size : positions;
  if (coopmat) return (queries + 2 * positions) * (size + 8) * 2 + queries * (positions + 8) * 2 + queries * (row + 4) * 4;
  return queries * size * 4 + positions * (size + 4) * 4 + positions * queries * 4 + ATTENTION_LOCAL * 16;
}

/* Positions of a tile, 0: this attention does not take such tiles. */
static uint32_t attention_positions(const wisp_kernel_context *context, bool coopmat) {
  const uint32_t size = context->model->head_size;
  if (coopmat && (context->kv_f32 || size % 16 || !has_coopmat(context->caps) || context->caps->cooperative_k > 16)) return 0;
  for (uint32_t positions = 64; positions >= 32; positions /= 2)
    if (attention_bytes(size, positions, coopmat) <= context->caps->shared_memory &&
        positions * size / 8 % ATTENTION_LOCAL == 0)
      return positions;
  return 0;
}

bool wisp_batch_attention(wisp_kernel_call *call, const wisp_kernel_context *context) {
  const wisp_model *m = context->model;
  if (!has_room(context->caps) || context->refused & 1u << WISP_OP_ATTENTION) return false;
  uint32_t positions = attention_positions(context, true);
  const bool coopmat = positions;
  if (!coopmat) positions = attention_positions(context, false);
  if (!positions) return false;
  call->kernel.shader = wisp_shader_find(coopmat ? "attention_coopmat" : "attention_tile");
  call->kernel.constants[WISP_C_LOCAL] = ATTENTION_LOCAL;
  call->kernel.constants[WISP_C_TILE] = positions;
  if (coopmat) set_coopmat(&call->kernel, context->caps, ATTENTION_LOCAL / context->caps->subgroup_size);
  call->groups_x = m->kv_heads;
  call->column_items = m->heads / m->kv_heads;
  call->items_each = WISP_TILE_QUERIES;
  return true;
}
