/* SPDX-License-Identifier: Apache-2.0 */
#include "cpu/forward.h"

#include <math.h>

/* More parts than threads, so that one that was interrupted does not hold up the others; but none so small that sharing it out
 * costs as much as it does: a microsecond is some tens of thousands of multiply-adds. */
enum { PARTS_PER_THREAD = 4, LEAST_WORK = 20000 };

/* Units [begin, end) of an op: tiles of a matrix, tokens, heads. */
typedef struct job job;
typedef void range_fn(const job *j, uint32_t begin, uint32_t end, uint32_t worker);
struct job {
  const wisp_cpu_pass *pass;
  const wisp_op *op;
  range_fn *run;
  float *input; /* of round_tokens and quantize_tokens */
  uint32_t units;
  uint64_t work; /* of all units, about, in multiply-adds */
};

static void run_part(void *argument, uint32_t part, uint32_t parts, uint32_t worker) {
  const job *j = argument;
  j->run(j, wisp_share(j->units, part, parts), wisp_share(j->units, part + 1, parts), worker);
}

static void spread_job(job j) {
  const uint64_t most = wisp_threads_count(j.pass->threads) * PARTS_PER_THREAD, worth = 1 + j.work / LEAST_WORK;
  const uint64_t parts = most < worth ? most : worth;
  wisp_threads_run(j.pass->threads, run_part, &j, j.units < parts ? j.units : (uint32_t)parts);
}

/* A unit is a token: about ten operations an element. */
static void spread_tokens(const wisp_cpu_pass *pass, const wisp_op *op, range_fn *run) {
  spread_job(
      (job){.pass = pass, .op = op, .run = run, .units = pass->count, .work = 10ull * pass->count * pass->plan->model->width});
}

/* A unit is a tile of rows of the op's matrices. */
static void spread_tiles(const wisp_cpu_pass *pass, const wisp_op *op, range_fn *run, uint32_t units) {
  spread_job(
      (job){.pass = pass, .op = op, .run = run, .units = units, .work = wisp_op_flops(pass->plan, op, pass->count, 0) / 2});
}

/* ---- Pieces ------------------------------------------------------------------------------------------------------- */

static uint32_t kv_width(const wisp_model *m) {
  return m->kv_heads * m->head_size;
}

/* Rows are shared out in tiles. */
static uint32_t tile_rows(const wisp_cpu_pass *pass) {
  return pass->kernels->packing.rows ? pass->kernels->packing.rows : WISP_MATMUL_ROWS;
}

static uint32_t tiles(const wisp_cpu_pass *pass, const wisp_matrix *matrix) {
  return (matrix->rows + tile_rows(pass) - 1) / tile_rows(pass);
}

/* Rows [begin, end). */
typedef struct range {
  uint32_t begin, end;
} range;

static range rows_of(const wisp_cpu_pass *pass, const wisp_matrix *matrix, uint32_t tile_begin, uint32_t tile_end) {
  const uint32_t begin = tile_begin * tile_rows(pass), end = tile_end * tile_rows(pass);
  return (range){begin, end < matrix->rows ? end : matrix->rows};
}

/* Rows of matrix `index` of the op for the columns from `from` on; take_input has seen the input. */
static void matmul(const job *j, uint32_t index, range rows, const float *input, uint32_t from, float *output, size_t stride,
                   uint32_t worker) {
  const wisp_cpu_pass *pass = j->pass;
  const wisp_matrix *matrix = j->op->matrices[index];
  const wisp_packed *packed = &pass->weights->ops[j->op - pass->plan->ops][index];
  if (packed->format) {
    pass->kernels->packed_matmul(packed, rows.begin, rows.end, &pass->codes, pass->count - from, output, stride);
  } else {
    pass->kernels->matmul(matrix, rows.begin, rows.end, input + (size_t)from * matrix->cols, pass->count - from,
                          pass->rows + worker * pass->row_floats, output, stride);
  }
}

