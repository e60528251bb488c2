/* SPDX-License-Identifier: Apache-2.0 */
#include "tally.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const kv_names[] = {[WISP_KV_F16] = "f16", [WISP_KV_F32] = "f32", [WISP_KV_Q8_0] = "q8_0"};

enum { SHOWN = 3 }; /* failures of a row that are printed */

static void name_types(tally_row *row, const bed *b, const wisp_op *op) {
  size_t at = 0;
  if (op->kind == WISP_OP_ATTENTION) snprintf(row->types, sizeof row->types, "kv %s", kv_names[b->shape->kv]);
  for (uint32_t i = 0; i < op->matrix_count && at < sizeof row->types; i++) {
    row->rounded |= b->shape->rounded && shape_is_k_type(op->matrices[i]->type);
    if (i && op->matrices[i]->type == op->matrices[i - 1]->type) continue;
    at += (size_t)snprintf(row->types + at, sizeof row->types - at, "%s%s", at ? "+" : "", op->matrices[i]->type->name);
  }
  if (row->rounded && at < sizeof row->types) snprintf(row->types + at, sizeof row->types - at, "~");
}

static tally_row *find_row(tally *t, const wisp_shader *shader, const bed *b, const wisp_op *op) {
  tally_row row = {.shader = shader, .op = op->kind};
  name_types(&row, b, op);
  for (uint32_t i = 0; i < t->count; i++)
    if (t->rows[i].shader == shader && t->rows[i].op == op->kind && !strcmp(t->rows[i].types, row.types)) return &t->rows[i];
  tally_row *rows = realloc(t->rows, (t->count + 1) * sizeof *rows);
  if (!rows) {
    fprintf(stderr, "wisp-kernels: out of memory\n");
    exit(1);
  }
  t->rows = rows;
  rows[t->count] = row;
  return &rows[t->count++];
}

void tally_add(tally *t, const wisp_shader *shader, const bed *b, const bed_run *run, const verdict *v) {
  tally_row *row = find_row(t, shader, b, run->op);
  row->cases++;
  if (v->error > row->worst) row->worst = v->error;
  if (v->of_bound > row->of_bound) row->of_bound = v->of_bound;
  if (v->ok) return;
  row->failures++;
  if (t->quiet || row->failures > SHOWN) return;
  printf("     %s, %s of %s, shape %s, position %u, %u tokens, dispatched %u+%u: %s\n", shader->name,
         wisp_op_name(run->op->kind), row->types, b->shape->name, run->position, run->count, run->first, run->columns, v->text);
}

void tally_close(tally *t) {
  free(t->rows);
  *t = (tally){0};
}

tally_row tally_sum(const tally *t, const wisp_shader *shader) {
  tally_row sum = {.shader = shader};
  for (uint32_t i = 0; i < t->count; i++) {
    const tally_row *row = &t->rows[i];
    if (row->shader != shader) continue;
    sum.cases += row->cases;
    sum.failures += row->failures;
    if (!row->rounded && row->worst > sum.worst) sum.worst = row->worst;
    if (row->of_bound > sum.of_bound) sum.of_bound = row->of_bound;
  }
  return sum;
}
