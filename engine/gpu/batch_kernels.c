/* SPDX-License-Identifier: Apache-2.0 */
#include "gpu/batch_kernels.h"

#include <stdio.h>
#include <string.h>

enum { COLUMNS = 64, TILE_COLUMNS = 512 };
enum { PREPARE_LOCAL = 128, TILE_FEATURES = 32, COOPMAT_FEATURES = 128 };
enum { DOT_LOCAL = 64, DOT_FEATURES = 128 }; /* features staged at a time: small, for many workgroups a core */
enum { ENOUGH_GROUPS = 96 };                 /* workgroups that keep a large GPU busy: a smaller tile otherwise */
enum { LARGE_SPLITS = 3 };                   /* workgroups that share a tile of the largest size, at most */
enum { SPLIT_STEPS = 8 };                    /* fewer steps for a workgroup that shares a tile would not pay */
enum { SUM_LOCAL = 64 };

/* Hidden values that gate_up leaves as f16 are divided by it: up to 2^20 they fit, below 2^-10 they lose bits. What attention
 * leaves lies between values that are f16 already. */
#define HIDDEN_FACTOR 16.0f

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
  return caps->cooperative_m % 8 == 0 && 16 % caps->cooperative_m == 0 && 16 % caps->cooperative_n == 0 &&
         COOPMAT_FEATURES % caps->cooperative_k == 0 && caps->cooperative_k % 8 == 0 &&
         caps->cooperative_m * caps->cooperative_n % (2 * caps->subgroup_size) == 0;
}

/* Integer dot products take what is quantised, on devices whose vendors say that they are fast. */
static bool takes_dot(const wisp_kernel_context *context, const wisp_op *op) {
  if (!context->caps->int_dot || has_room(context->caps)) return false;
  for (uint32_t i = 0; i < op->matrix_count; i++)
    if (wisp_layout_for(op->matrices[i]->type)->id < WISP_LAYOUT_Q4S) return false;
  return true;
}

bool wisp_batch_wide(const wvk_caps *caps) {
  static const uint32_t roomy[] = {0x1002 /* AMD */, 0x106b /* Apple */, 0x144d /* Samsung */, 0x5143 /* Qualcomm */,
                                   0x8086 /* Intel */};
  for (size_t i = 0; i < sizeof roomy / sizeof *roomy; i++)
    if (caps->vendor_id == roomy[i]) return true;
  return caps->kind != WVK_KIND_INTEGRATED;
}

uint32_t wisp_batch_columns(const wvk_caps *caps) {
  return has_room(caps) ? TILE_COLUMNS : COLUMNS;
}

const char *wisp_batch_tiles(const wisp_kernel_context *context, const wisp_op *op) {
  if (context->refused & 1u << op->kind) return NULL;
  if (op->kind != WISP_OP_QKV && op->kind != WISP_OP_ATTN_OUT && op->kind != WISP_OP_GATE_UP && op->kind != WISP_OP_DOWN)
    return NULL;
  if (has_room(context->caps)) return has_coopmat(context->caps) ? "_coopmat" : "_tile";
  return takes_dot(context, op) ? "_dot" : NULL;
}

/* Of the prepared inputs: WISP_FORM_*. */
static uint32_t input_form(const wisp_kernel_context *context) {
  if (has_room(context->caps)) return has_coopmat(context->caps) ? WISP_FORM_HALVES : WISP_FORM_FLOATS;
  return context->model->int8_activations ? WISP_FORM_BYTES : WISP_FORM_PAIRS;
}

/* Features are padded to a multiple of it. */
static uint32_t input_multiple(const wisp_kernel_context *context) {
  return input_form(context) == WISP_FORM_HALVES ? COOPMAT_FEATURES : TILE_FEATURES;
}