/* The op's input is rounded to 8 bits: that of every matrix of a w8a8 model but the head. */
static bool is_rounded(const job *j) {
  return j->pass->plan->model->int8_activations && j->op->kind != WISP_OP_HEAD;
}

static void round_tokens(const job *j, uint32_t begin, uint32_t end, uint32_t worker) {
  const size_t cols = j->op->matrices[0]->cols;
  for (uint32_t c = begin; c < end; c++) j->pass->steps[c] = j->pass->kernels->round_int8(j->input + c * cols, (uint32_t)cols);
}

static void quantize_tokens(const job *j, uint32_t begin, uint32_t end, uint32_t worker) {
  const size_t cols = j->op->matrices[0]->cols;
  const wisp_codes *codes = &j->pass->codes;
  for (uint32_t c = begin; c < end; c++)
    j->pass->kernels->quantize(j->input + c * cols, (uint32_t)cols, is_rounded(j) ? j->pass->steps[c] : 0,
                               codes->codes + c * cols, codes->scales + c * (cols / WISP_CODE_BLOCK));
}

/* The columns of input from `from` on are what the op's matrices will be multiplied with. */
static void take_input(const wisp_cpu_pass *pass, const wisp_op *op, float *input, uint32_t from) {
  float *first = input + (size_t)from * op->matrices[0]->cols;
  const wisp_packed *packed = pass->weights->ops[op - pass->plan->ops];
  job j = {.pass = pass,
           .op = op,
           .input = first,
           .units = pass->count - from,
           .work = 4ull * (pass->count - from) * op->matrices[0]->cols};
  for (uint32_t i = 0; pass->observe && i < op->matrix_count; i++)
    pass->observe(pass->observe_user, op->matrices[i], first, pass->count - from);
  if (is_rounded(&j)) {
    j.run = round_tokens;
    spread_job(j);
  }
  if (packed[0].format || packed[1].format || packed[2].format) {
    j.run = quantize_tokens;
    spread_job(j);
  }
}

static void norm_tokens(const job *j, uint32_t begin, uint32_t end, uint32_t worker) {
  const wisp_model *m = j->pass->plan->model;
  for (uint32_t c = begin; c < end; c++) {
    j->pass->kernels->rmsnorm(j->pass->x + (size_t)c * m->width, j->op->norm, m->width, m->norm_epsilon,
                              j->pass->normed + (size_t)c * m->width);
  }
}

/* x += M input, tiles [begin, end); with a post norm only the product, which add_normed adds. */
static void project_tiles(const job *j, const float *input, uint32_t begin, uint32_t end, uint32_t worker) {
  const wisp_cpu_pass *pass = j->pass;
  const size_t width = pass->plan->model->width;
  const range rows = rows_of(pass, j->op->matrices[0], begin, end);
  matmul(j, 0, rows, input, 0, pass->projected, width, worker);
  if (j->op->post_norm) return;
  for (uint32_t c = 0; c < pass->count; c++) {
    for (size_t r = rows.begin; r < rows.end; r++) pass->x[c * width + r] += pass->projected[c * width + r];
  }
}

static void add_normed(const job *j, uint32_t begin, uint32_t end, uint32_t worker) {
  const wisp_cpu_pass *pass = j->pass;
  const wisp_model *m = pass->plan->model;
  for (uint32_t c = begin; c < end; c++) {
    float *projected = pass->projected + (size_t)c * m->width;
    pass->kernels->rmsnorm(projected, j->op->post_norm, m->width, m->norm_epsilon, projected);
    for (uint32_t i = 0; i < m->width; i++) pass->x[(size_t)c * m->width + i] += projected[i];
  }
}

/* ---- Ops ---------------------------------------------------------------------------------------------------------- */

static void embed_tokens(const job *j, uint32_t begin, uint32_t end, uint32_t worker) {
  const wisp_cpu_pass *pass = j->pass;
  for (uint32_t c = begin; c < end; c++) {
    const wisp_model *m = pass->plan->model;
    float *x = pass->x + (size_t)c * m->width;
    pass->kernels->embed(j->op->matrices[0], (uint32_t)pass->ids[c], x);
    for (uint32_t i = 0; m->embedding_scale != 1 && i < m->width; i++) x[i] *= m->embedding_scale;
  }
}

