/* SPDX-License-Identifier: Apache-2.0 */
#include "truth.h"

#include <math.h>
#include <string.h>

#include "cpu/reference.h"
#include "gpu/batch_kernels.h"
#include "random.h"
#include "session/sampler.h"

#define EPSILON 0x1p-24         /* of one float operation */
#define HALF_SCALE 5e-4         /* of a scale rounded to f16 */
#define HALF_PRODUCT 0x1.01p-10 /* of a product whose factors were both rounded to f16 */
#define HALF_SUMS 0x1.4p-9      /* of a product with an input rounded to f16, in 4 sums of f16: lib/half_inputs.glsl */
#define PAIR_PRODUCT 0x1p-15    /* of inputs rounded to 2^-17 of the largest of 32, of a quarter of that: spread */

static void *take(truth *t, size_t count, size_t size) {
  void *memory = wisp_host_alloc(t->bed->host, count ? count : 1, size);
  t->owned[t->owned_count++] = memory;
  return memory;
}

/* What adding up n products in any order may cost, in units of their absolute sum: errors add up like a random walk. */
static float sum_bound(uint32_t n) {
  return (float)(EPSILON * (16 + 2 * sqrt(n)));
}

/* ---- What a sum's rounding is measured by ---- */

/* |w| of each weight. Quantised ones are summed as quant * scale + minimum, either of which may be larger than the weight:
 * three times the largest of the block of 32. row: [cols]. */
static void magnitude_row(const wisp_matrix *matrix, uint32_t id, float *row) {
  wisp_reference_embed(matrix, id, row);
  for (uint32_t i = 0; i < matrix->cols; i++) row[i] = fabsf(row[i]);
  if (matrix->type->block_weights == 1) return;
  for (uint32_t i = 0; i < matrix->cols; i += 32) {
    float largest = 0;
    for (uint32_t j = 0; j < 32; j++) largest = fmaxf(largest, row[i + j]);
    for (uint32_t j = 0; j < 32; j++) row[i + j] = 3 * largest;
  }
}

static float op_bound(const truth *t, const wisp_op *op) {
  float bound = sum_bound(op->matrices[0]->cols);
  for (uint32_t i = 0; i < op->matrix_count; i++)
    if (t->bed->shape->rounded && shape_is_k_type(op->matrices[i]->type)) return bound + (float)HALF_SCALE;
  return bound;
}

/* Of the op as this run computes it. */
static float run_bound(const truth *t, const bed_run *run) {
  const char *tiles = run->batch ? wisp_batch_tiles(&t->bed->modes[run->mode], run->op) : NULL;
  const bool halves = tiles && !strcmp(tiles, "_coopmat");
  const bool pairs = tiles && !strcmp(tiles, "_dot") && !t->bed->model.int8_activations;
  if (!run->batch && wisp_kernel_halves(&t->bed->modes[run->mode], run->op)) { /* of many octets, as in sum_bound */
    const double octets = run->op->matrices[0]->cols / 8.0;
    return op_bound(t, run->op) + (float)(HALF_SUMS * fmin(1, 4 / sqrt(octets)));
  }
  return op_bound(t, run->op) + (halves ? (float)HALF_PRODUCT : pairs ? (float)PAIR_PRODUCT : 0);
}

/* ---- Results of the matrix ops for the whole pool ---- */

static uint32_t op_rows(const wisp_op *op) {
  uint32_t rows = 0;
  for (uint32_t i = 0; i < op->matrix_count; i++) rows += op->matrices[i]->rows;
  return rows;
}

/* Inputs that lie between two steps of 8 bits may be rounded to either, and so may the zero point, which takes the input at the
 * range's end with it: two of them, with the row's largest weight. */
static void allow_steps(const float *x, const float *sizes, uint32_t rows, uint32_t cols, float bound, float *magnitudes) {
  float step = 0;
  for (uint32_t i = 0; i < cols; i++) step = fmaxf(step, fabsf(x[i]) / 127);
  for (uint32_t r = 0; r < rows; r++) {
    float weight = 0;
    for (uint32_t i = 0; i < cols; i++) weight = fmaxf(weight, sizes[(size_t)r * cols + i]);
    magnitudes[r] += 2 * step * weight / bound;
  }
}

/* What pairs of bytes hold of an input goes by the largest of its 32: a quarter of that, which is about their mean unless a few
 * are far larger. */
static void spread_largest(float *x, uint32_t count) {
  for (uint32_t i = 0; i < count; i += 32) {
    float largest = 0;
    const uint32_t end = count - i < 32 ? count : i + 32;
    for (uint32_t j = i; j < end; j++) largest = fmaxf(largest, x[j]);
    for (uint32_t j = i; j < end; j++) x[j] = largest / 4;
  }
}

