/* SPDX-License-Identifier: Apache-2.0 */
#include "convert/equalize.h"

#include <math.h>
#include <stdio.h>

enum { READERS = 3 };

/* A vector of activations in block N: what gives it (its weights take the division), and the matrices that it is multiplied
 * with. */
static const struct group {
  const char *giver; /* a norm, or a matrix whose rows are the activations' columns */
  const char *readers[READERS];
} groups[] = {
    {"attn_norm", {"attn_q", "attn_k", "attn_v"}},
    {"ffn_norm", {"ffn_gate", "ffn_up"}},
    {"ffn_up", {"ffn_down"}},
};

static const wisp_gguf_tensor *find(const wisp_gguf *model, uint32_t block, const char *role) {
  char name[64];
  snprintf(name, sizeof name, "blk.%u.%s.weight", block, role);
  return wisp_gguf_find_tensor(model, name);
}

/* largest[cols] = the larger of it and of the magnitudes in each column. */
static void column_maxima(const wisp_gguf_tensor *matrix, float *row, float *largest) {
  const uint64_t cols = matrix->shape[0], bytes = cols / matrix->type->block_weights * matrix->type->block_bytes;
  for (uint64_t r = 0; r < matrix->shape[1]; r++) {
    matrix->type->dequantize(matrix->data + r * bytes, row, (size_t)cols);
    for (uint64_t i = 0; i < cols; i++) largest[i] = fmaxf(largest[i], fabsf(row[i]));
  }
}

/* Factors that bring activations (root mean square) and weights (largest) of each column half way towards each other; their
 * geometric mean is 1. Columns that are never used are left alone. */
static void choose_factors(const float *mean_square, float *largest, uint64_t cols, float *factors, float *inverses) {
  double sum = 0;
  uint64_t used = 0;
  for (uint64_t i = 0; i < cols; i++) {
    const double factor = sqrt(sqrt((double)mean_square[i]) / (double)largest[i]);
    factors[i] = factor > 1e-6 && factor < 1e6 ? (float)factor : 0;
    if (factors[i] > 0) sum += log(factor), used++;
  }
  const float mean = used ? (float)exp(sum / (double)used) : 1;
  for (uint64_t i = 0; i < cols; i++) {
    factors[i] = factors[i] > 0 ? factors[i] / mean : 1;
    inverses[i] = 1 / factors[i];
  }
}

static wisp_status equalize(wisp_equalizer *e, const wisp_model_file *file, wisp_importance *importance, uint32_t block,
                            const struct group *group) {
  const wisp_gguf *model = file->gguf;
  const wisp_gguf_tensor *giver = find(model, block, group->giver), *readers[READERS];
  uint32_t count = 0;
  for (; count < READERS && group->readers[count]; count++) {
    readers[count] = find(model, block, group->readers[count]);
    if (!readers[count] || readers[count]->shape[0] != readers[0]->shape[0]) return WISP_OK;
  }
  const uint64_t cols = readers[0]->shape[0];
  const bool norm = giver && giver->dimensions == 1;
  if (!giver || giver->shape[norm ? 0 : 1] != cols) return WISP_OK;
  const float *mean_square;
  WISP_TRY(wisp_importance_of(importance, readers[0], &mean_square));
  if (!mean_square) return WISP_OK;

  float *buffer = wisp_host_alloc(e->arena.host, (size_t)cols, 2 * sizeof *buffer), *largest = buffer + cols;
  float *factors = wisp_arena_alloc(&e->arena, (size_t)cols, sizeof *factors);
  float *inverses = wisp_arena_alloc(&e->arena, (size_t)cols, sizeof *inverses);
  if (!buffer || !factors || !inverses) {
    wisp_host_free(e->arena.host, buffer);
    return wisp_fail_memory(e->arena.host, "factors of columns", cols * 4 * sizeof *buffer);
  }
  for (uint32_t i = 0; i < count; i++) {
    column_maxima(readers[i], buffer, largest);
    wisp_model_file_release(file, readers[i]->data, readers[i]->bytes);
  }
  choose_factors(mean_square, largest, cols, factors, inverses);
  wisp_host_free(e->arena.host, buffer);
  for (uint32_t i = 0; i < count; i++) e->factors[readers[i] - model->tensors].columns = factors;
  wisp_factors *given = &e->factors[giver - model->tensors];
  if (norm) {
    given->columns = inverses;
  } else {
    given->rows = inverses;
  }
  return WISP_OK;
}

static wisp_status equalize_all(wisp_equalizer *e, const wisp_model_file *file, wisp_importance *importance) {
  const wisp_gguf *model = file->gguf;
  e->factors = wisp_arena_alloc(&e->arena, (size_t)model->tensor_count, sizeof *e->factors);
  if (!e->factors) return wisp_fail_memory(e->arena.host, "factors", model->tensor_count * sizeof *e->factors);
  for (uint32_t block = 0; find(model, block, groups[0].giver); block++)
    for (size_t i = 0; i < sizeof groups / sizeof *groups; i++) WISP_TRY(equalize(e, file, importance, block, &groups[i]));
  return WISP_OK;
}

wisp_status wisp_equalizer_open(wisp_equalizer *equalizer, const wisp_host *host, const wisp_model_file *file,
                                wisp_importance *importance) {
  *equalizer = (wisp_equalizer){.arena = {.host = host}};
  return importance->open ? equalize_all(equalizer, file, importance) : WISP_OK;
}

void wisp_equalizer_close(wisp_equalizer *equalizer) {
  wisp_arena_free(&equalizer->arena);
  *equalizer = (wisp_equalizer){0};
}
