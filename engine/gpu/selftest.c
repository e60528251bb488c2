/* SPDX-License-Identifier: Apache-2.0
 * Kernels earn trust: each op runs on this device with the model's own weights, on a batch of tokens and on a single one, and
 * what it made of its inputs is compared with the plain C reference, a few rows of each matrix. Takes about a millisecond. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "cpu/reference.h"
#include "gpu/batch_kernels.h"
#include "gpu/executor.h"
#include "gpu/splits_check.h"
#include "session/sampler.h"

enum { BATCH = 3, TOKENS = BATCH + 1, ROWS = 12 /* sampled, in pairs */ };

/* What the ops left behind, for each column of one pass. */
typedef struct snapshot {
  uint32_t columns, position;                                      /* the pass runs tokens [position, position + columns) */
  const float *embedded, *q, *attention, *added, *hidden, *result; /* x after embed, after attn_out, after down */
  const float *logits;                                             /* [vocabulary] of the last column */
  const uint16_t *kv;                                              /* [TOKENS][K row, V row] of slot 0 */
} snapshot;

typedef struct test {
  gpu_executor *executor;
  gpu_timeline *timeline;
  wvk_buffer *readback;
  wisp_sampler sampler; /* of the single token, where draws are tried */
  float *scratch;       /* [4 * widest]: input, weights of a row, output, RoPE table */
  uint32_t widest;
  bool alone;     /* the pass is of a single token */
  char wrong[96]; /* what differs, empty if nothing */
  bool far;       /* only over many positions */
} test;

static uint32_t max_u32(uint32_t a, uint32_t b) {
  return a > b ? a : b;
}

/* tolerance: relative to the sum of magnitudes that went in; loose, since a wrong kernel is wrong by far. */
static bool close_enough(test *t, const char *what, uint32_t row, float found, float expected, float magnitude) {
  if (fabsf(found - expected) <= 2e-3f * magnitude + 1e-5f) return true; /* NaN is not */
  snprintf(t->wrong, sizeof t->wrong, "%s row %u: expected %.6g, found %.6g", what, row, (double)expected, (double)found);
  return false;
}

/* The i-th sampled row of rows, in pairs (2j, 2j + 1); the last pair is the last rows. */
static uint32_t sampled_row(uint32_t i, uint32_t rows) {
  const uint32_t pairs = rows / 2, pair = (uint32_t)((uint64_t)(i / 2) * (pairs - 1) / (ROWS / 2 - 1));
  return 2 * pair + i % 2;
}

/* y = row of matrix . x; *magnitude = sum of |w x|. */
static float reference_row(test *t, const wisp_matrix *matrix, uint32_t row, const float *x, float *magnitude) {
  float *weights = t->scratch + t->widest;
  const uint64_t row_bytes = wisp_matrix_row_bytes(matrix);
  matrix->type->dequantize(matrix->data + row * row_bytes, weights, matrix->cols);
  double sum = 0, all = 0;
  for (uint32_t i = 0; i < matrix->cols; i++) {
    sum += (double)weights[i] * (double)x[i];
    all += fabs((double)weights[i] * (double)x[i]);
  }
  *magnitude = (float)all;
  return (float)sum;
}

/* The input as matrices see it, in scratch: normed where norm is not NULL, rounded where the model asks for it. */
static const float *take_input(test *t, const float *x, uint32_t count, const float *norm) {
  const wisp_model *m = t->executor->plan->model;
  if (norm)
    wisp_reference_rmsnorm(x, norm, count, m->norm_epsilon, t->scratch);
  else
    memcpy(t->scratch, x, count * sizeof *x);
  if (m->int8_activations) wisp_reference_round_int8(t->scratch, count);
  return t->scratch;
}

static bool check_embed(test *t, const snapshot *s, const int32_t *ids) {
  const wisp_model *m = t->executor->plan->model;
  for (uint32_t c = 0; c < s->columns; c++) {
    wisp_reference_embed(&m->embedding, (uint32_t)ids[s->position + c], t->scratch);
    for (uint32_t i = 0; i < m->width; i++) {
      const float expected = m->embedding_scale * t->scratch[i];
      if (!close_enough(t, "embed", i, s->embedded[c * m->width + i], expected, fabsf(expected))) return false;
    }
  }
  return true;
}

