/* SPDX-License-Identifier: Apache-2.0
 * A GGUF file's hyper-parameters, and what a model adds up to. */
#include "model/model.h"

#include "model/architecture.h"
#include "model/bind.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static wisp_status out_of_range(const wisp_gguf *gguf, const char *key, uint32_t value, uint32_t low, uint32_t high) {
  return wisp_fail(gguf->host, WISP_ERROR_FORMAT, "%s: %s is %u, expected %u to %u", gguf->name, key, value, low, high);
}

static const char *key_of(const wisp_model *m, char key[96], const char *suffix) {
  snprintf(key, 96, "%s.%s", m->architecture, suffix);
  return key;
}

/* "linear" divides all frequencies; "llama3" comes as rope_freqs.weight. */
static wisp_status read_rope_scaling(wisp_model *m, const wisp_gguf *gguf) {
  char key[96];
  wisp_text type = {"none", 4};
  m->rope_divisor = 1;
  WISP_TRY(wisp_gguf_string(gguf, key_of(m, key, "rope.scaling.type"), false, &type));
  if (type.size == 4 && !memcmp(type.bytes, "none", 4)) return WISP_OK;
  if (type.size != 6 || memcmp(type.bytes, "linear", 6))
    return wisp_fail(gguf->host, WISP_ERROR_UNSUPPORTED, "%s: %s is \"%.*s\": none, linear and rope_freqs.weight are run",
                     gguf->name, key, (int)(type.size > 32 ? 32 : type.size), type.bytes);
  WISP_TRY(wisp_gguf_f32(gguf, key_of(m, key, "rope.scaling.factor"), true, &m->rope_divisor));
  if (m->rope_divisor >= 1 && m->rope_divisor < 1e6f) return WISP_OK;
  return wisp_fail(gguf->host, WISP_ERROR_FORMAT, "%s: %s is %g, expected 1 to 1e6", gguf->name, key, (double)m->rope_divisor);
}

/* Keys and their sane ranges: what lies outside is a damaged file, not a model. */
static wisp_status read_shape(wisp_model *m, const wisp_gguf *gguf) {
  const struct {
    const char *key;
    uint32_t *value;
    uint32_t low, high;
  } numbers[] = {
      {"embedding_length", &m->width, 1, 1u << 16},        {"block_count", &m->weight_blocks, 1, 4096},
      {"feed_forward_length", &m->ffn_width, 1, 1u << 20}, {"attention.head_count", &m->heads, 1, 1024},
      {"context_length", &m->context_length, 1, 1u << 24},
  };
  char key[96];
  for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
    snprintf(key, sizeof key, "%s.%s", m->architecture, numbers[i].key);
    WISP_TRY(wisp_gguf_u32(gguf, key, true, numbers[i].value));
    if (*numbers[i].value < numbers[i].low || *numbers[i].value > numbers[i].high)
      return out_of_range(gguf, key, *numbers[i].value, numbers[i].low, numbers[i].high);
  }

  m->kv_heads = m->heads;
  snprintf(key, sizeof key, "%s.attention.head_count_kv", m->architecture);
  WISP_TRY(wisp_gguf_u32(gguf, key, false, &m->kv_heads));
  if (!m->kv_heads || m->kv_heads > m->heads || m->heads % m->kv_heads)
    return wisp_fail(gguf->host, WISP_ERROR_FORMAT, "%s: %s is %u, expected a divisor of head_count %u", gguf->name, key,
                     m->kv_heads, m->heads);

  m->head_size = m->width / m->heads;
  snprintf(key, sizeof key, "%s.attention.key_length", m->architecture);
  WISP_TRY(wisp_gguf_u32(gguf, key, false, &m->head_size));
  if (m->head_size < 2 || m->head_size > 1024 || m->head_size % 2)
    return wisp_fail(gguf->host, WISP_ERROR_UNSUPPORTED, "%s: head size %u, expected an even number from 2 to 1024", gguf->name,
                     m->head_size);
  uint32_t value_size = m->head_size, rotated = m->head_size;
  snprintf(key, sizeof key, "%s.attention.value_length", m->architecture);
  WISP_TRY(wisp_gguf_u32(gguf, key, false, &value_size));
  snprintf(key, sizeof key, "%s.rope.dimension_count", m->architecture);
  WISP_TRY(wisp_gguf_u32(gguf, key, false, &rotated));
  if (value_size != m->head_size || rotated != m->head_size)
    return wisp_fail(gguf->host, WISP_ERROR_UNSUPPORTED,
                     "%s: key size %u, value size %u, rotated %u: Wisp runs them equal only", gguf->name, m->head_size,
                     value_size, rotated);

  snprintf(key, sizeof key, "%s.attention.layer_norm_rms_epsilon", m->architecture);
  WISP_TRY(wisp_gguf_f32(gguf, key, true, &m->norm_epsilon));
  if (!(m->norm_epsilon >= 0 && m->norm_epsilon < 1))
    return wisp_fail(gguf->host, WISP_ERROR_FORMAT, "%s: %s is %g, expected 0 to 1", gguf->name, key, (double)m->norm_epsilon);
  m->rope_theta = 10000.0f;
  snprintf(key, sizeof key, "%s.rope.freq_base", m->architecture);
  WISP_TRY(wisp_gguf_f32(gguf, key, false, &m->rope_theta));
  if (!(m->rope_theta >= 1 && m->rope_theta < 1e12f))
    return wisp_fail(gguf->host, WISP_ERROR_FORMAT, "%s: %s is %g, expected 1 to 1e12", gguf->name, key, (double)m->rope_theta);

  m->attention_scale = 1.0f / sqrtf((float)m->head_size);
  WISP_TRY(wisp_gguf_f32(gguf, key_of(m, key, "attention.scale"), false, &m->attention_scale));
  return read_rope_scaling(m, gguf);
}

