/* SPDX-License-Identifier: Apache-2.0
 * Models of a named shape with random weights, for benchmarks and tests: no file needed. */
#include "model/model.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

typedef struct shape {
  const char *name;
  uint32_t blocks, repeat, width, heads, kv_heads, head_size, ffn_width, vocabulary, context_length;
  float rope_theta;
} shape;

/* Shapes from the models' config.json files. The "tiny" ones are for tests. */
static const shape shapes[] = {
    {"mobilellm-125m", 30, 1, 576, 9, 3, 64, 1536, 32000, 2048, 1e4f},
    {"mobilellm-125m-ls", 30, 2, 576, 9, 3, 64, 1536, 32000, 2048, 1e4f},
    {"mobilellm-125m-60l", 60, 1, 576, 9, 3, 64, 1536, 32000, 2048, 1e4f},
    {"mobilellm-350m", 32, 1, 960, 15, 5, 64, 2560, 32000, 2048, 1e4f},
    {"mobilellm-350m-ls", 32, 2, 960, 15, 5, 64, 2560, 32000, 2048, 1e4f},
    {"mobilellm-600m", 40, 1, 1152, 18, 6, 64, 3072, 32000, 2048, 1e4f},
    {"mobilellm-1b", 54, 1, 1280, 20, 5, 64, 3584, 32000, 2048, 1e4f},
    {"mobilellm-1.5b", 54, 1, 1600, 25, 5, 64, 4352, 32000, 2048, 1e4f},
    {"smollm2-135m", 30, 1, 576, 9, 3, 64, 1536, 49152, 8192, 1e5f},
    {"mobilellm-r1-140m", 15, 1, 576, 9, 3, 64, 2048, 128256, 32768, 8e6f},
    {"tiny", 3, 1, 64, 4, 2, 16, 96, 300, 512, 1e4f},
    {"tiny-ls", 3, 2, 64, 4, 2, 16, 96, 300, 512, 1e4f},
    {"tiny-32", 3, 1, 96, 3, 1, 32, 96, 300, 512, 1e4f},
    {"tiny-32-ls", 3, 2, 96, 3, 1, 32, 96, 300, 512, 1e4f},
};
enum { SHAPES = sizeof shapes / sizeof *shapes };

static const char *const names[SHAPES + 1] = {
    "mobilellm-125m",
    "mobilellm-125m-ls",
    "mobilellm-125m-60l",
    "mobilellm-350m",
    "mobilellm-350m-ls",
    "mobilellm-600m",
    "mobilellm-1b",
    "mobilellm-1.5b",
    "smollm2-135m",
    "mobilellm-r1-140m",
    "tiny",
    "tiny-ls",
    "tiny-32",
    "tiny-32-ls",
    NULL,
};

const char *const *wisp_synthetic_names(void) {
  return names;
}

/* xorshift64* (Vigna 2014): speed matters more than quality here. */
static uint64_t next_random(uint64_t *state) {
  *state ^= *state >> 12;
  *state ^= *state << 25;
  *state ^= *state >> 27;
  return *state * 2685821657736338717u;
}

/* Uniform in [-1, 1). */
static float next_uniform(uint64_t *state) {
  return (float)(next_random(state) >> 40) / (float)(1 << 23) - 1.0f;
}

/* Fills the matrix with weights of the given standard deviation. A run of FRESH blocks of 32 is quantised from random numbers;
 * the rest repeats the run with new quants (block types) or in another order (scalar types): a billion weights take about a
 * second. one_scale: all blocks of a q8_0 matrix have the scale of the first, as the rows of w8a8 have one each. */
static void fill_matrix(const wisp_matrix *matrix, bool one_scale, float deviation, uint64_t *state) {
  enum { FRESH = 4096 };
  uint8_t *bytes = (uint8_t *)matrix->data;
  const uint32_t weights = 32, size = 32 / matrix->type->block_weights * matrix->type->block_bytes;
  const uint64_t blocks = wisp_matrix_bytes(matrix) / size;
  const bool scalar = matrix->type->block_weights == 1;
  const uint32_t quants = scalar ? 0 : size == 34 ? 32 : 16; /* trailing bytes of a block that may be anything */
  float values[32];
  for (uint64_t i = 0; i < blocks; i++) {
    uint8_t *block = bytes + i * size;
    if (i < FRESH) {
      for (uint32_t j = 0; j < weights; j++) values[j] = next_uniform(state) * 1.7320508f * deviation;
      matrix->type->quantize(values, block, weights);
      if (one_scale) memcpy(block, bytes, 2);
      continue;
    }
    memcpy(block, bytes + (scalar ? next_random(state) >> 52 : i % FRESH) * size, size);
    for (uint32_t j = size - quants; j < size; j += 8) {
      const uint64_t random = next_random(state);
      memcpy(block + j, &random, 8);
    }
  }
}

static void take(uint8_t **next, wisp_matrix *matrix, const wisp_dtype_info *type, uint32_t rows, uint32_t cols) {
  *matrix = (wisp_matrix){.type = type, .rows = rows, .cols = cols, .data = *next};
  *next += (wisp_matrix_bytes(matrix) + 63) & ~(uint64_t)63;
}