typedef struct projection { /* q, k or v */
  const char *name;
  const wisp_matrix *matrix;
  const float *bias, *norm;
  bool turned;
} projection;

/* One head of column c, found[head_size] in float or as f16. */
static bool check_head_rows(test *t, const projection *p, uint32_t head, uint32_t position, const float *input,
                            const float *found, const uint16_t *found_half) {
  const wisp_model *m = t->executor->plan->model;
  const uint32_t tables = wisp_rope_tables(m), half = m->head_size / 2;
  const float *turns = t->scratch + 3 * (size_t)t->widest +
                       2 * ((size_t)position * tables + (tables > 1 && m->blocks[0].window)) * half;
  float *y = t->scratch + 2 * (size_t)t->widest, largest = 0;
  for (uint32_t i = 0; i < m->head_size; i++) {
    float magnitude;
    const uint32_t row = head * m->head_size + i;
    y[i] = reference_row(t, p->matrix, row, input, &magnitude) + (p->bias ? p->bias[row] : 0);
    largest = fmaxf(largest, magnitude);
  }
  if (p->turned) {
    const bool normed = p->norm || m->qk_norm_plain;
    if (p->norm) wisp_reference_rmsnorm(y, p->norm, m->head_size, m->norm_epsilon, y);
    wisp_reference_rope(y, turns, half);
    if (m->qk_norm_plain) wisp_reference_rmsnorm(y, NULL, m->head_size, m->norm_epsilon, y);
    if (normed) largest = 4; /* elements of order one */
  }
  for (uint32_t i = 0; i < m->head_size; i++)
    if (!close_enough(t, p->name, head * m->head_size + i, found ? found[i] : wisp_f16_to_f32(found_half[i]), y[i], largest))
      return false;
  return true;
}

static bool check_qkv(test *t, const snapshot *s) {
  const wisp_model *m = t->executor->plan->model;
  const wisp_block *b = &m->blocks[0];
  const uint32_t q_rows = m->heads * m->head_size, kv_rows = m->kv_heads * m->head_size;
  const projection parts[] = {
      {"q", &b->q, b->q_bias, b->q_norm, true}, {"k", &b->k, b->k_bias, b->k_norm, true}, {"v", &b->v, b->v_bias, NULL, false}};
  for (uint32_t c = 0; c < s->columns; c++) {
    const uint32_t position = s->position + c;
    const float *input = take_input(t, s->embedded + c * m->width, m->width, b->attn_norm);
    const uint16_t *kv = s->kv + (size_t)position * 2 * kv_rows;
    for (int part = 0; part < 3; part++) {
      const uint32_t heads = parts[part].matrix->rows / m->head_size;
      for (uint32_t head = 0; head < heads; head += max_u32(heads - 1, 1)) { /* the first and the last */
        const size_t at = (size_t)head * m->head_size;
        if (!check_head_rows(t, &parts[part], head, position, input, part ? NULL : s->q + c * q_rows + at,
                             part ? kv + (part == 2 ? kv_rows : 0) + at : NULL))
          return false;
      }
    }
  }
  return true;
}

/* An error of a score moves the output by as much of the values: the largest of these, times 1 + the largest score's sum of
 * absolute products. */
static float attention_size(const wisp_model *m, const snapshot *s, uint32_t kv_head, uint32_t first, uint32_t length,
                            const float *query) {
  const uint32_t width = m->kv_heads * m->head_size;
  float score = 0, value = 0.1f;
  for (uint32_t p = first; p < length; p++) {
    const uint16_t *key = s->kv + (size_t)p * 2 * width + kv_head * m->head_size;
    float sum = 0;
    for (uint32_t i = 0; i < m->head_size; i++) {
      sum += fabsf(m->attention_scale * query[i] * wisp_f16_to_f32(key[i]));
      value = fmaxf(value, fabsf(wisp_f16_to_f32(key[width + i])));
    }
    score = fmaxf(score, sum);
  }
  return value * (1 + score);
}