uint32_t wisp_batch_input_stride(const wisp_kernel_context *context, uint32_t cols) {
  static const uint32_t quarters[] = {
      [WISP_FORM_FLOATS] = 4, [WISP_FORM_HALVES] = 2, [WISP_FORM_BYTES] = 1, [WISP_FORM_PAIRS] = 2};
  const uint32_t form = input_form(context), padded = round_up(cols, input_multiple(context));
  const uint32_t totals = form >= WISP_FORM_BYTES ? padded / 32 * 4 : 0;
  return padded / 4 * quarters[form] + totals + 4;
}

uint32_t wisp_batch_input_floats(const wisp_kernel_context *context) {
  const wisp_model *m = context->model;
  const uint32_t q = m->heads * m->head_size, widest = m->width > m->ffn_width ? m->width : m->ffn_width;
  return has_room(context->caps) || context->caps->int_dot ? wisp_batch_input_stride(context, q > widest ? q : widest) : 0;
}

/* Bytes of shared memory for tiles of so many positions; as the shaders lay it out. */
static uint32_t attention_bytes(uint32_t size, uint32_t positions, bool coopmat) {
  const uint32_t queries = WISP_TILE_QUERIES, row = size > positions ? size : positions;
  if (coopmat) return (queries + 2 * positions) * (size + 8) * 2 + queries * (positions + 8) * 2 + queries * (row + 4) * 4;
  return queries * size * 4 + positions * (size + 4) * 4 + positions * queries * 4 + 4 * WISP_TILE_QUERIES * 16;
}

/* Invocations of a workgroup of attention_coopmat: 8 or 4 for a query. */
static uint32_t attention_local(const wisp_kernel_context *context) {
  return WISP_TILE_QUERIES * (context->model->head_size % 32 == 0 && context->caps->subgroup_size >= 8 ? 8 : 4);
}

/* Positions of a tile, 0: this attention does not take such tiles. */
static uint32_t attention_positions(const wisp_kernel_context *context, bool coopmat) {
  const uint32_t size = context->model->head_size, local = coopmat ? attention_local(context) : 4 * WISP_TILE_QUERIES;
  if (coopmat &&
      (context->kv_type != WISP_KV_F16 || size % 16 || !has_coopmat(context->caps) || context->caps->cooperative_k > 16))
    return 0;
  for (uint32_t positions = 64; positions >= 32; positions /= 2)
    if (attention_bytes(size, positions, coopmat) <= context->caps->shared_memory && positions * size / 8 % local == 0)
      return positions;
  return 0;
}

float wisp_batch_factor(const wisp_kernel_context *context, wisp_op_kind kind) {
  const wisp_model *m = context->model;
  const bool attention = kind == WISP_OP_ATTENTION || kind == WISP_OP_ATTN_OUT;
  if (!attention && kind != WISP_OP_GATE_UP && kind != WISP_OP_DOWN) return 0;
  const uint32_t ops = attention ? 1u << WISP_OP_ATTENTION | 1u << WISP_OP_ATTN_OUT
                                 : 1u << WISP_OP_GATE_UP | 1u << WISP_OP_DOWN;
  if (!has_room(context->caps) || !has_coopmat(context->caps) || context->refused & ops || m->int8_activations) return 0;
  if (attention) return m->head_size <= WISP_MAX_LOCAL && attention_positions(context, true) ? 1 : 0;
  return m->ffn_width % 8 ? 0 : HIDDEN_FACTOR;
}

static void prepare(wisp_kernel_call *call, const wisp_kernel_context *context, const wisp_op *op) {
  uint32_t *c = call->kernel.constants;
  call->kernel.shader = wisp_shader_find(has_room(context->caps) ? "prepare_subgroup" : "prepare");
  uint32_t kept[WISP_C_COUNT] = {0};
  kept[WISP_C_LOCAL] = has_room(context->caps) ? PREPARE_LOCAL : DOT_LOCAL;
  kept[WISP_C_COLS] = c[WISP_C_COLS];
  kept[WISP_C_TILE] = input_multiple(context);
  kept[WISP_C_X] = c[WISP_C_X];
  kept[WISP_C_X_STRIDE] = c[WISP_C_X_STRIDE];
  kept[WISP_C_Y] = context->activations.inputs;
  kept[WISP_C_Y_STRIDE] = wisp_batch_input_stride(context, c[WISP_C_COLS]);
  kept[WISP_C_NORM] = op->norm ? c[WISP_C_NORM] : WISP_NO_NORM;
  kept[WISP_C_EPSILON] = c[WISP_C_EPSILON];
  kept[WISP_C_ROUND] = c[WISP_C_ROUND];
  kept[WISP_C_FORM] = input_form(context);
  memcpy(c, kept, sizeof kept);
  call->groups_x = call->column_items = call->items_each = 1;
}