static void embed(const wisp_cpu_pass *pass, const wisp_op *op) {
  spread_tokens(pass, op, embed_tokens);
}

/* The tiles of q, k and v are numbered one behind the other. */
static void qkv_tiles(const job *j, uint32_t begin, uint32_t end, uint32_t worker) {
  const wisp_cpu_pass *pass = j->pass;
  const wisp_model *m = pass->plan->model;
  float *const outputs[3] = {pass->q, pass->kv, pass->kv + kv_width(m)};
  const size_t strides[3] = {(size_t)m->heads * m->head_size, 2 * (size_t)kv_width(m), 2 * (size_t)kv_width(m)};
  for (uint32_t i = 0, first = 0; i < 3; first += tiles(pass, j->op->matrices[i++])) {
    const wisp_matrix *matrix = j->op->matrices[i];
    const uint32_t from = begin > first ? begin - first : 0, to = end > first ? end - first : 0;
    const range rows = rows_of(pass, matrix, from, to);
    if (rows.begin < rows.end) matmul(j, i, rows, pass->normed, 0, outputs[i], strides[i], worker);
  }
}

static uint8_t *cache_at(const wisp_cpu_pass *pass, const wisp_op *op, uint32_t position) {
  size_t row_bytes = (size_t)wisp_plan_kv_row_bytes(pass->plan, pass->kv_type);
  return pass->cache + ((size_t)op->kv_slot * pass->context + position) * row_bytes;
}

static void add_bias(float *x, const float *bias, uint32_t n) {
  for (uint32_t i = 0; bias && i < n; i++) x[i] += bias[i];
}

/* Heads of one token's q or k: norm with weights, RoPE; or RoPE, norm without (one factor, which RoPE does not change). */
static void turn_heads(const wisp_cpu_pass *pass, float *heads, uint32_t count, const float *norm, const float *turns) {
  const wisp_model *m = pass->plan->model;
  for (uint32_t h = 0; h < count; h++) {
    float *head = heads + (size_t)h * m->head_size;
    if (norm) pass->kernels->rmsnorm(head, norm, m->head_size, m->norm_epsilon, head);
    pass->kernels->rope(head, turns, m->head_size / 2);
    if (m->qk_norm_plain) pass->kernels->rmsnorm(head, NULL, m->head_size, m->norm_epsilon, head);
  }
}

static void place_tokens(const job *j, uint32_t begin, uint32_t end, uint32_t worker) {
  const wisp_cpu_pass *pass = j->pass;
  const wisp_model *m = pass->plan->model;
  const wisp_block *b = j->op->block;
  const uint32_t half = m->head_size / 2, tables = wisp_rope_tables(m), q_width = m->heads * m->head_size;
  /* The attention kernel divides by sqrt(head_size); another scale goes into q. */
  const float scale = m->attention_scale * sqrtf((float)m->head_size);
  for (uint32_t c = begin; c < end; c++) {
    const float *turns = pass->turns + 2 * ((size_t)(pass->position + c) * tables + (tables > 1 && b->window)) * half;
    float *q = pass->q + (size_t)c * q_width, *k = pass->kv + (size_t)c * 2 * kv_width(m), *v = k + kv_width(m);
    add_bias(q, b->q_bias, q_width);
    add_bias(k, b->k_bias, kv_width(m));
    add_bias(v, b->v_bias, kv_width(m));
    turn_heads(pass, q, m->heads, b->q_norm, turns);
    turn_heads(pass, k, m->kv_heads, b->k_norm, turns);
    for (uint32_t i = 0; fabsf(scale - 1) > 1e-6f && i < q_width; i++) q[i] *= scale;
    pass->kernels->kv_write(k, kv_width(m), pass->kv_type, cache_at(pass, j->op, pass->position + c));
  }
}