static bool check_attention(test *t, const snapshot *s) {
  const wisp_model *m = t->executor->plan->model;
  const uint32_t q_rows = m->heads * m->head_size, kv_width = m->kv_heads * m->head_size, window = m->blocks[0].window;
  const float scale = m->attention_scale * sqrtf((float)m->head_size); /* the reference divides by sqrt(head_size) */
  float *q = t->scratch, *expected = t->scratch + 2 * (size_t)t->widest, scores[TOKENS];
  for (uint32_t c = 0; c < s->columns; c++) {
    const uint32_t length = s->position + c + 1, first = window && length > window ? length - window : 0;
    const wisp_kv_slot slot = {s->kv + (size_t)first * 2 * kv_width, WISP_KV_F16, kv_width};
    for (uint32_t head = 0; head < m->heads; head += max_u32(m->heads - 1, 1)) { /* the first and the last */
      const size_t at = c * q_rows + head * m->head_size;
      for (uint32_t i = 0; i < m->head_size; i++) q[i] = scale * s->q[at + i];
      const uint32_t kv_head = head / (m->heads / m->kv_heads);
      wisp_reference_attention(q, 1, &slot, kv_head, m->head_size, length - first, scores, expected);
      const float size = attention_size(m, s, kv_head, first, length, s->q + at);
      for (uint32_t i = 0; i < m->head_size; i++)
        if (!close_enough(t, "attention", head * m->head_size + i, s->attention[at + i], expected[i],
                          fabsf(expected[i]) + size))
          return false;
    }
  }
  return true;
}

/* after = before + M x, a few rows; with a post norm all rows. */
static bool check_residual(test *t, const snapshot *s, const char *what, const wisp_matrix *matrix, const float *post_norm,
                           const float *x, const float *before, const float *after) {
  const wisp_model *m = t->executor->plan->model;
  float *y = t->scratch + 2 * (size_t)t->widest;
  const uint32_t rows = post_norm ? matrix->rows : ROWS;
  for (uint32_t c = 0; c < s->columns; c++) {
    const float *input = take_input(t, x + c * matrix->cols, matrix->cols, NULL);
    float magnitudes = 0;
    for (uint32_t i = 0; i < rows; i++) {
      float magnitude;
      y[i] = reference_row(t, matrix, post_norm ? i : sampled_row(i, matrix->rows), input, &magnitude);
      magnitudes = fmaxf(magnitudes, magnitude);
    }
    if (post_norm) wisp_reference_rmsnorm(y, post_norm, rows, m->norm_epsilon, y);
    for (uint32_t i = 0; i < rows; i++) {
      const uint32_t row = post_norm ? i : sampled_row(i, matrix->rows);
      const float was = before[c * matrix->rows + row];
      if (!close_enough(t, what, row, after[c * matrix->rows + row], was + y[i], magnitudes + fabsf(was) + fabsf(y[i])))
        return false;
    }
  }
  return true;
}

static bool check_gate_up(test *t, const snapshot *s) {
  const wisp_model *m = t->executor->plan->model;
  const wisp_block *b = &m->blocks[0];
  for (uint32_t c = 0; c < s->columns; c++) {
    const float *input = take_input(t, s->added + c * m->width, m->width, b->ffn_norm);
    for (uint32_t i = 0; i < ROWS; i++) {
      const uint32_t row = sampled_row(i, m->ffn_width);
      float gate_magnitude, up_magnitude;
      float gate = reference_row(t, &b->gate, row, input, &gate_magnitude);
      const float up = reference_row(t, &b->up, row, input, &up_magnitude);
      (m->gelu ? wisp_reference_gelu_mul : wisp_reference_silu_mul)(&gate, &up, 1);
      if (!close_enough(t, "gate_up", row, s->hidden[c * m->ffn_width + row], gate, gate_magnitude * up_magnitude))
        return false;
    }
  }
  return true;
}

static bool check_head(test *t, const snapshot *s) {
  const wisp_model *m = t->executor->plan->model;
  wisp_reference_rmsnorm(s->result + (s->columns - 1) * m->width, m->final_norm, m->width, m->norm_epsilon, t->scratch);
  for (uint32_t i = 0; i < ROWS && m->vocabulary > 1; i++) {
    const uint32_t row = sampled_row(i, m->vocabulary);
    float magnitude;
    const float logit = reference_row(t, &m->head, row, t->scratch, &magnitude);
    if (!close_enough(t, "head", row, s->logits[row], logit, magnitude)) return false;
  }
  return true;
}

