/* SPDX-License-Identifier: Apache-2.0 */
#include "gpu/persistent_shape.h"

#include "shared/persistent.h"

enum {
  UNIT_COST = 16,       /* of a unit, in weights */
  MOST_UNIT_BYTES = 64, /* 16 words */
  WHOLE = 32,           /* registers that the weights of a whole block may take */
  HEAD_STREAM = 24,     /* registers for a row's units of the head */
  MOST_GROUPS = 255     /* a sum counts to that */
};

/* Measured on an H100: docs/performance.md, "How many invocations". */
typedef struct formation {
  uint32_t local; /* invocations of a workgroup */
  /* Registers for weights that one asks for ahead where a whole block takes too many (two units in any case), of these, for
   * such that are asked for before an exchange (one unit in any case). More makes the driver spill registers, of which an
   * invocation has 65536 / local, or mail late. */
  uint32_t stream, across;
  uint32_t most_bytes; /* of a block of 32 weights: what is wider gains nothing from it */
  uint32_t percent;    /* of what its invocations take, for what fewer of them cannot hide */
} formation;
static const formation formations[] = {{256, 60, 55, 32, 110}, {384, 40, 36, 128, 100}, {512, 24, 20, 128, 100}};
enum { FORMATIONS = sizeof formations / sizeof *formations };

static uint32_t ceil_div(uint32_t a, uint32_t b) {
  return (a + b - 1) / b;
}

static uint32_t max_u32(uint32_t a, uint32_t b) {
  return a > b ? a : b;
}

static uint32_t min_u32(uint32_t a, uint32_t b) {
  return a < b ? a : b;
}

/* What an invocation takes one after the other, in weights; a unit costs some more. */
static uint32_t cost(uint32_t units, uint32_t parts) {
  return units * (32 / parts + UNIT_COST);
}

static uint32_t unit_registers(const wisp_layout *layout, uint32_t parts) {
  return layout->quant_bytes / parts / 4 + (layout->scale_bytes > 0);
}

/* ---- A phase ---- */

/* The slices and units with which an invocation is done first, the units of a row in so many registers. */
static void choose_slices(wisp_persistent_rows *f, uint32_t local, uint32_t subgroup, uint32_t registers) {
  wisp_persistent_rows best = {0};
  for (uint32_t parts = 1; parts <= 4; parts *= 2) {
    if (f->layout->quant_bytes / parts > MOST_UNIT_BYTES) continue;
    const uint32_t row_units = parts * wisp_layout_row_blocks(f->cols), step = subgroup / 4;
    for (uint32_t slices = step; 4 * slices <= local; slices += step) {
      wisp_persistent_rows tried = *f;
      tried.slices = slices;
      tried.parts = parts;
      tried.units = f->matrices * ceil_div(f->items, local / (4 * slices)) * ceil_div(row_units, slices);
      if (ceil_div(row_units, slices) * unit_registers(f->layout, parts) > registers) continue;
      if (!best.slices || cost(tried.units, parts) < cost(best.units, best.parts)) best = tried;
    }
  }
  *f = best;
}

/* ATTN_OUT_COUNT of the shader. */
static uint32_t attn_out_units(const wisp_model *m, const wisp_persistent_shape *s, uint32_t subgroup, uint32_t parts) {
  const uint32_t units = m->head_size * parts / 32, slices = min_u32(units, subgroup / 4);
  const uint32_t quads = ceil_div(ceil_div(m->width, 4), s->groups / m->heads);
  return ceil_div(quads, s->local / (4 * slices)) * ceil_div(units, slices);
}

/* DOWN_COUNT of the shader. */
static uint32_t down_units(const wisp_model *m, const wisp_persistent_shape *s, uint32_t parts) {
  const uint32_t columns = 32 / parts, others = s->hidden % columns ? columns - 4 : 0;
  return ceil_div(m->width, s->local) * ceil_div(s->hidden + others, columns);
}