/* magnitudes[pool][rows], or more where inputs become pairs: x[pool][cols] is lost. */
static wisp_status allow_pairs(truth *t, const wisp_matrix *absolute, float *x, float *magnitudes) {
  const size_t count = (size_t)t->pool * absolute->rows;
  float *spread = wisp_host_alloc(t->bed->host, count, sizeof *spread);
  if (!spread) return wisp_fail_memory(t->bed->host, "reference", count * sizeof *spread);
  for (uint32_t c = 0; c < t->pool; c++) spread_largest(x + (size_t)c * absolute->cols, absolute->cols);
  wisp_reference_matmul(absolute, 0, absolute->rows, x, t->pool, t->scratch, spread, absolute->rows);
  for (size_t i = 0; i < count; i++) magnitudes[i] = fmaxf(magnitudes[i], spread[i]);
  wisp_host_free(t->bed->host, spread);
  return WISP_OK;
}

/* results and magnitudes of op, its matrices' rows side by side. */
static wisp_status multiply(truth *t, wisp_op_kind kind, const float *input) {
  if (!shape_has(t->bed->shape, kind)) return WISP_OK;
  const wisp_host *host = t->bed->host;
  const wisp_op *op = bed_op(t->bed, kind);
  const uint32_t stride = op_rows(op), cols = op->matrices[0]->cols;
  float *y = t->results[kind] = take(t, (size_t)t->pool * stride, sizeof *y);
  float *magnitude = t->magnitudes[kind] = take(t, (size_t)t->pool * stride, sizeof *y);
  float *x = wisp_host_alloc(host, (size_t)t->pool * cols, sizeof *x);
  float *sizes = wisp_host_alloc(host, (size_t)stride * cols, sizeof *sizes);
  if (!y || !magnitude || !x || !sizes) {
    wisp_host_free(host, x);
    wisp_host_free(host, sizes);
    return wisp_fail_memory(host, "reference", (uint64_t)stride * cols * 4);
  }
  const bool rounded = t->bed->model.int8_activations && op->kind != WISP_OP_HEAD;
  for (uint32_t c = 0; c < t->pool; c++) {
    if (op->norm)
      wisp_reference_rmsnorm(input + c * cols, op->norm, cols, t->bed->model.norm_epsilon, x + c * cols);
    else
      memcpy(x + c * cols, input + c * cols, cols * sizeof *x);
    if (rounded) wisp_reference_round_int8(x + c * cols, cols);
  }
  for (uint32_t i = 0, at = 0; i < op->matrix_count; at += op->matrices[i++]->rows) {
    wisp_reference_matmul(op->matrices[i], 0, op->matrices[i]->rows, x, t->pool, t->scratch, y + at, stride);
    for (uint32_t r = 0; r < op->matrices[i]->rows; r++) magnitude_row(op->matrices[i], r, sizes + (size_t)(at + r) * cols);
  }
  for (uint32_t i = 0; i < t->pool * cols; i++) x[i] = fabsf(x[i]);
  const wisp_matrix absolute = {
      .type = wisp_dtype_find(WISP_F32), .rows = stride, .cols = cols, .data = (const uint8_t *)sizes};
  wisp_reference_matmul(&absolute, 0, stride, x, t->pool, t->scratch, magnitude, stride);
  for (uint32_t c = 0; c < t->pool && rounded; c++)
    allow_steps(x + (size_t)c * cols, sizes, stride, cols, op_bound(t, op), magnitude + (size_t)c * stride);
  wisp_status status = WISP_OK;
  if (!rounded && t->bed->caps[0].int_dot) status = allow_pairs(t, &absolute, x, magnitude);
  wisp_host_free(host, x);
  wisp_host_free(host, sizes);
  return status;
}

/* [gate, up] of each column becomes activation(gate) * up, at the start of its row. */
static void finish_gate_up(truth *t) {
  const uint32_t n = t->bed->model.ffn_width;
  for (uint32_t c = 0; c < t->pool; c++) {
    float *gate = t->results[WISP_OP_GATE_UP] + 2 * (size_t)c * n, *size = t->magnitudes[WISP_OP_GATE_UP] + 2 * (size_t)c * n;
    for (uint32_t i = 0; i < n; i++) {
      /* The activations lie between 0 and their argument, a little below at most, and rise by at most 1.13 for each 1. */
      const float g = gate[i], up = gate[n + i], most = t->bed->model.gelu ? fabsf(g) : fabsf(g / (1 + expf(-g)));
      size[i] = 1.13f * fabsf(up) * size[i] + most * size[n + i] + most * fabsf(up) * (1 + fabsf(g)); /* exp errs with g */
    }
    (t->bed->model.gelu ? wisp_reference_gelu_mul : wisp_reference_silu_mul)(gate, gate + n, n);
  }
}

/* ---- Inputs ---- */