/* The kinds in the order of execution; the first wrong one is to blame, since each is judged by its own inputs. */
static bool check_pass(test *t, const snapshot *s, const int32_t *ids, wisp_op_kind *blame) {
  const wisp_model *m = t->executor->plan->model;
  const wisp_block *b = &m->blocks[0];
  if (*blame = WISP_OP_EMBED, !check_embed(t, s, ids)) return false;
  if (*blame = WISP_OP_QKV, !check_qkv(t, s)) return false;
  if (*blame = WISP_OP_ATTENTION, !check_attention(t, s)) return false;
  if (*blame = WISP_OP_ATTN_OUT,
      !check_residual(t, s, "attn_out", &b->attn_out, b->attn_post_norm, s->attention, s->embedded, s->added))
    return false;
  if (*blame = WISP_OP_GATE_UP, !check_gate_up(t, s)) return false;
  if (*blame = WISP_OP_DOWN, !check_residual(t, s, "down", &b->down, b->ffn_post_norm, s->hidden, s->added, s->result))
    return false;
  if (*blame = WISP_OP_HEAD, !check_head(t, s)) return false;
  *blame = WISP_OP_SAMPLE;
  const uint32_t *tokens = wvk_buffer_map(t->timeline->tokens);
  const uint32_t found = tokens[s->position + s->columns];
  const uint32_t expected = (uint32_t)(t->timeline->context.draws ? wisp_sampler_pick(&t->sampler, (float *)s->logits, NULL, 0)
                                                                  : wisp_argmax(s->logits, m->vocabulary));
  if (found == expected) return true;
  snprintf(t->wrong, sizeof t->wrong, "sample: expected token %u, found %u", expected, found);
  return false;
}

/* Results that a batch left as f16, divided by factor, become floats in place; 0: they are. */
static void expand_halves(float *values, uint32_t count, float factor) {
  for (uint32_t i = count; factor != 0 && i-- > 0;) {
    uint16_t half;
    memcpy(&half, (const uint8_t *)values + 2 * i, sizeof half);
    values[i] = factor * wisp_f16_to_f32(half);
  }
}

static void expand_results(test *t, const snapshot *s) {
  const wisp_kernel_context *context = &t->timeline->context;
  const wisp_model *m = context->model;
  float *base = wvk_buffer_map(t->readback);
  if (s->columns == 1) return;
  expand_halves(base + (s->attention - base), s->columns * m->heads * m->head_size,
                wisp_batch_factor(context, WISP_OP_ATTENTION));
  expand_halves(base + (s->hidden - base), s->columns * m->ffn_width, wisp_batch_factor(context, WISP_OP_GATE_UP));
}

/* Records one pass through embed, block 0, head and sample, each output copied to the readback buffer; fills s with where. */
static wisp_status record_pass(test *t, wvk_commands *commands, snapshot *s) {
  const wisp_plan *plan = t->executor->plan;
  const wisp_model *m = plan->model;
  const wisp_activations *a = &t->timeline->context.activations;
  const uint32_t q = m->heads * m->head_size;
  const float *base = wvk_buffer_map(t->readback);
  const struct {
    uint32_t op, from, floats;
    const float **to;
  } outputs[] = {
      {0, a->x, s->columns * m->width, &s->embedded},
      {1, a->q, s->columns * q, &s->q},
      {2, a->attention, s->columns * q, &s->attention},
      {3, a->x, s->columns * m->width, &s->added},
      {4, a->hidden, s->columns * m->ffn_width, &s->hidden},
      {5, a->x, s->columns * m->width, &s->result},
      {plan->op_count - 2, a->logits, m->vocabulary, &s->logits},
  };
  uint64_t at = 0;
  WISP_GPU_TRY(wvk_commands_begin(commands));
  for (size_t i = 0; i < sizeof outputs / sizeof *outputs; i++) {
    const wisp_op *op = &plan->ops[outputs[i].op];
    const bool head = op->kind == WISP_OP_HEAD;
    WISP_TRY(wisp_gpu_record_op(t->timeline, commands, op, head ? s->columns - 1 : 0, head ? 1 : s->columns));
    wvk_cmd_transfer_barrier(commands);
    wvk_cmd_copy(commands, t->timeline->data, outputs[i].from * 4ull, t->readback, at, outputs[i].floats * 4ull);
    wvk_cmd_transfer_barrier(commands);
    *outputs[i].to = base + at / 4;
    at += outputs[i].floats * 4ull;
  }
  WISP_TRY(wisp_gpu_record_op(t->timeline, commands, &plan->ops[plan->op_count - 1], 0, 1));
  wvk_cmd_transfer_barrier(commands);
  wvk_cmd_copy(commands, t->timeline->kv, 0, t->readback, at, TOKENS * wisp_plan_kv_row_bytes(plan, WISP_KV_F16));
  s->kv = (const uint16_t *)(base + at / 4);
  return wisp_gpu_status(wvk_commands_end(commands));
}

