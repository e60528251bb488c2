/* SPDX-License-Identifier: Apache-2.0
 * Who does what on the persistent path: every row, column and unit has somebody, and what was measured on an H100 is what such
 * a device takes. */
#include <criterion/criterion.h>

#include "gpu/persistent_shape.h"
#include "shared/kernel.h"
#include "shared/persistent.h"

static const wisp_layout q4s = {WISP_LAYOUT_Q4S, "q4s", 16, 2}, f16 = {WISP_LAYOUT_F16, "f16", 64, 0},
                         f32 = {WISP_LAYOUT_F32, "f32", 128, 0};
static const wisp_layout *const layouts[] = {&q4s, &f16, &f32};

static const wisp_model models[] = {
    {.width = 576, .heads = 9, .kv_heads = 3, .head_size = 64, .ffn_width = 1536, .vocabulary = 32000},
    {.width = 960, .heads = 15, .kv_heads = 5, .head_size = 64, .ffn_width = 2560, .vocabulary = 32000},
    {.width = 1280, .heads = 20, .kv_heads = 5, .head_size = 64, .ffn_width = 3584, .vocabulary = 32000},
    {.width = 64, .heads = 4, .kv_heads = 2, .head_size = 16, .ffn_width = 96, .vocabulary = 300},
    {.width = 4608, .heads = 32, .kv_heads = 8, .head_size = 128, .ffn_width = 9000, .vocabulary = 32000},
};
enum { MODELS = sizeof models / sizeof *models, LAYOUTS = sizeof layouts / sizeof *layouts };

static const wvk_caps h100 = {.subgroup_size = 32, .max_workgroup = 1024, .shared_memory = 49152, .cores = 132};

static const char *choose(const wisp_model *m, const wisp_layout *layout, const wvk_caps *caps, uint32_t groups, uint32_t local,
                          wisp_persistent_shape *s) {
  *s = (wisp_persistent_shape){.attn_out.layout = layout, .down.layout = layout};
  for (int i = 0; i < WISP_P_ROW_PHASES; i++) s->rows[i].layout = layout;
  return wisp_persistent_choose_shape(m, caps, groups, local, s);
}

static void check(const wisp_model *m, const wisp_persistent_shape *s, const wvk_caps *caps) {
  const uint32_t rows[] = {(m->heads + 2 * m->kv_heads) * m->head_size, m->ffn_width, m->vocabulary};
  for (int i = 0; i < WISP_P_ROW_PHASES; i++) {
    const wisp_persistent_rows *f = &s->rows[i];
    cr_assert_geq(f->items * 4 * s->groups, rows[i]);
    cr_assert(f->slices && 4 * f->slices <= s->local && 4 * f->slices % caps->subgroup_size == 0);
  }
  cr_assert_geq(rows[0] / 4, s->groups, "a workgroup without rows of q, k and v");
  cr_assert_eq(s->hidden, 4 * s->rows[WISP_P_GATE_UP].items);
  cr_assert_eq(m->head_size * s->attn_out.parts % 32, 0, "a unit of attn_out that crosses heads");
  cr_assert(s->local <= caps->max_workgroup && s->local * WISP_P_SHARE >= m->width);
  cr_assert(s->stream >= 1 && s->stream <= WISP_P_MOST_STREAM && s->across >= 1 && s->across <= s->stream);
  cr_assert_leq(s->shared_bytes, caps->shared_memory);
}

Test(persistent_shape, everything_has_somebody) {
  wisp_persistent_shape s;
  uint32_t taken = 0;
  for (int i = 0; i < MODELS; i++)
    for (int k = 0; k < LAYOUTS; k++)
      for (uint32_t groups = 4; groups <= 240; groups += 59)
        for (uint32_t local = 0; local <= 1024; local += 256) {
          if (choose(&models[i], layouts[k], &h100, groups, local, &s)) continue;
          check(&models[i], &s, &h100);
          taken++;
        }
  cr_assert_gt(taken, 60);
}

Test(persistent_shape, as_measured) {
  static const struct {
    int model;
    const wisp_layout *layout;
    uint32_t local, hidden, stream;
  } measured[] = {{0, &q4s, 384, 16, 6}, {1, &q4s, 512, 32, 4}, {2, &q4s, 256, 32, 12}, {2, &f16, 512, 32, 2}};
  for (size_t i = 0; i < sizeof measured / sizeof *measured; i++) {
    wisp_persistent_shape s;
    cr_assert_null(choose(&models[measured[i].model], measured[i].layout, &h100, 132, 0, &s));
    cr_assert_eq(s.groups, 132);
    cr_assert_eq(s.local, measured[i].local, "case %zu: %u", i, s.local);
    cr_assert_eq(s.hidden, measured[i].hidden, "case %zu: %u", i, s.hidden);
    cr_assert_eq(s.stream, measured[i].stream, "case %zu: %u", i, s.stream);
  }
}

Test(persistent_shape, refusals) {
  wisp_persistent_shape s;
  cr_assert_not_null(choose(&models[1], &q4s, &h100, 14, 0, &s), "fewer workgroups than heads");
  cr_assert_not_null(choose(&models[2], &q4s, &h100, 256, 0, &s), "a sum counts to 255");
  cr_assert_not_null(choose(&models[2], &q4s, &h100, 132, 128, &s), "vectors of 1280 by 128 invocations");
  wvk_caps small = h100;
  small.shared_memory = 8192;
  cr_assert_not_null(choose(&models[2], &q4s, &small, 132, 0, &s));
}