/* One weight more by one, in a row of the matrix: where column 0 of the input makes most of it. */
static void break_weight(const wisp_matrix *matrix, uint32_t row, const float *input, const float *norm) {
  uint32_t best = 0;
  for (uint32_t i = 0; i < matrix->cols; i++)
    if (fabsf(input[i] * (norm ? norm[i] : 1)) > fabsf(input[best] * (norm ? norm[best] : 1))) best = i;
  ((float *)(void *)matrix->data)[(size_t)row * matrix->cols + best] += 1;
}

static void break_weights(truth *t) {
  for (int kind = WISP_OP_QKV; kind <= WISP_OP_HEAD; kind++) {
    const wisp_op *op = bed_op(t->bed, (wisp_op_kind)kind);
    const float *input = kind == WISP_OP_ATTN_OUT ? t->attended : kind == WISP_OP_DOWN ? t->hidden : t->x;
    if (!op->matrix_count) continue;
    /* A gate near zero hides what is wrong with its row: gate_up gets several. */
    const wisp_matrix *matrix = op->matrices[op->matrix_count - 1];
    const uint32_t rows = kind != WISP_OP_GATE_UP ? 1 : matrix->rows < 16 ? matrix->rows : 16;
    for (uint32_t row = 0; row < rows; row++) break_weight(matrix, row, input, op->norm);
  }
  break_weight(&t->bed->model.embedding, (uint32_t)t->ids[0], t->x, NULL);
}

float truth_cached(const void *row, uint32_t kv_width, wisp_kv_type type, uint32_t i) {
  if (type == WISP_KV_F32) return ((const float *)row)[i];
  if (type == WISP_KV_F16) return wisp_f16_to_f32(((const uint16_t *)row)[i]);
  return ((const int8_t *)row)[i] * wisp_f16_to_f32(wisp_kv_scales(row, kv_width)[i / WISP_KV_BLOCK]);
}

static void fill_slot(truth *t, uint64_t *random) {
  const wisp_model *m = &t->bed->model;
  const uint32_t width = m->kv_heads * m->head_size;
  const wisp_kv_type type = t->bed->shape->kv;
  const size_t row = (size_t)wisp_kv_row_bytes(width, type);
  for (uint32_t p = 0; p < t->bed->shape->context; p++) {
    random_fill(random, t->scratch, 2 * width);
    wisp_reference_kv_write(t->scratch, width, type, t->slot + p * row);
    for (uint32_t i = 0; i < 2 * width; i++)
      t->cached[p * 2 * (size_t)width + i] = truth_cached(t->slot + p * row, width, type, i);
    for (uint32_t i = 0; i < 2 * width; i++) t->scratch[i] += t->broken && p == 0;
    wisp_reference_kv_write(t->scratch, width, type, t->expected_slot + p * row);
  }
}

/* Ties, NaNs and infinities among the head's candidates; column 2 of four has nothing else. */
static void fill_candidates(truth *t, uint64_t *random) {
  for (uint32_t c = 0; c < t->bed->modes[0].activations.logit_columns; c++)
    for (uint32_t i = 0; i < t->candidate_stride; i++) {
      float *pair = t->candidates + 2 * ((size_t)c * t->candidate_stride + i);
      const uint32_t odd = c % 4 == 2 ? random_below(random, 2) : c % 4 == 1 ? random_below(random, 8) : 2;
      pair[0] = odd == 0 ? NAN : odd == 1 ? -INFINITY : floorf(2 * random_normal(random));
      pair[1] = 3.0f * (float)i;
    }
}