static void take_if_cheaper(wisp_persistent_columns *c, uint32_t parts, uint32_t units) {
  if (c->layout->quant_bytes / parts > MOST_UNIT_BYTES) return;
  if (c->parts && cost(units, parts) >= cost(c->units, c->parts)) return;
  c->parts = parts;
  c->units = units;
}

static void choose_attn_out(wisp_persistent_shape *s, const wisp_model *m, uint32_t subgroup) {
  s->attn_out.parts = 0;
  for (uint32_t parts = 1; parts <= 4; parts *= 2)
    if (m->head_size * parts % 32 == 0) take_if_cheaper(&s->attn_out, parts, attn_out_units(m, s, subgroup, parts));
}

/* As few hidden units for each workgroup as there are, or some more where that spares columns that begin inside a unit. */
static void choose_hidden(wisp_persistent_shape *s, const wisp_model *m, uint32_t subgroup) {
  const uint32_t least = 4 * ceil_div(ceil_div(m->ffn_width, 4), s->groups);
  wisp_persistent_shape best = *s;
  uint32_t lowest = UINT32_MAX;
  for (uint32_t step = 4; step <= 32; step *= 2) {
    wisp_persistent_shape tried = *s;
    wisp_persistent_rows *gate_up = &tried.rows[WISP_P_GATE_UP];
    tried.hidden = ceil_div(least, step) * step;
    gate_up->items = tried.hidden / 4;
    choose_slices(gate_up, s->local, subgroup, UINT32_MAX);
    tried.down.parts = 0;
    for (uint32_t parts = 1; parts <= 4; parts *= 2) take_if_cheaper(&tried.down, parts, down_units(m, &tried, parts));
    if (!gate_up->slices) continue;
    const uint32_t sum = cost(gate_up->units, gate_up->parts) + cost(tried.down.units, tried.down.parts);
    if (sum >= lowest) continue;
    best = tried;
    lowest = sum;
  }
  *s = best;
}

/* ---- All of them ---- */

/* What is under way at once: a whole block's weights, where they fit. Returns their registers. */
static uint32_t choose_stream(wisp_persistent_shape *s, const formation *f) {
  const wisp_persistent_rows *qkv = &s->rows[WISP_P_QKV], *gate_up = &s->rows[WISP_P_GATE_UP];
  const wisp_persistent_columns each[] = {
      {qkv->layout, qkv->parts, qkv->units}, {gate_up->layout, gate_up->parts, gate_up->units}, s->attn_out, s->down};
  uint32_t units = 0, registers = 0, most = 1;
  for (size_t i = 0; i < sizeof each / sizeof *each; i++) {
    const uint32_t one = unit_registers(each[i].layout, each[i].parts);
    units += each[i].units;
    registers += each[i].units * one;
    most = max_u32(most, one);
  }
  s->stream = s->across = units;
  if (registers <= WHOLE && units <= WISP_P_MOST_STREAM) return registers;
  s->stream = max_u32(f->stream / most, 2);
  s->across = max_u32(f->across / most, 1);
  return s->stream * most;
}

static uint32_t shared_bytes(const wisp_persistent_shape *s, const wisp_model *m, uint32_t subgroup) {
  const uint32_t own = ceil_div(max_u32(24 + m->head_size, 32 + s->hidden), 32), inputs = ceil_div(m->width, 32) + own;
  uint32_t partials = 0;
  for (int i = 0; i < WISP_P_ROW_PHASES; i++) {
    const wisp_persistent_rows *f = &s->rows[i];
    partials = max_u32(partials, f->matrices * f->items * (4 * f->slices / subgroup) * 4);
  }
  return 4 * (inputs * 36 + 3 * m->head_size + partials + s->local / subgroup * (3 + m->head_size) + 5);
}

/* Of a block of 32 weights, the widest. */
static uint32_t block_bytes(const wisp_persistent_shape *s) {
  return max_u32(max_u32(s->rows[WISP_P_QKV].layout->quant_bytes, s->rows[WISP_P_GATE_UP].layout->quant_bytes),
                 max_u32(s->attn_out.layout->quant_bytes, s->down.layout->quant_bytes));
}

