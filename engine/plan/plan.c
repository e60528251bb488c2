/* SPDX-License-Identifier: Apache-2.0 */
#include "plan/plan.h"

const char *wisp_op_name(wisp_op_kind kind) {
  static const char *const names[] = {"embed", "qkv", "attention", "attn_out", "gate_up", "down", "head", "sample"};
  return names[kind];
}

/* Writes the five ops of an executed block. */
static void block_ops(const wisp_block *w, uint32_t executed, uint32_t weight_block, wisp_op op[5]) {
  const wisp_op base = {.executed_block = (int32_t)executed, .weight_block = weight_block, .kv_slot = executed, .block = w};
  for (int i = 0; i < 5; i++) op[i] = base;
  op[0].kind = WISP_OP_QKV;
  op[0].norm = w->attn_norm;
  op[0].matrices[0] = &w->q, op[0].matrices[1] = &w->k, op[0].matrices[2] = &w->v, op[0].matrix_count = 3;
  op[1].kind = WISP_OP_ATTENTION;
  op[2].kind = WISP_OP_ATTN_OUT;
  op[2].post_norm = w->attn_post_norm;
  op[2].matrices[0] = &w->attn_out, op[2].matrix_count = 1;
  op[3].kind = WISP_OP_GATE_UP;
  op[3].norm = w->ffn_norm;
  op[3].matrices[0] = &w->gate, op[3].matrices[1] = &w->up, op[3].matrix_count = 2;
  op[4].kind = WISP_OP_DOWN;
  op[4].post_norm = w->ffn_post_norm;
  op[4].matrices[0] = &w->down, op[4].matrix_count = 1;
}

wisp_status wisp_plan_create(wisp_plan *plan, const wisp_host *host, const wisp_model *model) {
  const uint32_t executed = model->weight_blocks * model->block_repeat;
  *plan = (wisp_plan){
      .host = host, .model = model, .executed_blocks = executed, .kv_slots = executed, .op_count = 5 * executed + 3};
  plan->ops = wisp_host_alloc(host, plan->op_count, sizeof *plan->ops);
  if (!plan->ops) return wisp_fail_memory(host, "op list", plan->op_count * sizeof *plan->ops);
  wisp_op *op = plan->ops;
  *op++ = (wisp_op){.kind = WISP_OP_EMBED, .executed_block = -1, .matrices = {&model->embedding}, .matrix_count = 1};
  /* Executed block block_repeat * b + r runs weight block b: the whole of block sharing. */
  for (uint32_t i = 0; i < executed; i++, op += 5)
    block_ops(&model->blocks[i / model->block_repeat], i, i / model->block_repeat, op);
  *op++ = (wisp_op){
      .kind = WISP_OP_HEAD, .executed_block = -1, .norm = model->final_norm, .matrices = {&model->head}, .matrix_count = 1};
  *op++ = (wisp_op){.kind = WISP_OP_SAMPLE, .executed_block = -1};
  return WISP_OK;
}

void wisp_plan_close(wisp_plan *plan) {
  wisp_host_free(plan->host, plan->ops);
  *plan = (wisp_plan){0};
}

uint64_t wisp_plan_kv_row_bytes(const wisp_plan *plan, wisp_kv_type type) {
  return wisp_kv_row_bytes(plan->model->kv_heads * plan->model->head_size, type);
}

/* Sum over tokens of the positions each attends to. */
static uint64_t attended(const wisp_op *op, uint32_t tokens, uint32_t position) {
  uint64_t sum = 0;
  for (uint32_t t = 1; t <= tokens; t++)
    sum += op->block->window && position + t > op->block->window ? op->block->window : position + t;
  return sum;
}

/* Positions whose K and V are read. */
static uint64_t seen(const wisp_op *op, uint32_t tokens, uint32_t position) {
  const uint32_t window = op->block->window;
  return window && position + 1 > window ? tokens + window - 1 : position + tokens;
}

uint64_t wisp_op_bytes(const wisp_plan *plan, const wisp_op *op, uint32_t tokens, uint32_t position) {
  const wisp_model *m = plan->model;
  const uint64_t q = (uint64_t)m->heads * m->head_size, kv_row = wisp_plan_kv_row_bytes(plan, plan->kv_type), f = sizeof(float);
  uint64_t bytes = op->norm ? m->width * f : 0;
  if (op->kind != WISP_OP_EMBED)
    for (uint32_t i = 0; i < op->matrix_count; i++) bytes += wisp_matrix_bytes(op->matrices[i]);
  switch (op->kind) {
  case WISP_OP_EMBED:
    return tokens * (wisp_matrix_row_bytes(op->matrices[0]) + m->width * f);
  case WISP_OP_QKV:
    return bytes + tokens * ((m->width + q) * f + kv_row);
  case WISP_OP_ATTENTION:
    return seen(op, tokens, position) * kv_row + tokens * 2 * q * f;
  case WISP_OP_ATTN_OUT:
    return bytes + tokens * (q + 2 * m->width) * f;
  case WISP_OP_GATE_UP:
    return bytes + tokens * (m->width + m->ffn_width) * f;
  case WISP_OP_DOWN:
    return bytes + tokens * (m->ffn_width + 2 * m->width) * f;
  case WISP_OP_HEAD:
    return bytes + tokens * (m->width + m->vocabulary) * f;
  case WISP_OP_SAMPLE:
    return m->vocabulary * f;
  }
  return 0;
}

uint64_t wisp_op_flops(const wisp_plan *plan, const wisp_op *op, uint32_t tokens, uint32_t position) {
  const wisp_model *m = plan->model;
  if (op->kind == WISP_OP_EMBED || op->kind == WISP_OP_SAMPLE) return 0;
  if (op->kind == WISP_OP_ATTENTION) return 4ull * m->heads * m->head_size * attended(op, tokens, position);
  uint64_t flops = 0;
  for (uint32_t i = 0; i < op->matrix_count; i++) flops += 2ull * op->matrices[i]->rows * op->matrices[i]->cols * tokens;
  return flops;
}