static void qkv(const wisp_cpu_pass *pass, const wisp_op *op) {
  spread_tokens(pass, op, norm_tokens);
  take_input(pass, op, pass->normed, 0);
  spread_tiles(pass, op, qkv_tiles, tiles(pass, op->matrices[0]) + tiles(pass, op->matrices[1]) + tiles(pass, op->matrices[2]));
  spread_tokens(pass, op, place_tokens);
}

/* Query heads that are attended together: those that share K and V, unless that leaves threads without work. */
static uint32_t heads_together(const wisp_cpu_pass *pass) {
  const wisp_model *m = pass->plan->model;
  return pass->count * m->kv_heads < 2 * wisp_threads_count(pass->threads) ? 1 : m->heads / m->kv_heads;
}

/* Unit: heads_together of a token. */
static void attention_heads(const job *j, uint32_t begin, uint32_t end, uint32_t worker) {
  const wisp_cpu_pass *pass = j->pass;
  const wisp_model *m = pass->plan->model;
  const uint32_t window = j->op->block->window, together = heads_together(pass);
  for (uint32_t unit = begin; unit < end; unit++) {
    const uint32_t heads = unit * together, token = heads / m->heads, kv_head = heads % m->heads / (m->heads / m->kv_heads);
    const uint32_t length = pass->position + token + 1, first = wisp_first_seen(length - 1, window);
    const wisp_kv_slot slot = {.positions = cache_at(pass, j->op, first), .type = pass->kv_type, .kv_width = kv_width(m)};
    pass->kernels->attention(pass->q + (size_t)heads * m->head_size, together, &slot, kv_head, m->head_size, length - first,
                             pass->scores + worker * pass->score_floats, pass->attended + (size_t)heads * m->head_size);
  }
}

/* Tokens that are attended together: so many that K and V are hardly ever read, yet two units for each thread. */
static uint32_t tokens_together(const wisp_cpu_pass *pass) {
  const wisp_model *m = pass->plan->model;
  const uint32_t most = WISP_PROMPT_QUERIES / (m->heads / m->kv_heads);
  const uint32_t shared = pass->count * m->kv_heads / (2 * wisp_threads_count(pass->threads));
  if (!pass->kernels->prompt_attention || m->head_size % 8) return 0;
  return shared < most ? shared : most;
}

/* Unit: tokens_together and one head of K and V. */
static void attention_tokens(const job *j, uint32_t begin, uint32_t end, uint32_t worker) {
  const wisp_cpu_pass *pass = j->pass;
  const wisp_model *m = pass->plan->model;
  const uint32_t together = tokens_together(pass), queries = m->heads / m->kv_heads;
  const size_t stride = (size_t)m->heads * m->head_size;
  for (uint32_t unit = begin; unit < end; unit++) {
    const uint32_t first = unit / m->kv_heads * together, kv_head = unit % m->kv_heads;
    const size_t at = first * stride + (size_t)kv_head * queries * m->head_size;
    const wisp_prompt prompt = {.slot = {.positions = cache_at(pass, j->op, 0), .type = pass->kv_type, .kv_width = kv_width(m)},
                                .kv_head = kv_head,
                                .head_size = m->head_size,
                                .queries = queries,
                                .tokens = pass->count - first < together ? pass->count - first : together,
                                .position = pass->position + first,
                                .window = j->op->block->window,
                                .q = pass->q + at,
                                .out = pass->attended + at,
                                .stride = stride};
    pass->kernels->prompt_attention(&prompt, pass->scores + worker * pass->score_floats);
  }
}

static void attention(const wisp_cpu_pass *pass, const wisp_op *op) {
  const uint32_t together = tokens_together(pass);
  job j = {.pass = pass, .op = op, .work = wisp_op_flops(pass->plan, op, pass->count, pass->position) / 2};
  if (together > 1) {
    j.run = attention_tokens;
    j.units = (pass->count + together - 1) / together * pass->plan->model->kv_heads;
  } else {
    j.run = attention_heads;
    j.units = pass->count * pass->plan->model->heads / heads_together(pass);
  }
  spread_job(j);
}