static wisp_status open_truth(truth *t, uint64_t *random) {
  const bed *b = t->bed;
  const wisp_model *m = &b->model;
  const wisp_activations *a = &b->modes[0].activations;
  const uint32_t q = m->heads * m->head_size, kv = m->kv_heads * m->head_size, context = b->shape->context;
  const size_t widest = m->width > m->ffn_width ? m->width : m->ffn_width;
  for (uint32_t i = 0; i < BED_MODES; i++)
    if (b->modes[i].activations.candidate_stride > t->candidate_stride)
      t->candidate_stride = b->modes[i].activations.candidate_stride;
  t->pool = b->shape->columns;
  t->arena_size = 2 * (t->pool * (q + 5 * kv + widest) + (size_t)a->logit_columns * m->vocabulary) + 64;
  t->x = take(t, (size_t)t->pool * m->width, sizeof(float));
  t->query = take(t, (size_t)t->pool * q, sizeof(float));
  t->attended = take(t, (size_t)t->pool * q, sizeof(float));
  t->hidden = take(t, (size_t)t->pool * m->ffn_width, sizeof(float));
  t->rope = take(t, (size_t)context * wisp_rope_tables(m) * m->head_size, sizeof(float));
  t->slot = take(t, 2 * (size_t)context * kv, sizeof(float));
  t->expected_slot = take(t, 2 * (size_t)context * kv, sizeof(float));
  t->ids = take(t, context + 1, sizeof *t->ids);
  t->candidates = take(t, 2 * (size_t)a->logit_columns * t->candidate_stride, sizeof(float));
  t->cached = take(t, 2 * (size_t)context * kv, sizeof(float));
  t->arena = take(t, t->arena_size, sizeof(float));
  t->scratch = take(t, widest + q + 2 * kv + 2 * context + m->head_size + t->candidate_stride, sizeof(float));
  for (uint32_t i = 0; i < t->owned_count; i++)
    if (!t->owned[i]) return wisp_fail_memory(b->host, "inputs", t->arena_size * sizeof(float));

  random_fill(random, t->x, (size_t)t->pool * m->width);
  if (t->pool > 1) memset(t->x + (size_t)(t->pool - 1) * m->width, 0, m->width * sizeof(float)); /* a norm without a length */
  random_fill(random, t->query, (size_t)t->pool * q);
  random_fill(random, t->attended, (size_t)t->pool * q);
  random_fill(random, t->hidden, (size_t)t->pool * m->ffn_width);
  /* Some models have a few activations that are thousands of times larger than the others. */
  t->hidden[m->ffn_width / 3] = 4000;
  if (t->pool > 2) t->x[m->width + m->width / 3] = 4000;
  wisp_rope_table(m, context, t->rope);
  fill_slot(t, random);
  for (uint32_t i = 0; i <= context; i++) t->ids[i] = (int32_t)random_below(random, m->vocabulary);
  fill_candidates(t, random);
  if (t->broken) break_weights(t);

  WISP_TRY(multiply(t, WISP_OP_QKV, t->x));
  WISP_TRY(multiply(t, WISP_OP_ATTN_OUT, t->attended));
  WISP_TRY(multiply(t, WISP_OP_GATE_UP, t->x));
  WISP_TRY(multiply(t, WISP_OP_DOWN, t->hidden));
  WISP_TRY(multiply(t, WISP_OP_HEAD, t->x));
  if (t->results[WISP_OP_GATE_UP]) finish_gate_up(t);
  return WISP_OK;
}

wisp_status truth_open(truth *t, bed *b, bool broken, uint64_t *random) {
  *t = (truth){.bed = b, .broken = broken};
  const wisp_status status = open_truth(t, random);
  if (status != WISP_OK) truth_close(t);
  return status;
}

void truth_close(truth *t) {
  for (uint32_t i = 0; i < t->owned_count; i++) wisp_host_free(t->bed->host, t->owned[i]);
  *t = (truth){0};
}

/* ---- One run ---- */

static region *add_region(truth *t, const char *name, bed_buffer buffer, region_kind kind, uint64_t first, uint64_t count) {
  region *r = &t->regions[t->region_count++];
  *r = (region){.name = name, .buffer = buffer, .kind = kind, .first = (uint32_t)first, .count = (uint32_t)count, .factor = 1};
  if (kind == REGION_ANY) return r;
  const size_t values = kind == REGION_HALVES ? 2 * count : kind == REGION_ROWS ? 4 * count : count;
  r->expected = t->arena + t->arena_used;
  r->words = (uint32_t *)(void *)r->expected;
  r->magnitude = r->expected + values;
  t->arena_used += 2 * values;
  return r;
}

static uint32_t pool_column(const truth *t, const bed_run *run, uint32_t column) {
  return (column + run->shift) % t->pool;
}

/* Columns 0 .. count of the run from the pool to an array of the data buffer. */
static void put_columns(truth *t, const bed_run *run, uint32_t at, const float *pool, uint32_t width) {
  for (uint32_t c = 0; c < run->count; c++)
    memcpy(t->bed->before[BED_DATA] + at + (size_t)c * width, pool + (size_t)pool_column(t, run, c) * width, width * 4);
}

/* The same as f16, divided by factor; 0: floats. */
static void put_results(truth *t, const bed_run *run, uint32_t at, const float *pool, uint32_t width, float factor) {
  if (!factor) {
    put_columns(t, run, at, pool, width);
    return;
  }
  uint16_t *halves = (uint16_t *)(void *)(t->bed->before[BED_DATA] + at);
  for (uint32_t c = 0; c < run->count; c++)
    for (uint32_t i = 0; i < width; i++)
      halves[(size_t)c * width + i] = wisp_f32_to_f16(pool[(size_t)pool_column(t, run, c) * width + i] / factor);
}

static float batch_factor(const truth *t, const bed_run *run) {
  return run->batch ? wisp_batch_factor(&t->bed->modes[run->mode], run->op->kind) : 0;
}