static uint32_t subgroups(const tile *t, const wvk_caps *caps) {
  return t->rows / (t->sub_rows * caps->cooperative_m) * (t->columns / (t->sub_columns * caps->cooperative_n));
}

/* Bytes of shared memory, and invocations. */
static uint32_t shared_bytes(const tile *t, const wvk_caps *caps) {
  if (!t->sub_rows) return (t->rows + t->columns) * t->features * 4;
  const uint32_t staged = (t->rows + t->columns) * (t->features + 8) * 2;
  const uint32_t results = subgroups(t, caps) * caps->cooperative_n * (t->sub_rows * caps->cooperative_m + 4) * 4;
  return (staged > results ? staged : results) + t->columns * 4;
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

/* Rows of all of op's matrices together. */
static uint32_t op_rows(const wisp_op *op) {
  uint32_t rows = 0;
  for (uint32_t i = 0; i < op->matrix_count; i++) rows += op->matrices[i]->rows;
  return rows;
}

/* Workgroups of a full batch. */
static uint32_t tile_groups(const wisp_kernel_context *context, const tile *t, uint32_t rows) {
  return (rows + t->rows - 1) / t->rows * ((context->activations.columns + t->columns - 1) / t->columns);
}

static uint32_t steps_of(const tile *t, uint32_t cols) {
  return (cols + t->features - 1) / t->features;
}

/* The first count workgroups that share a tile of so many steps evenly, none of them without any. */
static uint32_t even_splits(uint32_t steps, uint32_t count) {
  const uint32_t each = (steps + count - 1) / count;
  return (steps + each - 1) / each;
}

typedef struct tiling {
  tile tile;
  uint32_t splits; /* workgroups that share a tile's features */
} tiling;

/* The largest tile of which there are enough, shared by up to three where the op may be split and that makes enough; else the
 * smallest, shared by as many as pays. Of several features the most that fit. */
static tiling choose_tiling(const wisp_kernel_context *context, const wisp_op *op) {
  const bool coopmat = has_coopmat(context->caps);
  const bool splits = op->kind == WISP_OP_ATTN_OUT || op->kind == WISP_OP_DOWN;
  const uint32_t rows = op_rows(op), cols = op->matrices[0]->cols;
  const tile *tiles = coopmat ? coopmat_tiles : float_tiles, *chosen = NULL;
  const uint32_t count = coopmat ? sizeof coopmat_tiles / sizeof *coopmat_tiles : sizeof float_tiles / sizeof *float_tiles;
  for (const tile *t = tiles; t < tiles + count; t++) {
    if (!fits(t, context->caps) || (chosen && t->rows * t->columns == chosen->rows * chosen->columns)) continue;
    chosen = t;
    const uint32_t groups = tile_groups(context, t, rows), wanted = (ENOUGH_GROUPS + groups - 1) / groups;
    if (wanted == 1) return (tiling){*t, 1};
    if (splits && coopmat && t == tiles && wanted <= LARGE_SPLITS && steps_of(t, cols) >= SPLIT_STEPS * wanted)
      return (tiling){*t, even_splits(steps_of(t, cols), wanted)};
  }
  const uint32_t steps = steps_of(chosen, cols), most = steps / SPLIT_STEPS;
  if (!splits || most < 2) return (tiling){*chosen, 1};
  return (tiling){*chosen, even_splits(steps, most < WISP_TILE_SPLITS ? most : WISP_TILE_SPLITS)};
}

static uint32_t tile_splits(const wisp_kernel_context *context, const wisp_op *op) {
  return wisp_batch_tiles(context, op) && has_room(context->caps) ? choose_tiling(context, op).splits : 1;
}

uint32_t wisp_batch_split_floats(const wisp_kernel_context *context) {
  return has_room(context->caps) ? WISP_TILE_SPLITS * context->model->width : 0;
}

static void set_coopmat(wisp_kernel *kernel, const wvk_caps *caps, uint32_t subgroups_each) {
  kernel->constants[WISP_C_COOP_M] = caps->cooperative_m;
  kernel->constants[WISP_C_COOP_N] = caps->cooperative_n;
  kernel->constants[WISP_C_COOP_K] = caps->cooperative_k;
  kernel->constants[WISP_C_SUBGROUPS] = subgroups_each;
  kernel->subgroup_size = caps->subgroup_size_control ? caps->subgroup_size : 0;
}

static void set_dot(wisp_kernel_call *call, const wisp_kernel_context *context, const wisp_op *op) {
  uint32_t *c = call->kernel.constants;
  const uint32_t matrices = op->kind == WISP_OP_GATE_UP ? 2 : 1; /* whose rows lie side by side */
  const uint32_t rows = DOT_LOCAL * (wisp_batch_wide(context->caps) ? WISP_BATCH_WIDE_ROWS : WISP_BATCH_ROWS) / matrices;
  c[WISP_C_LOCAL] = DOT_LOCAL;
  c[WISP_C_TILE] = DOT_FEATURES;
  c[WISP_C_FORM] = input_form(context);
  call->groups_x = (c[WISP_C_ROWS] + rows - 1) / rows;
  call->items_each = WISP_BATCH_COLUMNS;
}

static void set_tile(wisp_kernel_call *call, const wisp_kernel_context *context, const wisp_op *op) {
  const wvk_caps *caps = context->caps;
  const bool coopmat = has_coopmat(caps);
  uint32_t *c = call->kernel.constants;
  const tiling chosen = choose_tiling(context, op);
  const uint32_t rows = op_rows(op), splits = chosen.splits;
  const tile t = chosen.tile;
  c[WISP_C_LOCAL] = invocations(&t, caps);
  c[WISP_C_TILE] = t.features;
  c[WISP_C_TILE_ROWS] = t.rows;
  c[WISP_C_TILE_COLUMNS] = t.columns;
  if (coopmat) {
    c[WISP_C_SUB_ROWS] = t.sub_rows;
    c[WISP_C_SUB_COLUMNS] = t.sub_columns;
    set_coopmat(&call->kernel, caps, subgroups(&t, caps));
  }
  c[WISP_C_SPLITS] = splits;
  if (splits > 1) {
    c[WISP_C_SPLIT_COLUMNS] = context->activations.split_columns;
    c[WISP_C_Y] = context->activations.splits;
    c[WISP_C_ADD] = 0;
  }
  call->groups_x = splits * ((rows + t.rows - 1) / t.rows);
  call->items_each = t.columns;
}

/* Floats of a column become half as many words with two halves each. */
static void set_halves(uint32_t *constants, uint32_t factor_constant, uint32_t stride_constant, float factor) {
  memcpy(&constants[factor_constant], &factor, sizeof factor);
  constants[stride_constant] /= 2;
}

static void product(wisp_kernel_call *call, const wisp_kernel_context *context, const wisp_op *op) {
  uint32_t *c = call->kernel.constants;
  const bool tiles = has_room(context->caps);
  const char *base = op->kind == WISP_OP_QKV ? "qkv" : op->kind == WISP_OP_GATE_UP ? "gate_up" : "residual";
  char name[48];
  snprintf(name, sizeof name, "%s%s%s", base, wisp_batch_tiles(context, op),
           !tiles && wisp_batch_wide(context->caps) ? "_wide" : "");
  call->kernel.shader = wisp_shader_find(name);
  const float factor = wisp_batch_factor(context, op->kind);
  if (factor && op->kind == WISP_OP_GATE_UP) set_halves(c, WISP_C_OUT_FACTOR, WISP_C_Y_STRIDE, factor);
  if (factor && op->kind != WISP_OP_GATE_UP) {
    set_halves(c, WISP_C_IN_FACTOR, WISP_C_X_STRIDE, factor);
  } else {
    c[WISP_C_X] = context->activations.inputs;
    c[WISP_C_X_STRIDE] = wisp_batch_input_stride(context, c[WISP_C_COLS]);
  }
  c[WISP_C_SLICES] = c[WISP_C_NORM] = c[WISP_C_EPSILON] = c[WISP_C_ROUND] = 0;
  call->column_items = 1;
  (tiles ? set_tile : set_dot)(call, context, op);
}

static void sum_splits(wisp_kernel_call *call, const wisp_kernel_context *context, const wisp_op *op) {
  const uint32_t *c = call->kernel.constants;
  const uint32_t kept[WISP_C_COUNT] = {
      [WISP_C_LOCAL] = SUM_LOCAL,
      [WISP_C_ROWS] = c[WISP_C_ROWS],
      [WISP_C_X] = context->activations.splits,
      [WISP_C_Y] = c[WISP_C_Y],
      [WISP_C_ADD] = c[WISP_C_ADD],
      [WISP_C_SPLITS] = tile_splits(context, op),
      [WISP_C_SPLIT_COLUMNS] = context->activations.split_columns,
  };
  call->kernel.shader = wisp_shader_find("sum_splits");
  memcpy(call->kernel.constants, kept, sizeof kept);
  call->groups_x = (kept[WISP_C_ROWS] / 4 + SUM_LOCAL - 1) / SUM_LOCAL;
  call->column_items = call->items_each = 1;
}

static bool prepares(const wisp_kernel_context *context, const wisp_op *op) {
  return op->kind == WISP_OP_GATE_UP || !wisp_batch_factor(context, op->kind);
}

uint32_t wisp_batch_product(const wisp_kernel_context *context, const wisp_op *op) {
  return wisp_batch_tiles(context, op) && prepares(context, op);
}

uint32_t wisp_batch_parts(const wisp_kernel_context *context, const wisp_op *op) {
  return !wisp_batch_tiles(context, op) ? 1 : 1u + prepares(context, op) + (tile_splits(context, op) > 1);
}

void wisp_batch_part(wisp_kernel_call *call, const wisp_kernel_context *context, const wisp_op *op, uint32_t part) {
  static void (*const parts[])(wisp_kernel_call *, const wisp_kernel_context *, const wisp_op *) = {prepare, product,
                                                                                                    sum_splits};
  if (wisp_batch_tiles(context, op)) parts[part + !prepares(context, op)](call, context, op);
}

bool wisp_batch_attention(wisp_kernel_call *call, const wisp_kernel_context *context) {
  const wisp_model *m = context->model;
  uint32_t *c = call->kernel.constants;
  if (!has_room(context->caps) || context->refused & 1u << WISP_OP_ATTENTION) return false;
  uint32_t positions = attention_positions(context, true);
  const bool coopmat = positions;
  if (!coopmat) positions = attention_positions(context, false);
  if (!positions) return false;
  call->kernel.shader = wisp_shader_find(coopmat ? "attention_coopmat" : "attention_tile");
  c[WISP_C_LOCAL] = coopmat ? attention_local(context) : 4 * WISP_TILE_QUERIES;
  c[WISP_C_TILE] = positions;
  if (coopmat) set_coopmat(&call->kernel, context->caps, c[WISP_C_LOCAL] / context->caps->subgroup_size);
  const float factor = wisp_batch_factor(context, WISP_OP_ATTENTION);
  if (factor) set_halves(c, WISP_C_OUT_FACTOR, WISP_C_Y_STRIDE, factor);
  call->groups_x = m->kv_heads;
  call->column_items = m->heads / m->kv_heads;
  call->items_each = WISP_TILE_QUERIES;
  return true;
}