/* The pass behind this one draws its token, among many that are likely. */
static wisp_status start_drawing(test *t, const float *logits) {
  const uint32_t vocabulary = t->executor->plan->model->vocabulary;
  if (t->executor->context.refused & 1u << WISP_OP_SAMPLE) return WISP_OK;
  float least = logits[0], greatest = logits[0];
  for (uint32_t i = 0; i < vocabulary; i++) {
    least = fminf(least, logits[i]);
    greatest = fmaxf(greatest, logits[i]);
  }
  const wisp_sampler_params params = {.temperature = fmaxf((greatest - least) / 16, 1e-6f),
                                      .top_k = vocabulary / 2 + 1,
                                      .top_p = 0.9f,
                                      .min_p = 1e-3f,
                                      .repetition_penalty = 1,
                                      .seed = 0x5eedull << 32 | 1};
  WISP_TRY(wisp_sampler_open(&t->sampler, t->executor->host, &params, vocabulary));
  t->timeline->base.sampler = &t->sampler;
  t->timeline->context.draws = true;
  return WISP_OK;
}

static wisp_status run_passes(test *t, wisp_op_kind *blame) {
  const wisp_model *m = t->executor->plan->model;
  const int32_t ids[TOKENS] = {0, (int32_t)(m->vocabulary / 2), (int32_t)(m->vocabulary - 1), (int32_t)(m->vocabulary / 3)};
  uint32_t *tokens = wvk_buffer_map(t->timeline->tokens);
  /* A token alone is not done op by op where kernels are fused. */
  const uint32_t first = t->timeline->context.fused ? 2 : BATCH;
  for (uint32_t position = 0; position < TOKENS; position = first) {
    snapshot s = {.position = position, .columns = position ? TOKENS - first : first};
    WISP_TRY(record_pass(t, t->timeline->batch, &s));
    for (uint32_t i = 0; i < TOKENS; i++) tokens[i] = (uint32_t)ids[i];
    wvk_buffer_flush(t->timeline->tokens, 0, TOKENS * 4);
    wisp_gpu_write_step(t->timeline, position, s.columns, 0);
    WISP_GPU_TRY(wvk_submit(t->executor->device, &t->timeline->batch, 1));
    WISP_GPU_TRY(wvk_wait(t->timeline->batch, UINT64_MAX));
    wvk_buffer_invalidate(t->readback, 0, wvk_buffer_size(t->readback));
    wvk_buffer_invalidate(t->timeline->tokens, 0, (TOKENS + 1) * 4);
    expand_results(t, &s);
    t->alone = s.columns == 1;
    if (!check_pass(t, &s, ids, blame)) return WISP_OK;
    if (position) break;
    WISP_TRY(start_drawing(t, s.logits));
  }
  return WISP_OK;
}

/* Block 0 is all that runs: one slot, whatever the length. */
static wisp_status create_timeline(test *t) {
  gpu_executor *e = t->executor;
  WISP_TRY(wisp_gpu_build_pipelines(e, WISP_KV_F16));
  wisp_kernel_context chosen = e->context;
  chosen.kv_type = WISP_KV_F16;
  return wisp_gpu_timeline_create_as(&t->timeline, e, &chosen, max_u32(TOKENS + 1, wisp_splits_reach(e->plan, &chosen)), 1);
}