/* What attention or gate_up leaves: floats, or f16 for the op behind it. */
static region *add_results(truth *t, const bed_run *run, const char *name, uint32_t at, uint32_t width) {
  const float factor = batch_factor(t, run);
  const uint64_t count = (uint64_t)run->count * width;
  region *r = add_region(t, name, BED_DATA, factor ? REGION_HALVES : REGION_FLOATS, at, factor ? count / 2 : count);
  if (factor) r->factor = factor;
  return r;
}

static void put_slot(truth *t, uint32_t positions) {
  const size_t row = wisp_plan_kv_row_bytes(&t->bed->plan, t->bed->shape->kv);
  const uint64_t at = bed_op(t->bed, WISP_OP_QKV)->kv_slot * t->bed->slot_bytes;
  memcpy((uint8_t *)t->bed->before[BED_KV] + at, t->slot, row * positions);
}

static void expect_embed(truth *t, const bed_run *run) {
  const wisp_matrix *matrix = &t->bed->model.embedding;
  const uint32_t width = matrix->cols;
  region *r = add_region(t, "x", BED_DATA, REGION_FLOATS, t->bed->modes[run->mode].activations.x, (uint64_t)run->count * width);
  r->bound = (float)(2 * EPSILON);
  if (t->bed->shape->rounded && shape_is_k_type(matrix->type)) r->bound += (float)HALF_SCALE;
  for (uint32_t c = 0; c < run->count; c++) {
    t->bed->before[BED_TOKENS][run->position + c] = (uint32_t)t->ids[run->position + c];
    wisp_reference_embed(matrix, (uint32_t)t->ids[run->position + c], r->expected + (size_t)c * width);
    magnitude_row(matrix, (uint32_t)t->ids[run->position + c], r->magnitude + (size_t)c * width);
    for (size_t i = (size_t)c * width; i < ((size_t)c + 1) * width; i++) {
      r->expected[i] *= t->bed->model.embedding_scale;
      r->magnitude[i] *= t->bed->model.embedding_scale;
    }
  }
}

/* rmsnorm in place. An error of the factor, too, comes from those of all values. */
static void norm(float *values, float *magnitudes, const float *weights, uint32_t n, float epsilon) {
  double squares = (double)n * epsilon, errors = 0;
  for (uint32_t i = 0; i < n; i++) {
    squares += (double)values[i] * values[i];
    errors += (double)fabsf(values[i]) * magnitudes[i];
  }
  wisp_reference_rmsnorm(values, weights, n, epsilon, values);
  for (uint32_t i = 0; i < n; i++)
    magnitudes[i] = (float)(sqrt(n / squares) * fabs(weights ? weights[i] : 1) * magnitudes[i] +
                            fabsf(values[i]) * (1 + errors / squares));
}

typedef struct projection { /* q, k or v */
  const float *bias, *norm;
  uint32_t heads;
  bool turned;
} projection;

/* A token's rows of M rmsnorm(x) become what is kept of them. */
static void finish_heads(const truth *t, const wisp_block *b, const projection *p, uint32_t position, float *values,
                         float *magnitudes) {
  const wisp_model *m = &t->bed->model;
  const uint32_t size = m->head_size, tables = wisp_rope_tables(m);
  const float *turns = t->rope + ((size_t)position * tables + (tables > 1 && b->window)) * size;
  for (uint32_t i = 0; p->bias && i < p->heads * size; i++) {
    values[i] += p->bias[i];
    magnitudes[i] += fabsf(p->bias[i]);
  }
  for (uint32_t h = 0; h < p->heads && p->turned; h++, values += size, magnitudes += size) {
    if (p->norm) norm(values, magnitudes, p->norm, size, m->norm_epsilon);
    wisp_reference_rope(values, turns, size / 2);
    for (uint32_t i = 0; i < size; i += 2) magnitudes[i] = magnitudes[i + 1] = magnitudes[i] + magnitudes[i + 1];
    if (m->qk_norm_plain) norm(values, magnitudes, NULL, size, m->norm_epsilon);
  }
}

bool truth_stages(const truth *t, const bed_run *run) {
  if (run->op->kind != WISP_OP_QKV || !run->batch) return false;
  const uint32_t parts = wisp_kernel_parts(&t->bed->modes[run->mode], run->op, true);
  return !strcmp(wisp_kernel_for(&t->bed->modes[run->mode], run->op, parts - 1, true).kernel.shader->name, "kv_store");
}