/* False: rows are too long. *load: what all invocations take of a block; *under_way: registers with weights, of all of them. */
static bool choose_for(wisp_persistent_shape *s, const wisp_model *m, uint32_t subgroup, const formation *f, uint32_t *load,
                       uint32_t *under_way) {
  const uint32_t head = max_u32(HEAD_STREAM, s->rows[WISP_P_HEAD_ROWS].layout->quant_bytes / 2);
  s->local = f->local;
  choose_slices(&s->rows[WISP_P_QKV], s->local, subgroup, UINT32_MAX);
  choose_slices(&s->rows[WISP_P_HEAD_ROWS], s->local, subgroup, head);
  choose_attn_out(s, m, subgroup);
  choose_hidden(s, m, subgroup);
  for (int i = 0; i < WISP_P_ROW_PHASES; i++)
    if (!s->rows[i].slices) return false;
  const wisp_persistent_rows *qkv = &s->rows[WISP_P_QKV], *gate_up = &s->rows[WISP_P_GATE_UP];
  *load = s->local * f->percent / 100 *
          (cost(qkv->units, qkv->parts) + cost(gate_up->units, gate_up->parts) + cost(s->attn_out.units, s->attn_out.parts) +
           cost(s->down.units, s->down.parts));
  *under_way = s->local * choose_stream(s, f);
  s->shared_bytes = shared_bytes(s, m, subgroup);
  return true;
}

/* The formation whose registers fit so many invocations. */
static size_t formation_for(uint32_t local) {
  size_t found = 0;
  for (size_t i = 1; i < FORMATIONS; i++)
    if (formations[i].local <= local) found = i;
  return found;
}

const char *wisp_persistent_choose_shape(const wisp_model *m, const wvk_caps *caps, uint32_t groups, uint32_t local,
                                         wisp_persistent_shape *shape) {
  const uint32_t qkv_rows = (m->heads + 2 * m->kv_heads) * m->head_size, subgroup = caps->subgroup_size;
  shape->groups = min_u32(groups, qkv_rows / 4); /* each has rows of qkv: that is what keeps mail and sums whole */
  if (shape->groups > MOST_GROUPS) return "more workgroups than a sum can count";
  if (shape->groups < m->heads) return "fewer workgroups than heads";
  const uint32_t rows[WISP_P_ROW_PHASES] = {qkv_rows, 0, m->vocabulary};
  for (int i = 0; i < WISP_P_ROW_PHASES; i++) {
    shape->rows[i].cols = m->width;
    shape->rows[i].matrices = i == WISP_P_GATE_UP ? 2 : 1;
    shape->rows[i].items = ceil_div(ceil_div(rows[i], 4), shape->groups);
  }
  const uint32_t step = max_u32(subgroup, 64);
  const uint32_t needed = max_u32(max_u32(ceil_div(m->width, WISP_P_SHARE), 4 * shape->rows[WISP_P_QKV].items),
                                  m->head_size / 8);
  const uint32_t least = ceil_div(needed, step) * step;
  const char *why = "vectors need more invocations than a workgroup has";
  uint32_t lowest = UINT32_MAX, most = 0;
  const wisp_persistent_shape asked = *shape;
  for (size_t i = 0; i < FORMATIONS; i++) {
    formation f = formations[i];
    f.local = local ? local : max_u32(f.local, least);
    if (f.local < needed || f.local > caps->max_workgroup || formation_for(f.local) != i) continue;
    if (!local && block_bytes(shape) > f.most_bytes) continue;
    wisp_persistent_shape tried = asked;
    uint32_t load, under_way;
    if (!choose_for(&tried, m, subgroup, &f, &load, &under_way)) {
      why = "rows are too long";
    } else if (tried.shared_bytes > caps->shared_memory) {
      why = "too little shared memory";
    } else if (load < lowest || (load == lowest && under_way > most)) {
      *shape = tried;
      lowest = load;
      most = under_way;
    }
  }
  return lowest == UINT32_MAX ? why : NULL;
}
