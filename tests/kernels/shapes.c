/* SPDX-License-Identifier: Apache-2.0 */
#include "shapes.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/little_endian.h"
#include "random.h"

#define F16 WISP_KV_F16
#define F32 WISP_KV_F32
#define Q8 WISP_KV_Q8_0

/* Every type in every kind of op, rows and columns that fit no workgroup, tiles that do not divide them. Building pipelines
 * takes most of the time: ops that bring nothing new are left out. */
/* clang-format off */
const shape shapes[] = {
  /* name    width heads kv size   ffn vocab   ctx cols  types                                          kv   split rounded ops, traits */
  {"f32",       36,  3, 1,   8,  100,  101,   80, 64, "f32",                                            F32,  false, false, "EQAOGDHS", ""},
  {"f16",      100,  5, 1,  16,  300, 3001, 1030, 64, "f16",                                            F32,  true,  false, "EQAOGDHS", ""},
  {"bf16",      64,  1, 1,  64, 1004, 1004, 1000,  5, "bf16",                                           F16,  false, false, "EAGH", ""},
  {"q4_0",    4352,  4, 2,   8,   96,   45,  140,  5, "q4_0",                                           F16,  false, false, "EQGDH", ""},
  {"q4_1",      32,  3, 3,  32,   32, 6148,  129,  5, "q4_1 q5_0 q5_1 q8_0 q4_1 q8_0 q5_1 q4_1 q5_0",   Q8,   false, false, "EQAGDHS", ""},
  {"q5_0",     576,  9, 3,  64, 1536, 1004, 1100,  5, "q5_0 q4_1 q8_0 q4_1 q5_1 q5_0 q5_0 q5_0 q5_1",   F16,  false, false, "EQAOGDH", ""},
  {"q5_1",      64,  5, 1,  64, 4352,  300,  100, 64, "q5_1 q8_0 f16 q5_0 q4_1 f32 q8_0 q5_1 q4_1",     F32,  false, false, "EADH", ""},
  {"q8_0",     960,  6, 2,  80, 1504,  300,   40,  4, "q8_0",                                           F16,  false, false, "EQAH", ""},
  {"q4_k",     256,  2, 1, 128,  256,  100,   90, 64, "q4_k q5_k q6_k q4_k q5_k q6_k q5_k q4_k",        F16,  false, false, "EQAOGDH", ""},
  {"q5_k",    1536,  4, 2,  64,  512,   60,   64,  5, "q5_k q6_k f32 q6_k q4_k q5_k q5_k q5_k q6_k",    F32,  false, false, "EGH", ""},
  {"q6_k",     512,  1, 1, 256,  300,   99,   64,  4, "q6_k bf16 q4_k q6_k q6_k q4_k bf16 q6_k q5_k",   F16,  false, false, "EQAODH", ""},
  {"rounded",  256,  1, 1,   8,    4,   40,   40,  3, "q4_k q5_k q6_k f32 f32 f32 f32 q6_k",            F32,  false, true,  "EQ", ""},
  {"biases",    64,  4, 2,  16,    4,   40,   80,  5, "f16",                                            F16,  false, false, "Q", "br"},
  {"gemma",    128,  4, 1,  32,   96,   60,  129,  5, "q4_0 q4_0 q4_0 q4_0 q4_0 q4_0 q4_0 q8_0",        Q8,   false, false, "EQAOGD", "nPgsw"},
  {"w8a8",      96,  3, 3,  32,   64,   45,   80,  4, "q8_0",                                           F16,  false, false, "QOGDH", "8pb"},
  {"w8a8 wide", 36,  1, 1,   8, 3616,   40,   40,  3, "f16 f16 f16 f16 f16 f16 q8_0 f16",               F16,  false, false, "GD", "8"},
  {"8-bit kv",  96,  9, 3,  64,    4,   40, 1100, 64, "f16",                                            Q8,   false, false, "QA", ""},
  {"8-bit 96",  32,  2, 1,  96,    4,   40,  300, 64, "f32",                                            Q8,   false, false, "QA", "b"},
  {"window",    32,  8, 2,  32,    4,   40, 1100,  5, "f32",                                            F32,  false, false, "A", "W"},
  {"8-bit 256", 32,  2, 2, 256,    4,   40,  150, 64, "f32",                                            Q8,   false, false, "QA", ""},
};
/* clang-format on */
const uint32_t shape_count = sizeof shapes / sizeof *shapes;

/* Where a block keeps its f16 scale and minimum (-1: none), and its largest quant times sub-scale. */
typedef struct block_format {
  wisp_dtype dtype;
  int scale, minimum;
  float range, minimum_range;
} block_format;

static const block_format formats[] = {
    {WISP_Q4_0, 0, -1, 8, 1},       {WISP_Q4_1, 0, 2, 8, 1},          {WISP_Q5_0, 0, -1, 16, 1},
    {WISP_Q5_1, 0, 2, 16, 1},       {WISP_Q8_0, 0, -1, 128, 1},       {WISP_Q4_K, 0, 2, 15 * 32, 32},
    {WISP_Q5_K, 0, 2, 31 * 32, 32}, {WISP_Q6_K, 208, -1, 32 * 64, 1},
};