static void expect_qkv(truth *t, const bed_run *run) {
  bed *b = t->bed;
  const wisp_model *m = &b->model;
  const wisp_activations *a = &b->modes[run->mode].activations;
  const uint32_t q = m->heads * m->head_size, kv = 2 * m->kv_heads * m->head_size;
  const uint32_t words = (uint32_t)wisp_plan_kv_row_bytes(&b->plan, b->shape->kv) / 4;
  static const region_kind kinds[] = {
      [WISP_KV_F16] = REGION_HALVES, [WISP_KV_F32] = REGION_FLOATS, [WISP_KV_Q8_0] = REGION_ROWS};
  const uint64_t slot = run->op->kv_slot * b->slot_bytes / 4;
  put_columns(t, run, a->x, t->x, m->width);
  put_slot(t, run->position);
  memcpy(b->before[BED_DATA] + a->rope, t->rope, (size_t)b->shape->context * wisp_rope_tables(m) * m->head_size * 4);
  region *queries = add_region(t, "q", BED_DATA, REGION_FLOATS, a->q, (uint64_t)run->count * q);
  region *cached = add_region(t, "K and V", BED_KV, kinds[b->shape->kv], slot + (uint64_t)run->position * words,
                              (uint64_t)run->count * words);
  cached->width = kv / 2;
  if (truth_stages(t, run)) add_region(t, "staged", BED_DATA, REGION_ANY, a->hidden, (uint64_t)run->count * kv);
  queries->bound = cached->bound = run_bound(t, run);
  if (run->batch && (m->qk_norm_plain || run->op->block->q_norm)) /* k waits there for the norm of its heads */
    add_region(t, "k", BED_DATA, REGION_ANY, a->attention, (uint64_t)run->count * q);
  const wisp_block *block = run->op->block;
  const projection parts[] = {{block->q_bias, block->q_norm, m->heads, true},
                              {block->k_bias, block->k_norm, m->kv_heads, true},
                              {block->v_bias, NULL, m->kv_heads, false}};
  for (uint32_t c = 0; c < run->count; c++) {
    const size_t from = (size_t)pool_column(t, run, c) * (q + kv);
    const float *values = t->results[WISP_OP_QKV] + from, *magnitudes = t->magnitudes[WISP_OP_QKV] + from;
    memcpy(queries->expected + (size_t)c * q, values, q * 4);
    memcpy(queries->magnitude + (size_t)c * q, magnitudes, q * 4);
    memcpy(cached->expected + (size_t)c * kv, values + q, kv * 4);
    memcpy(cached->magnitude + (size_t)c * kv, magnitudes + q, kv * 4);
    for (int part = 0; part < 3; part++) {
      const region *r = part ? cached : queries;
      const size_t at = part ? (size_t)c * kv + (part == 2 ? kv / 2 : 0) : (size_t)c * q;
      finish_heads(t, block, &parts[part], run->position + c, r->expected + at, r->magnitude + at);
    }
  }
}

/* An error e of a score moves its weight w by w * e, and with it the output by w * e * (v - output). Positions [first, last].
 */
static void attention_magnitudes(const truth *t, const float *query, uint32_t kv_head, uint32_t first, uint32_t last,
                                 const float *out, float *magnitudes) {
  const uint32_t size = t->bed->model.head_size, width = t->bed->model.kv_heads * size, length = last + 1 - first;
  const float *keys = t->cached + (size_t)first * 2 * width + kv_head * size, *values = keys + width;
  float *scores = t->scratch, *errors = scores + length; /* errors: of the score, as a sum of absolute products */
  float maximum = -INFINITY, total = 0;
  for (uint32_t p = 0; p < length; p++) {
    scores[p] = errors[p] = 0;
    for (uint32_t i = 0; i < size; i++) {
      const float product = t->bed->model.attention_scale * query[i] * keys[(size_t)p * 2 * width + i];
      scores[p] += product;
      errors[p] += fabsf(product);
    }
    maximum = fmaxf(maximum, scores[p]);
  }
  for (uint32_t p = 0; p < length; p++) total += expf(scores[p] - maximum);
  memset(magnitudes, 0, size * sizeof *magnitudes);
  for (uint32_t p = 0; p < length; p++) {
    const float weight = expf(scores[p] - maximum) / total, error = 1 + errors[p] + maximum - scores[p];
    const float *row = values + (size_t)p * 2 * width;
    for (uint32_t i = 0; i < size; i++) magnitudes[i] += weight * (fabsf(row[i]) + error * (fabsf(row[i]) + fabsf(out[i])));
  }
}

static void expect_head_of_attention(truth *t, const bed_run *run, uint32_t column, uint32_t head, region *r) {
  const wisp_model *m = &t->bed->model;
  const uint32_t size = m->head_size, q = m->heads * size, kv_width = m->kv_heads * size, window = run->op->block->window;
  const uint32_t kv_head = head / (m->heads / m->kv_heads), last = run->position + column;
  const uint32_t first = window && last + 1 > window ? last + 1 - window : 0;
  const wisp_kv_type type = t->bed->shape->kv;
  const wisp_kv_slot slot = {t->expected_slot + first * wisp_kv_row_bytes(kv_width, type), type, kv_width};
  const float *query = t->query + (size_t)pool_column(t, run, column) * q + head * size;
  const size_t at = (size_t)column * q + head * size;
  float *scaled = t->scratch, *scores = scaled + size;
  /* The reference divides by sqrt(head_size). */
  for (uint32_t i = 0; i < size; i++)
    scaled[i] = shape_is(t->bed->shape, 's') ? m->attention_scale * sqrtf((float)size) * query[i] : query[i];
  wisp_reference_attention(scaled, 1, &slot, kv_head, size, last + 1 - first, scores, r->expected + at);
  attention_magnitudes(t, query, kv_head, first, last, r->expected + at, r->magnitude + at);
}

