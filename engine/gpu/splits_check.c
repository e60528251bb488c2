/* SPDX-License-Identifier: Apache-2.0 */
#include "gpu/splits_check.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "cpu/reference.h"

enum {
  STRETCH = 32, /* positions whose K and V are the same, so that the reference needs one of each stretch */
  PASSES = 2    /* of other values: parts that an earlier pass left must not do */
};

/* Values are 1 or -1: an eighth of the positions left out, or taken from a pass before, moves some by a tenth. */
static const float tolerance = 0.01f;

typedef struct check {
  gpu_timeline *timeline;
  wisp_op op;
  uint32_t from, kv_width, q_rows; /* positions from which on they are shared; elements of K, of q */
  wvk_buffer *staging;             /* float q[q_rows], found[q_rows]; K and V of all positions in f16 */
  uint16_t *rows;                  /* [stretch][K row, V row] */
  float *query, *expected, *scores;
  uint32_t random;
} check;

/* The first attention that sees so many positions; NULL: none does. */
static const wisp_op *find_op(const wisp_plan *plan, const wisp_kernel_context *context, uint32_t *from) {
  if (context->fused) return NULL;
  for (uint32_t i = 0; i < plan->op_count; i++) {
    const wisp_op *op = &plan->ops[i];
    if (op->kind != WISP_OP_ATTENTION) continue;
    *from = wisp_kernel_for(context, op, 0, false).kernel.constants[WISP_C_SPLIT_FROM];
    if (!op->block->window || op->block->window >= *from + STRETCH) return op;
  }
  return NULL;
}

uint32_t wisp_splits_reach(const wisp_plan *plan, const wisp_kernel_context *context) {
  uint32_t from;
  return find_op(plan, context, &from) ? from + STRETCH : 0;
}

/* In [0, 1). */
static float random_unit(check *c) {
  c->random = c->random * 1664525u + 1013904223u;
  return (float)(c->random >> 8) * 0x1p-24f;
}

/* Scores come to -0.7 .. 0.7: every position counts. */
static void make_values(check *c, uint32_t positions) {
  const wisp_model *m = c->timeline->context.model;
  const uint32_t row = 2 * c->kv_width;
  float *q = wvk_buffer_map(c->staging);
  uint16_t *kv = (uint16_t *)(void *)(q + 2 * (size_t)c->q_rows);
  for (uint32_t i = 0; i < c->q_rows; i++) q[i] = 1.4f / (m->attention_scale * (float)m->head_size) * random_unit(c);
  memset(q + c->q_rows, 0xff, c->q_rows * sizeof *q); /* NaN */
  for (uint32_t stretch = 0; stretch < positions / STRETCH; stretch++) {
    uint16_t *values = c->rows + (size_t)stretch * row;
    const uint16_t level = wisp_f32_to_f16(2 * random_unit(c) - 1), one = wisp_f32_to_f16(1), minus_one = wisp_f32_to_f16(-1);
    for (uint32_t i = 0; i < c->kv_width; i++) {
      values[i] = level;
      values[c->kv_width + i] = random_unit(c) < 0.5f ? one : minus_one;
    }
    for (uint32_t i = 0; i < STRETCH; i++) memcpy(kv + ((size_t)stretch * STRETCH + i) * row, values, 2 * (size_t)row);
  }
  wvk_buffer_flush(c->staging, 0, wvk_buffer_size(c->staging));
}