static void attn_out_tiles(const job *j, uint32_t begin, uint32_t end, uint32_t worker) {
  project_tiles(j, j->pass->attended, begin, end, worker);
}

static void attn_out(const wisp_cpu_pass *pass, const wisp_op *op) {
  take_input(pass, op, pass->attended, 0);
  spread_tiles(pass, op, attn_out_tiles, tiles(pass, op->matrices[0]));
  if (op->post_norm) spread_tokens(pass, op, add_normed);
}

static void gate_up_tiles(const job *j, uint32_t begin, uint32_t end, uint32_t worker) {
  const wisp_cpu_pass *pass = j->pass;
  const size_t width = pass->plan->model->ffn_width;
  const range rows = rows_of(pass, j->op->matrices[0], begin, end);
  matmul(j, 0, rows, pass->normed, 0, pass->gate, width, worker);
  matmul(j, 1, rows, pass->normed, 0, pass->up, width, worker);
  for (uint32_t c = 0; c < pass->count; c++) {
    wisp_activation_fn *activation = pass->plan->model->gelu ? pass->kernels->gelu_mul : pass->kernels->silu_mul;
    activation(pass->gate + c * width + rows.begin, pass->up + c * width + rows.begin, rows.end - rows.begin);
  }
}

static void gate_up(const wisp_cpu_pass *pass, const wisp_op *op) {
  spread_tokens(pass, op, norm_tokens);
  take_input(pass, op, pass->normed, 0);
  spread_tiles(pass, op, gate_up_tiles, tiles(pass, op->matrices[0]));
}

static void down_tiles(const job *j, uint32_t begin, uint32_t end, uint32_t worker) {
  project_tiles(j, j->pass->gate, begin, end, worker);
}

static void down(const wisp_cpu_pass *pass, const wisp_op *op) {
  take_input(pass, op, pass->gate, 0);
  spread_tiles(pass, op, down_tiles, tiles(pass, op->matrices[0]));
  if (op->post_norm) spread_tokens(pass, op, add_normed);
}

static void head_tiles(const job *j, uint32_t begin, uint32_t end, uint32_t worker) {
  const wisp_cpu_pass *pass = j->pass;
  matmul(j, 0, rows_of(pass, j->op->matrices[0], begin, end), pass->normed, pass->wanted, pass->logits,
         pass->plan->model->vocabulary, worker);
}

static void head(const wisp_cpu_pass *pass, const wisp_op *op) {
  if (pass->wanted == pass->count) return;
  spread_tokens(pass, op, norm_tokens);
  take_input(pass, op, pass->normed, pass->wanted);
  spread_tiles(pass, op, head_tiles, tiles(pass, op->matrices[0]));
}

static void sample(const wisp_cpu_pass *pass, const wisp_op *op) {
  /* The next token is chosen where the logits are, between two passes: the executor's generate. */
}

wisp_status wisp_cpu_forward(const wisp_cpu_pass *pass) {
  static void (*const run[])(const wisp_cpu_pass *, const wisp_op *) = {
      [WISP_OP_EMBED] = embed,     [WISP_OP_QKV] = qkv,   [WISP_OP_ATTENTION] = attention, [WISP_OP_ATTN_OUT] = attn_out,
      [WISP_OP_GATE_UP] = gate_up, [WISP_OP_DOWN] = down, [WISP_OP_HEAD] = head,           [WISP_OP_SAMPLE] = sample,
  };
  for (uint32_t i = 0; i < pass->plan->op_count; i++) {
    const wisp_op *op = &pass->plan->ops[i];
    /* Not once the logits are written: a pass that ends has its logits, one that is cancelled leaves them as they were. */
    if (op->kind != WISP_OP_SAMPLE && pass->cancel && *pass->cancel) return WISP_ERROR_CANCELLED;
    run[op->kind](pass, op);
  }
  return WISP_OK;
}