/* Shares below 2^-24 of the largest are lost in f16, a part of 2^-25 of each may be. */
static void allow_lost_shares(const truth *t, uint32_t positions, region *r) {
  const wisp_model *m = &t->bed->model;
  const uint32_t size = m->head_size, width = m->kv_heads * size, q = m->heads * size;
  for (uint32_t i = 0; i < q; i++) {
    float values = 0;
    const uint32_t element = width + i / size / (m->heads / m->kv_heads) * size + i % size;
    for (uint32_t p = 0; p < positions; p++) values += fabsf(t->cached[(size_t)p * 2 * width + element]);
    for (uint32_t at = i; at < r->count * (r->kind == REGION_HALVES ? 2 : 1); at += q)
      r->magnitude[at] += 0x1p-24f / r->bound * values;
  }
}

static void expect_attention(truth *t, const bed_run *run) {
  const wisp_model *m = &t->bed->model;
  const wisp_activations *a = &t->bed->modes[run->mode].activations;
  const uint32_t q = m->heads * m->head_size, longest = run->position + run->count;
  put_columns(t, run, a->q, t->query, q);
  put_slot(t, longest);
  memset(t->bed->before[BED_DATA] + a->arrivals, 0, m->heads * 4); /* and so they must be left */
  region *r = add_results(t, run, "attended", a->attention, q);
  add_region(t, "partial results", BED_DATA, REGION_ANY, a->partials,
             (uint64_t)m->heads * WISP_MOST_SPLITS * (m->head_size + 2));
  r->bound = sum_bound(longest > m->head_size ? longest : m->head_size);
  const wisp_kernel kernel = wisp_kernel_for(&t->bed->modes[run->mode], run->op, 0, run->batch).kernel;
  if (kernel.shader->needs & WISP_NEEDS_COOPMAT) r->bound += (float)HALF_PRODUCT; /* keys and values are halves already */
  for (uint32_t c = 0; c < run->count; c++)
    for (uint32_t h = 0; h < m->heads; h++) expect_head_of_attention(t, run, c, h, r);
  if (kernel.shader->needs & WISP_NEEDS_COOPMAT) allow_lost_shares(t, longest, r);
}

/* x += post_norm(M input) */
static void expect_residual(truth *t, const bed_run *run, const float *input, uint32_t at) {
  const wisp_model *m = &t->bed->model;
  const wisp_activations *a = &t->bed->modes[run->mode].activations;
  put_results(t, run, at, input, run->op->matrices[0]->cols, batch_factor(t, run));
  put_columns(t, run, a->x, t->x, m->width);
  region *r = add_region(t, "x", BED_DATA, REGION_FLOATS, a->x, (uint64_t)run->count * m->width);
  r->bound = run_bound(t, run);
  if (run->op->post_norm) add_region(t, "projected", BED_DATA, REGION_ANY, a->projected, (uint64_t)run->count * m->width);
  for (uint32_t c = 0; c < run->count; c++) {
    const size_t from = (size_t)pool_column(t, run, c) * m->width;
    float *values = r->expected + (size_t)c * m->width, *magnitudes = r->magnitude + (size_t)c * m->width;
    memcpy(values, t->results[run->op->kind] + from, m->width * 4);
    memcpy(magnitudes, t->magnitudes[run->op->kind] + from, m->width * 4);
    if (run->op->post_norm) norm(values, magnitudes, run->op->post_norm, m->width, m->norm_epsilon);
    for (uint32_t i = 0; i < m->width; i++) {
      values[i] += t->x[from + i];
      magnitudes[i] += fabsf(t->x[from + i]);
    }
  }
}

static void expect_gate_up(truth *t, const bed_run *run) {
  const wisp_model *m = &t->bed->model;
  const wisp_activations *a = &t->bed->modes[run->mode].activations;
  const uint32_t n = m->ffn_width;
  put_columns(t, run, a->x, t->x, m->width);
  region *r = add_results(t, run, "hidden", a->hidden, n);
  r->bound = run_bound(t, run);
  for (uint32_t c = 0; c < run->count; c++) {
    const size_t from = 2 * (size_t)pool_column(t, run, c) * n;
    memcpy(r->expected + (size_t)c * n, t->results[WISP_OP_GATE_UP] + from, n * 4);
    memcpy(r->magnitude + (size_t)c * n, t->magnitudes[WISP_OP_GATE_UP] + from, n * 4);
  }
}