/* Lays the matrices out from base on; base NULL only measures. Returns the end. */
static uint64_t lay_out(wisp_model *m, const wisp_dtype_info *type, uint8_t *base) {
  uint8_t *const first = base ? base : (uint8_t *)64, *next = first;
  const uint32_t q_rows = m->heads * m->head_size, kv_rows = m->kv_heads * m->head_size;
  take(&next, &m->embedding, type, m->vocabulary, m->width);
  for (uint32_t i = 0; i < m->weight_blocks; i++) {
    wisp_block *b = &m->blocks[i];
    take(&next, &b->q, type, q_rows, m->width);
    take(&next, &b->k, type, kv_rows, m->width);
    take(&next, &b->v, type, kv_rows, m->width);
    take(&next, &b->attn_out, type, m->width, q_rows);
    take(&next, &b->gate, type, m->ffn_width, m->width);
    take(&next, &b->up, type, m->ffn_width, m->width);
    take(&next, &b->down, type, m->width, m->ffn_width);
  }
  return (uint64_t)(next - first);
}

wisp_status wisp_model_synthesize(wisp_model *model, const wisp_host *host, const char *shape_name, const char *type_name,
                                  uint64_t seed) {
  *model = (wisp_model){.host = host, .arena = {.host = host}};
  const shape *s = shapes;
  while (s < shapes + SHAPES && strcmp(s->name, shape_name)) s++;
  if (s == shapes + SHAPES)
    return wisp_fail(host, WISP_ERROR_ARGUMENT,
                     "no synthetic model \"%s\"; there are mobilellm-125m, -125m-ls, -125m-60l, -350m, "
                     "-350m-ls, -600m, -1b, -1.5b, smollm2-135m, mobilellm-r1-140m",
                     shape_name);
  const bool w8a8 = type_name && !strcmp(type_name, "w8a8");
  const wisp_dtype_info *type = wisp_dtype_by_name(w8a8 ? "q8_0" : type_name ? type_name : "q4_0");
  if (!type || !type->quantize)
    return wisp_fail(host, WISP_ERROR_ARGUMENT,
                     "no synthetic weights of type \"%s\"; there are f32, f16, bf16, q4_0, q4_1, q5_0, "
                     "q5_1, q8_0, w8a8",
                     type_name);
  if (s->width % type->block_weights || s->ffn_width % type->block_weights)
    return wisp_fail(host, WISP_ERROR_ARGUMENT, "synthetic %s: rows of %u cannot be %s", s->name, s->width, type->name);

  *model = (wisp_model){.host = host,
                        .arena = {.host = host},
                        .rope_divisor = 1,
                        .attention_scale = 1.0f / sqrtf((float)s->head_size),
                        .embedding_scale = 1,
                        .architecture = "llama",
                        .width = s->width,
                        .heads = s->heads,
                        .kv_heads = s->kv_heads,
                        .head_size = s->head_size,
                        .ffn_width = s->ffn_width,
                        .vocabulary = s->vocabulary,
                        .context_length = s->context_length,
                        .weight_blocks = s->blocks,
                        .block_repeat = s->repeat,
                        .norm_epsilon = 1e-5f,
                        .rope_theta = s->rope_theta,
                        .int8_activations = w8a8,
                        .head_shared = true};
  if (s->repeat > 1) snprintf(model->architecture, sizeof model->architecture, "mobilellm");
  snprintf(model->name, sizeof model->name, "%s", s->name);
  const size_t norm_count = (size_t)(2 * s->blocks + 1) * s->width;
  model->blocks = wisp_arena_alloc(&model->arena, s->blocks, sizeof *model->blocks);
  float *norms = wisp_arena_alloc(&model->arena, norm_count, sizeof(float));
  const uint64_t bytes = model->blocks ? lay_out(model, type, NULL) : 0;
  uint8_t *weights = wisp_arena_alloc(&model->arena, 1, bytes);
  if (!model->blocks || !norms || !weights) {
    wisp_model_close(model);
    return wisp_fail_memory(host, "synthetic weights", bytes);
  }
  lay_out(model, type, weights);

  /* Deviations that keep activations of order one through any depth, as at the start of training. */
  uint64_t state = seed * 0x9e3779b97f4a7c15u + 0x2545f4914f6cdd1du;
  const float in = 1.0f / sqrtf((float)s->width), ffn = 1.0f / sqrtf((float)s->ffn_width);
  const float residual = 1.0f / sqrtf(2.0f * (float)(s->blocks * s->repeat));
  fill_matrix(&model->embedding, false, 1.0f, &state);
  for (uint32_t i = 0; i < s->blocks; i++) {
    wisp_block *b = &model->blocks[i];
    b->attn_norm = norms + (size_t)(2 * i) * s->width;
    b->ffn_norm = norms + (size_t)(2 * i + 1) * s->width;
    fill_matrix(&b->q, w8a8, in, &state);
    fill_matrix(&b->k, w8a8, in, &state);
    fill_matrix(&b->v, w8a8, in, &state);
    fill_matrix(&b->attn_out, w8a8, in * residual, &state);
    fill_matrix(&b->gate, w8a8, in, &state);
    fill_matrix(&b->up, w8a8, in, &state);
    fill_matrix(&b->down, w8a8, ffn * residual, &state);
  }
  model->final_norm = norms + (size_t)(2 * s->blocks) * s->width;
  for (size_t i = 0; i < norm_count; i++) norms[i] = 0.75f + (float)(next_random(&state) >> 40) / (float)(1 << 25);
  model->head = model->embedding;
  return WISP_OK;
}