bool shape_has(const shape *s, wisp_op_kind kind) {
  return strchr(s->ops, "EQAOGDHS"[kind]) != NULL;
}

bool shape_is(const shape *s, char trait) {
  return strchr(s->traits, trait) != NULL;
}

bool shape_is_k_type(const wisp_dtype_info *type) {
  return type->block_weights == 256;
}

/* An f16 of about that size, either sign, one in eight zero. exact: a power of two, so that products with 8 bits fit an f16. */
static void put_scale(uint8_t *at, float size, bool exact, uint64_t *random) {
  float value = size * (0.5f + (float)random_below(random, 1024) / 1024.0f);
  if (exact) value = wisp_float_of_bits(wisp_bits_of_float(value) & 0x7f800000);
  if (random_below(random, 2)) value = -value;
  wisp_store_u16(at, random_below(random, 8) ? wisp_f32_to_f16(value) : 0);
}

/* Weights of about one half: their scales stay clear of f16's subnormals, which a GPU may take for zero. */
static void fill_matrix(const wisp_matrix *matrix, bool rounded, uint64_t *random) {
  uint8_t *bytes = (uint8_t *)matrix->data;
  const wisp_dtype_info *type = matrix->type;
  const uint64_t size = wisp_matrix_bytes(matrix);
  if (type->block_weights == 1) {
    for (uint64_t at = 0; at < size; at += type->block_bytes) {
      float value;
      random_fill(random, &value, 1);
      value *= 0.25f;
      type->quantize(&value, bytes + at, 1);
    }
    return;
  }
  const block_format *f = formats;
  while (f->dtype != type->dtype) f++;
  for (uint64_t at = 0; at < size; at += type->block_bytes) {
    for (uint32_t i = 0; i < type->block_bytes; i += 2) wisp_store_u16(bytes + at + i, (uint16_t)random_next(random));
    const bool exact = shape_is_k_type(type) && !rounded;
    put_scale(bytes + at + f->scale, 0.75f / f->range, exact, random);
    if (f->minimum >= 0) put_scale(bytes + at + f->minimum, 0.5f / f->minimum_range, exact, random);
  }
}

/* The types of the nine matrices; false where a name is unknown. */
static bool read_types(const char *text, const wisp_dtype_info *types[9]) {
  for (int i = 0; i < 9; i++) {
    char name[8];
    int length = 0;
    if (sscanf(text, "%7s%n", name, &length) == 1)
      types[i] = wisp_dtype_by_name(name), text += length;
    else
      types[i] = types[i - 1];
    if (!types[i]) return false;
  }
  return true;
}

static void take(uint8_t **next, wisp_matrix *matrix, const wisp_dtype_info *type, uint32_t rows, uint32_t cols) {
  *matrix = (wisp_matrix){.type = type, .rows = rows, .cols = cols, .data = *next};
  *next += (wisp_matrix_bytes(matrix) + 63) & ~(uint64_t)63;
}

/* Lays the matrices out from base on; base NULL only measures. Returns the size. */
static size_t lay_out(wisp_model *m, const wisp_dtype_info *const types[9], uint8_t *base) {
  uint8_t *const first = base ? base : (uint8_t *)64, *next = first;
  const uint32_t q = m->heads * m->head_size, kv = m->kv_heads * m->head_size;
  for (uint32_t i = 0; i < m->weight_blocks; i++) {
    wisp_block *b = &m->blocks[i];
    take(&next, &b->q, types[0], q, m->width);
    take(&next, &b->k, types[1], kv, m->width);
    take(&next, &b->v, types[2], kv, m->width);
    take(&next, &b->attn_out, types[3], m->width, q);
    take(&next, &b->gate, types[4], m->ffn_width, m->width);
    take(&next, &b->up, types[5], m->ffn_width, m->width);
    take(&next, &b->down, types[6], m->width, m->ffn_width);
  }
  take(&next, &m->embedding, types[7], m->vocabulary, m->width);
  if (m->head_shared)
    m->head = m->embedding;
  else
    take(&next, &m->head, types[8], m->vocabulary, m->width);
  return (size_t)(next - first);
}

static void fill_weights(wisp_model *m, bool rounded, uint64_t *random) {
  for (uint32_t i = 0; i < m->weight_blocks; i++) {
    const wisp_block *b = &m->blocks[i];
    const wisp_matrix *const all[] = {&b->q, &b->k, &b->v, &b->attn_out, &b->gate, &b->up, &b->down};
    for (int j = 0; j < 7; j++) fill_matrix(all[j], rounded, random);
  }
  fill_matrix(&m->embedding, rounded, random);
  if (!m->head_shared) fill_matrix(&m->head, rounded, random);
  const uint64_t half = m->vocabulary / 2 * wisp_matrix_row_bytes(&m->head);
  memcpy((uint8_t *)m->head.data + half, m->head.data, half);
}