static wisp_status record(check *c) {
  gpu_timeline *t = c->timeline;
  const wisp_activations *a = &t->context.activations;
  wvk_commands *commands = t->batch;
  const uint64_t q_bytes = 4ull * c->q_rows;
  WISP_GPU_TRY(wvk_commands_begin(commands));
  wvk_cmd_copy(commands, c->staging, 0, t->data, 4ull * a->q, q_bytes);
  wvk_cmd_copy(commands, c->staging, q_bytes, t->data, 4ull * a->attention, q_bytes);
  wvk_cmd_copy(commands, c->staging, 2 * q_bytes, t->kv, 0, (c->from + STRETCH) * 4ull * c->kv_width);
  wvk_cmd_transfer_barrier(commands);
  WISP_TRY(wisp_gpu_record_op(t, commands, &c->op, 0, 1));
  wvk_cmd_transfer_barrier(commands);
  wvk_cmd_copy(commands, t->data, 4ull * a->attention, c->staging, q_bytes, q_bytes);
  wvk_cmd_transfer_barrier(commands);
  return wisp_gpu_status(wvk_commands_end(commands));
}

static void compare(check *c, uint32_t positions, char wrong[96]) {
  const wisp_model *m = c->timeline->context.model;
  const wisp_kv_slot slot = {c->rows, WISP_KV_F16, c->kv_width};
  const float *q = wvk_buffer_map(c->staging), *found = q + c->q_rows;
  const float scale = m->attention_scale * sqrtf((float)m->head_size); /* the reference divides by sqrt(head_size) */
  wvk_buffer_invalidate(c->staging, 0, wvk_buffer_size(c->staging));
  for (uint32_t row = 0; row < c->q_rows; row += m->head_size) {
    const uint32_t kv_head = row / m->head_size / (m->heads / m->kv_heads);
    for (uint32_t i = 0; i < m->head_size; i++) c->query[i] = scale * q[row + i];
    wisp_reference_attention(c->query, 1, &slot, kv_head, m->head_size, positions / STRETCH, c->scores, c->expected);
    for (uint32_t i = 0; i < m->head_size; i++) {
      if (fabsf(found[row + i] - c->expected[i]) <= tolerance) continue; /* NaN is not */
      snprintf(wrong, 96, "attention over %u positions, row %u: expected %.6g, found %.6g", positions, row + i,
               (double)c->expected[i], (double)found[row + i]);
      return;
    }
  }
}

static wisp_status run(check *c, char wrong[96]) {
  const gpu_executor *e = c->timeline->executor;
  const wisp_model *m = c->timeline->context.model;
  const uint32_t stretches = c->from / STRETCH + 1;
  const uint64_t kv_floats = (uint64_t)stretches * c->kv_width; /* two halves each */
  const uint64_t floats = kv_floats + 2ull * m->head_size + stretches;
  c->query = wisp_host_alloc(e->host, floats, sizeof *c->query);
  if (!c->query) return wisp_fail_memory(e->host, "self-test", 4 * floats);
  c->expected = c->query + m->head_size;
  c->scores = c->expected + m->head_size;
  c->rows = (uint16_t *)(void *)(c->scores + stretches);
  WISP_GPU_TRY(
      wvk_buffer_create(&c->staging, e->device, "self-test", 8ull * c->q_rows + 4 * STRETCH * kv_floats, WVK_MEMORY_READBACK));
  WISP_TRY(record(c));
  for (uint32_t pass = 0; pass < PASSES && !wrong[0]; pass++) {
    const uint32_t positions = c->from + pass * STRETCH;
    make_values(c, positions);
    wisp_gpu_write_step(c->timeline, positions - 1, 1, 0);
    WISP_TRY(wisp_gpu_run(c->timeline, c->timeline->batch));
    compare(c, positions, wrong);
  }
  return WISP_OK;
}

wisp_status wisp_splits_check(gpu_timeline *timeline, char wrong[96]) {
  const wisp_model *m = timeline->context.model;
  check c = {.timeline = timeline, .kv_width = m->kv_heads * m->head_size, .q_rows = m->heads * m->head_size, .random = 1};
  const wisp_op *op = find_op(timeline->executor->plan, &timeline->context, &c.from);
  if (!op) return WISP_OK;
  c.op = *op;
  c.op.kv_slot = 0; /* the only one here */
  const wisp_status status = run(&c, wrong);
  wvk_buffer_destroy(&c.staging);
  wisp_host_free(timeline->executor->host, c.query);
  return status;
}