static wisp_status read_identity(wisp_model *m, const wisp_gguf *gguf, const wisp_architecture **architecture) {
  wisp_text text;
  WISP_TRY(wisp_gguf_string(gguf, "general.architecture", true, &text));
  *architecture = wisp_architecture_find(text);
  if (!*architecture)
    return wisp_fail(gguf->host, WISP_ERROR_UNSUPPORTED, "%s: architecture \"%.*s\" is not supported; supported: %s",
                     gguf->name, (int)(text.size > 32 ? 32 : text.size), text.bytes, wisp_architecture_list());
  snprintf(m->architecture, sizeof m->architecture, "%.*s", (int)text.size, text.bytes);
  const char *slash = strrchr(gguf->name, '/');
  text = (wisp_text){slash ? slash + 1 : gguf->name, strlen(slash ? slash + 1 : gguf->name)};
  WISP_TRY(wisp_gguf_string(gguf, "general.name", false, &text));
  snprintf(m->name, sizeof m->name, "%.*s", (int)(text.size > 127 ? 127 : text.size), text.bytes);
  text = (wisp_text){0};
  WISP_TRY(wisp_gguf_string(gguf, "wisp.activation_type", false, &text));
  m->int8_activations = text.size == 14 && !memcmp(text.bytes, "int8_per_token", 14);
  if (text.size && !m->int8_activations)
    return wisp_fail(gguf->host, WISP_ERROR_UNSUPPORTED,
                     "%s: wisp.activation_type is \"%.*s\"; only \"int8_per_token\" is known", gguf->name,
                     WISP_TEXT_ARGS(text));
  uint32_t experts = 0;
  char key[96];
  WISP_TRY(wisp_gguf_u32(gguf, key_of(m, key, "expert_count"), false, &experts));
  if (experts)
    return wisp_fail(gguf->host, WISP_ERROR_UNSUPPORTED, "%s: mixture of %u experts is not supported", gguf->name, experts);
  return WISP_OK;
}