static const float *random_vector(wisp_model *m, uint32_t count, uint64_t *random) {
  float *values = wisp_arena_alloc(&m->arena, count, sizeof *values);
  for (uint32_t i = 0; values && i < count; i++) values[i] = random_normal(random);
  return values;
}

/* What only some architectures have; the window only in the last block, as where blocks differ. False: out of memory. */
static bool add_traits(wisp_model *m, const shape *s, uint64_t *random) {
  bool ok = true;
  if (shape_is(s, 'r')) {
    float *factors = wisp_arena_alloc(&m->arena, s->head_size / 2, sizeof *factors);
    for (uint32_t i = 0; factors && i < s->head_size / 2; i++) factors[i] = 1 + 0.1f * (float)i;
    ok &= (m->rope_factors = factors) != NULL;
  }
  for (uint32_t i = 0; i < m->weight_blocks; i++) {
    wisp_block *b = &m->blocks[i];
    if (shape_is(s, 'b')) ok &= (b->q_bias = random_vector(m, b->q.rows, random)) != NULL;
    if (shape_is(s, 'b')) ok &= (b->k_bias = random_vector(m, b->k.rows, random)) != NULL;
    if (shape_is(s, 'b')) ok &= (b->v_bias = random_vector(m, b->v.rows, random)) != NULL;
    if (shape_is(s, 'n')) ok &= (b->q_norm = random_vector(m, s->head_size, random)) != NULL;
    if (shape_is(s, 'n')) ok &= (b->k_norm = random_vector(m, s->head_size, random)) != NULL;
    if (shape_is(s, 'P')) ok &= (b->attn_post_norm = random_vector(m, s->width, random)) != NULL;
    if (shape_is(s, 'P')) ok &= (b->ffn_post_norm = random_vector(m, s->width, random)) != NULL;
    if (shape_is(s, 'w') && i + 1 == m->weight_blocks) b->window = 37;
    if (shape_is(s, 'W')) b->window = 970;
  }
  return ok;
}

wisp_status shape_model(wisp_model *model, const wisp_host *host, const shape *s, uint32_t blocks, uint64_t *random) {
  const wisp_dtype_info *types[9];
  *model = (wisp_model){.host = host};
  if (!read_types(s->types, types)) return wisp_fail(host, WISP_ERROR_ARGUMENT, "shape %s: unknown type", s->name);
  *model = (wisp_model){.host = host,
                        .arena = {.host = host},
                        .architecture = "llama",
                        .width = s->width,
                        .heads = s->heads,
                        .kv_heads = s->kv_heads,
                        .head_size = s->head_size,
                        .ffn_width = s->ffn_width,
                        .vocabulary = s->vocabulary,
                        .context_length = s->context,
                        .weight_blocks = blocks,
                        .block_repeat = 1,
                        .norm_epsilon = 1e-5f,
                        .rope_theta = 10000.0f,
                        .rope_divisor = shape_is(s, 'r') ? 4 : 1,
                        .rope_theta_windowed = shape_is(s, 'w') ? 1000.0f : 0,
                        .attention_scale = (shape_is(s, 's') ? 0.7f : 1) / sqrtf((float)s->head_size),
                        .embedding_scale = shape_is(s, 's') ? 3.7f : 1,
                        .gelu = shape_is(s, 'g'),
                        .qk_norm_plain = shape_is(s, 'p'),
                        .int8_activations = shape_is(s, '8'),
                        .head_shared = types[7] == types[8]};
  snprintf(model->name, sizeof model->name, "%s", s->name);
  model->blocks = wisp_arena_alloc(&model->arena, blocks, sizeof *model->blocks);
  const size_t norm_count = (2 * (size_t)blocks + 1) * s->width, bytes = model->blocks ? lay_out(model, types, NULL) : 0;
  float *norms = wisp_arena_alloc(&model->arena, norm_count, sizeof(float));
  uint8_t *weights = wisp_arena_alloc(&model->arena, 1, bytes);
  if (!model->blocks || !norms || !weights) {
    wisp_model_close(model);
    return wisp_fail_memory(host, s->name, bytes);
  }
  lay_out(model, types, weights);
  fill_weights(model, s->rounded, random);
  for (size_t i = 0; i < norm_count; i++) norms[i] = random_normal(random);
  for (uint32_t i = 0; i < blocks; i++) {
    model->blocks[i].attn_norm = norms + 2 * (size_t)i * s->width;
    model->blocks[i].ffn_norm = norms + (2 * (size_t)i + 1) * s->width;
  }
  model->final_norm = norms + 2 * (size_t)blocks * s->width;
  if (add_traits(model, s, random)) return WISP_OK;
  wisp_model_close(model);
  return wisp_fail_memory(host, s->name, s->width);
}