static void expect_head(truth *t, const bed_run *run) {
  const wisp_model *m = &t->bed->model;
  const wisp_activations *a = &t->bed->modes[run->mode].activations;
  put_columns(t, run, a->x, t->x, m->width);
  for (uint32_t c = 0; c < run->columns; c++) {
    region *r = add_region(t, "logits", BED_DATA, REGION_FLOATS, a->logits + (uint64_t)c * a->logit_stride, m->vocabulary);
    r->bound = run_bound(t, run);
    const size_t from = (size_t)pool_column(t, run, run->first + c) * m->vocabulary;
    memcpy(r->expected, t->results[WISP_OP_HEAD] + from, m->vocabulary * 4);
    memcpy(r->magnitude, t->magnitudes[WISP_OP_HEAD] + from, m->vocabulary * 4);
  }
  /* A workgroup takes several columns: it may write those of the step behind the last one asked for. */
  const uint32_t each = wisp_kernel_for(&t->bed->modes[run->mode], run->op, 0, run->batch).items_each;
  uint32_t written = (run->columns + each - 1) / each * each;
  if (written > run->count - run->first) written = run->count - run->first;
  if (written > a->logit_columns) written = a->logit_columns;
  for (uint32_t c = run->columns; c < written; c++)
    add_region(t, "more logits", BED_DATA, REGION_ANY, a->logits + (uint64_t)c * a->logit_stride, m->vocabulary);
  add_region(t, "candidates", BED_DATA, REGION_ANY, a->candidates, 2ull * written * a->candidate_stride);
}

static void expect_sample(truth *t, const bed_run *run) {
  const wisp_activations *a = &t->bed->modes[run->mode].activations;
  const uint32_t stride = a->candidate_stride;
  for (uint32_t c = 0; c < a->logit_columns; c++)
    memcpy(t->bed->before[BED_DATA] + a->candidates + 2 * (size_t)c * stride,
           t->candidates + 2 * (size_t)c * t->candidate_stride, 2 * (size_t)stride * 4);
  for (uint32_t i = 0; i < stride; i++) t->scratch[i] = t->candidates[2 * (run->first * t->candidate_stride + i)];
  const uint32_t best = (uint32_t)wisp_argmax(t->scratch, stride), next = run->position + run->count;
  add_region(t, "token", BED_TOKENS, REGION_WORDS, next, 1)->words[0] = 3 * best + t->broken;
  region *step = add_region(t, "step", BED_STEP, REGION_WORDS, 0, 2);
  step->words[WISP_STEP_POSITION] = next;
  step->words[WISP_STEP_COUNT] = 1;
}

void truth_expect(truth *t, const bed_run *run) {
  bed *b = t->bed;
  const wisp_activations *a = &b->modes[run->mode].activations;
  t->region_count = 0;
  t->arena_used = 0;
  for (int i = 0; i < BED_BUFFERS; i++)
    for (size_t w = 0; w < b->words[i]; w++) b->before[i][w] = BED_POISON;
  b->before[BED_STEP][WISP_STEP_POSITION] = run->position;
  b->before[BED_STEP][WISP_STEP_COUNT] = run->count;
  switch (run->op->kind) {
  case WISP_OP_EMBED:
    expect_embed(t, run);
    break;
  case WISP_OP_QKV:
    expect_qkv(t, run);
    break;
  case WISP_OP_ATTENTION:
    expect_attention(t, run);
    break;
  case WISP_OP_ATTN_OUT:
    expect_residual(t, run, t->attended, a->attention);
    break;
  case WISP_OP_GATE_UP:
    expect_gate_up(t, run);
    break;
  case WISP_OP_DOWN:
    expect_residual(t, run, t->hidden, a->hidden);
    break;
  case WISP_OP_HEAD:
    expect_head(t, run);
    break;
  case WISP_OP_SAMPLE:
    expect_sample(t, run);
    break;
  }
  if (run->batch && wisp_batch_tiles(&b->modes[run->mode], run->op)) {
    const uint32_t cols = run->op->matrices[0]->cols, stride = wisp_batch_input_stride(&b->modes[run->mode], cols);
    const uint32_t product = wisp_batch_product(&b->modes[run->mode], run->op);
    if (product) add_region(t, "prepared", BED_DATA, REGION_ANY, a->inputs, (uint64_t)run->columns * stride);
    if (wisp_batch_parts(&b->modes[run->mode], run->op) > product + 1)
      add_region(t, "splits", BED_DATA, REGION_ANY, a->splits,
                 wisp_batch_split_floats(&b->modes[run->mode]) * (uint64_t)a->split_columns);
  }
}