static wisp_status read_traits(wisp_model *m, const wisp_gguf *gguf, const wisp_architecture *architecture) {
  char key[96];
  m->block_repeat = 1;
  m->embedding_scale = architecture->traits & WISP_TRAIT_SCALED_EMBEDDING ? sqrtf((float)m->width) : 1.0f;
  m->gelu = architecture->traits & WISP_TRAIT_GELU;
  m->qk_norm_plain = architecture->traits & WISP_TRAIT_QK_NORM_PLAIN;
  if (m->qk_norm_plain) WISP_TRY(wisp_gguf_bool(gguf, key_of(m, key, "attention.qk_norm"), false, &m->qk_norm_plain));
  if (architecture->traits & WISP_TRAIT_WINDOWS)
    WISP_TRY(wisp_gguf_f32(gguf, key_of(m, key, "rope.freq_base_swa"), false, &m->rope_theta_windowed));
  if (!(architecture->traits & WISP_TRAIT_REPEAT)) return WISP_OK;
  WISP_TRY(wisp_gguf_u32(gguf, key_of(m, key, "block_repeat_count"), true, &m->block_repeat));
  return m->block_repeat >= 1 && m->block_repeat <= 16 ? WISP_OK : out_of_range(gguf, key, m->block_repeat, 1, 16);
}

static wisp_status read_model(wisp_model *m, const wisp_gguf *gguf) {
  const wisp_architecture *architecture = NULL;
  WISP_TRY(read_identity(m, gguf, &architecture));
  WISP_TRY(read_shape(m, gguf));
  WISP_TRY(read_traits(m, gguf, architecture));
  return wisp_model_bind(m, gguf, architecture);
}

wisp_status wisp_model_from_gguf(wisp_model *model, const wisp_host *host, const wisp_gguf *gguf) {
  *model = (wisp_model){.host = host, .arena = {.host = host}};
  const wisp_status status = read_model(model, gguf);
  if (status != WISP_OK) wisp_model_close(model);
  return status;
}

void wisp_model_close(wisp_model *model) {
  wisp_arena_free(&model->arena);
  *model = (wisp_model){0};
}

/* Calls visit for each matrix that is stored (a shared head is not). */
static void each_matrix(const wisp_model *m, void (*visit)(void *user, const wisp_matrix *matrix), void *user) {
  visit(user, &m->embedding);
  if (!m->head_shared) visit(user, &m->head);
  for (uint32_t i = 0; i < m->weight_blocks; i++) {
    const wisp_block *b = &m->blocks[i];
    const wisp_matrix *matrices[] = {&b->q, &b->k, &b->v, &b->attn_out, &b->gate, &b->up, &b->down};
    for (size_t j = 0; j < sizeof matrices / sizeof *matrices; j++) visit(user, matrices[j]);
  }
}

static void add_weights(void *user, const wisp_matrix *matrix) {
  *(uint64_t *)user += (uint64_t)matrix->rows * matrix->cols;
}
static void add_bytes(void *user, const wisp_matrix *matrix) {
  *(uint64_t *)user += wisp_matrix_bytes(matrix);
}

/* Norms and biases. */
static uint64_t vector_weights(const wisp_model *m) {
  uint64_t sum = m->width;
  for (uint32_t i = 0; i < m->weight_blocks; i++) {
    const wisp_block *b = &m->blocks[i];
    sum += 2ull * m->width + (b->attn_post_norm ? 2ull * m->width : 0) + (b->q_norm ? 2ull * m->head_size : 0) +
           (b->q_bias ? b->q.rows + b->k.rows + b->v.rows : 0);
  }
  return sum;
}

uint64_t wisp_model_parameters(const wisp_model *model) {
  uint64_t sum = vector_weights(model);
  each_matrix(model, add_weights, &sum);
  return sum;
}

uint64_t wisp_model_weight_bytes(const wisp_model *model) {
  uint64_t sum = vector_weights(model) * sizeof(float);
  each_matrix(model, add_bytes, &sum);
  return sum;
}

typedef struct census {
  const wisp_dtype_info *type[32];
  uint64_t weights[32];
} census;

static void count_type(void *user, const wisp_matrix *matrix) {
  census *c = user;
  for (size_t i = 0; i < 32; i++)
    if (!c->type[i] || c->type[i] == matrix->type) {
      c->type[i] = matrix->type;
      c->weights[i] += (uint64_t)matrix->rows * matrix->cols;
      return;
    }
}

const char *wisp_model_type_name(const wisp_model *model) {
  if (model->int8_activations) return "w8a8";
  census c = {0};
  each_matrix(model, count_type, &c);
  size_t best = 0;
  for (size_t i = 1; i < 32 && c.type[i]; i++)
    if (c.weights[i] > c.weights[best]) best = i;
  return c.type[best]->name;
}