static wisp_status run_test(test *t, wisp_op_kind *blame) {
  const wisp_model *m = t->executor->plan->model;
  const uint32_t q = m->heads * m->head_size;
  t->widest = max_u32(max_u32(m->width, m->ffn_width), max_u32(q, TOKENS * m->head_size * wisp_rope_tables(m)));
  t->scratch = wisp_host_alloc(t->executor->host, 4 * (size_t)t->widest, sizeof *t->scratch);
  if (!t->scratch) return wisp_fail_memory(t->executor->host, "self-test", 16ull * t->widest);
  wisp_rope_table(m, TOKENS, t->scratch + 3 * (size_t)t->widest);
  WISP_TRY(create_timeline(t));
  const uint64_t bytes = 4ull * (BATCH * (3ull * m->width + 2ull * q + m->ffn_width) + m->vocabulary) +
                         TOKENS * wisp_plan_kv_row_bytes(t->executor->plan, WISP_KV_F16);
  WISP_GPU_TRY(wvk_buffer_create(&t->readback, t->executor->device, "self-test", bytes, WVK_MEMORY_READBACK));
  WISP_TRY(run_passes(t, blame));
  if (t->wrong[0]) return WISP_OK;
  *blame = WISP_OP_ATTENTION;
  const wisp_status status = wisp_splits_check(t->timeline, t->wrong);
  t->far = t->wrong[0];
  return status;
}

wisp_status wisp_gpu_selftest(gpu_executor *e) {
  for (;;) {
    test t = {.executor = e};
    wisp_op_kind blame = WISP_OP_EMBED;
    const wisp_status status = run_test(&t, &blame);
    const bool drawing = t.timeline && t.timeline->context.draws;
    wvk_buffer_destroy(&t.readback);
    wisp_sampler_close(&t.sampler);
    if (t.timeline) wisp_gpu_timeline_destroy(&t.timeline->base);
    wisp_host_free(e->host, t.scratch);
    if (status != WISP_OK || !t.wrong[0]) return status;

    const char *device = wvk_device_caps(e->device)->name;
    const wvk_caps *caps = wvk_device_caps(e->device);
    if (drawing && blame == WISP_OP_SAMPLE) {
      wisp_log(e->host, WISP_LOG_WARN, "%s draws wrong tokens (%s); the host draws them", device, t.wrong);
      e->context.refused |= 1u << WISP_OP_SAMPLE;
      continue; /* with the checks behind this one */
    }
    if (t.far && !(e->context.refused & WISP_REFUSED_SPLITS)) {
      wisp_log(e->host, WISP_LOG_WARN,
               "%s computes wrong results where workgroups share a head's positions (%s); using the plain way, one a head",
               device, t.wrong);
      e->context.refused |= WISP_REFUSED_SPLITS;
      WISP_TRY(wisp_gpu_build_pipelines(e, WISP_KV_F16));
      continue;
    }
    const wisp_op *op = e->plan->ops;
    while (op->kind != blame) op++;
    if (t.alone && wisp_kernel_halves(&e->context, op)) {
      wisp_log(e->host, WISP_LOG_WARN, "%s computes wrong results in f16 (%s); decode computes in f32", device, t.wrong);
      e->context.refused |= WISP_REFUSED_HALF;
      WISP_TRY(wisp_gpu_build_pipelines(e, WISP_KV_F16));
      continue;
    }
    const bool replaceable = (caps->subgroup_shuffle || caps->int_dot) && !(e->context.refused & 1u << blame) &&
                             blame != WISP_OP_EMBED && blame != WISP_OP_SAMPLE;
    if (!replaceable)
      return wisp_fail(e->host, WISP_ERROR_DEVICE, "%s computes wrong results (%s); use --device cpu", device, t.wrong);
    wisp_log(e->host, WISP_LOG_WARN, "%s computes wrong results with the fast %s kernel (%s); using the plain one", device,
             wisp_op_name(blame), t.wrong);
    e->context.refused |= 1u << blame;
    wisp_activations_plan(&e->context,
                          e->context.activations.columns); /* another geometry of the head leaves other candidates */
    WISP_TRY(wisp_gpu_build_pipelines(e, WISP_KV_F16));
  }
}
