/* SPDX-License-Identifier: Apache-2.0
 * What a model computes, as a number. */
#include "base/hash.h"
#include "base/little_endian.h"
#include "model/model.h"

static void add_vector(wisp_hash *hash, const float *values, uint32_t count) {
  wisp_hash_add_u32(hash, values ? count : 0);
  for (uint32_t i = 0; values && i < count; i++) wisp_hash_add_u32(hash, wisp_bits_of_float(values[i]));
}

static void add_matrix(wisp_hash *hash, const wisp_matrix *m) {
  wisp_hash_add_u32(hash, (uint32_t)m->type->dtype);
  wisp_hash_add_u32(hash, m->rows);
  wisp_hash_add_u32(hash, m->cols);
  wisp_hash_add(hash, m->data, (size_t)wisp_matrix_bytes(m));
}

static void add_block(wisp_hash *hash, const wisp_model *m, const wisp_block *b) {
  const wisp_matrix *const matrices[] = {&b->q, &b->k, &b->v, &b->attn_out, &b->gate, &b->up, &b->down};
  const struct {
    const float *values;
    uint32_t count;
  } vectors[] = {{b->attn_norm, m->width},  {b->ffn_norm, m->width},       {b->q_bias, b->q.rows},
                 {b->k_bias, b->k.rows},    {b->v_bias, b->v.rows},        {b->q_norm, m->head_size},
                 {b->k_norm, m->head_size}, {b->attn_post_norm, m->width}, {b->ffn_post_norm, m->width}};
  wisp_hash_add_u32(hash, b->window);
  for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++) add_vector(hash, vectors[i].values, vectors[i].count);
  for (size_t i = 0; i < sizeof matrices / sizeof *matrices; i++) add_matrix(hash, matrices[i]);
}

uint64_t wisp_model_fingerprint(const wisp_model *m) {
  const uint32_t figures[] = {m->width,         m->heads,         m->kv_heads,     m->head_size,        m->ffn_width,
                              m->vocabulary,    m->weight_blocks, m->block_repeat, m->int8_activations, m->gelu,
                              m->qk_norm_plain, m->head_shared};
  const float scales[] = {m->norm_epsilon,        m->rope_theta,      m->rope_divisor,
                          m->rope_theta_windowed, m->attention_scale, m->embedding_scale};
  wisp_hash hash;
  wisp_hash_begin(&hash);
  for (size_t i = 0; i < sizeof figures / sizeof *figures; i++) wisp_hash_add_u32(&hash, figures[i]);
  add_vector(&hash, scales, sizeof scales / sizeof *scales);
  add_vector(&hash, m->rope_factors, m->head_size / 2);
  for (uint32_t i = 0; i < m->weight_blocks; i++) add_block(&hash, m, &m->blocks[i]);
  add_vector(&hash, m->final_norm, m->width);
  add_matrix(&hash, &m->embedding);
  if (!m->head_shared) add_matrix(&hash, &m->head);
  return wisp_hash_end(&hash);
}
