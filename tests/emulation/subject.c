/* SPDX-License-Identifier: Apache-2.0 */
#include "subject.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gpu/persistent_constants.h"
#include "kernels/biases.h"
#include "session/executor.h"

typedef struct subject_engine {
  wisp_host host;
  wisp_model model;
  wisp_plan plan;
  wisp_weights weights;
  wisp_executor *cpu;
  wisp_timeline *timeline;
} subject_engine;

static void say(void *user, wisp_log_level level, const char *text) {
  if (level <= WISP_LOG_WARN) fprintf(stderr, "%s\n", text);
}

/* ---- The model ---- */

static bool open_model(subject_engine *e, const subject_params *p) {
  wisp_model *m = &e->model;
  if (wisp_model_synthesize(m, &e->host, p->model, p->type, 1) != WISP_OK) return false;
  if (p->blocks) m->weight_blocks = p->blocks;
  if (p->vocabulary) m->vocabulary = m->embedding.rows = m->head.rows = p->vocabulary;
  m->gelu = p->gelu;
  if (p->bias && !add_biases(m)) return false;
  return wisp_plan_create(&e->plan, &e->host, m) == WISP_OK;
}

/* ---- Weights, as they are uploaded ---- */

static void put_vectors(uint8_t *window, const uint32_t *places, const float *const *vectors, const uint32_t *counts,
                        uint32_t count) {
  for (uint32_t i = 0; i < count; i++)
    if (vectors[i]) memcpy(window + 16ull * places[i], vectors[i], counts[i] * sizeof(float));
}

static void put_matrix(uint8_t *window, const wisp_placed *placed, const wisp_matrix *matrix) {
  wisp_layout_repack(placed->layout, matrix, 0, matrix->rows, window + 16ull * placed->quants, window + 4ull * placed->scales);
}

static void put_weights(uint8_t *image, const wisp_weights *w, const wisp_model *m) {
  for (uint32_t i = 0; i < m->weight_blocks; i++) {
    const wisp_block *b = &m->blocks[i];
    const wisp_matrix *const matrices[WISP_WINDOW_MATRICES] = {&b->q, &b->k, &b->v, &b->attn_out, &b->gate, &b->up, &b->down};
    const float *const vectors[] = {b->attn_norm, b->ffn_norm, b->attn_post_norm, b->ffn_post_norm,
                                    b->q_bias,    b->k_bias,   b->v_bias};
    const uint32_t counts[] = {m->width, m->width, m->width, m->width, b->q.rows, b->k.rows, b->v.rows};
    uint8_t *window = image + w->blocks[i].offset;
    put_vectors(window, w->blocks[i].vectors, vectors, counts, sizeof vectors / sizeof *vectors);
    for (uint32_t j = 0; j < WISP_WINDOW_MATRICES; j++) put_matrix(window, &w->blocks[i].matrices[j], matrices[j]);
  }
  const wisp_window *const windows[] = {w->embedding, w->head};
  const wisp_matrix *const matrices[] = {&m->embedding, &m->head};
  for (int i = 0; i < 2; i++) {
    put_vectors(image + windows[i]->offset, windows[i]->vectors, &m->final_norm, &m->width, 1);
    put_matrix(image + windows[i]->offset, &windows[i]->matrices[0], matrices[i]);
  }
}

/* ---- Buffers ---- */

enum { NEVER_WRITTEN = 0xff }; /* bytes: a NaN */

static bool make_buffer(subject *s, uint32_t binding, uint32_t other, size_t bytes, int fill) {
  void *memory = malloc(bytes);
  if (!memory) return false;
  memset(memory, fill, bytes);
  s->buffers[binding] = s->buffers[other] = (subject_buffer){memory, bytes};
  return true;
}

static bool make_buffers(subject *s, const subject_params *p, const wisp_kernel_context *context, uint64_t mail_bytes) {
  const subject_engine *e = s->engine;
  const wisp_model *m = &e->model;
  const uint32_t positions = p->held + p->tokens, table = m->head_size * wisp_rope_tables(m);
  const uint64_t slot = wisp_plan_kv_row_bytes(&e->plan, context->kv_type) * positions;
  const uint64_t slot_bytes = (slot + 255) / 256 * 256;
  s->kv_stride = (uint32_t)(slot_bytes / 16);
  const size_t data_bytes = (context->activations.rope + (size_t)positions * table) * sizeof(float);
  if (!make_buffer(s, WISP_BIND_WEIGHTS_VEC4, WISP_BIND_WEIGHTS_WORD, e->weights.sizes[0], NEVER_WRITTEN) ||
      !make_buffer(s, WISP_BIND_KV_VEC4, WISP_BIND_KV_WORD, slot_bytes * e->plan.kv_slots, NEVER_WRITTEN) ||
      !make_buffer(s, WISP_BIND_DATA_VEC4, WISP_BIND_DATA, data_bytes, NEVER_WRITTEN) ||
      !make_buffer(s, WISP_BIND_STEP, WISP_BIND_STEP, WISP_STEP_WORDS * 4, 0) ||
      !make_buffer(s, WISP_BIND_TOKENS, WISP_BIND_TOKENS, (positions + 1ull) * 4, NEVER_WRITTEN) ||
      !make_buffer(s, WISP_BIND_MAIL, WISP_BIND_MAIL, mail_bytes, 0))
    return false;
  put_weights(s->buffers[WISP_BIND_WEIGHTS_VEC4].memory, &e->weights, m);
  wisp_rope_table(m, positions, (float *)s->buffers[WISP_BIND_DATA].memory + context->activations.rope);
  uint32_t *steps = s->buffers[WISP_BIND_STEP].memory;
  steps[WISP_STEP_POSITION] = p->held;
  steps[WISP_STEP_COUNT] = 1;
  return true;
}

typedef struct kv_target { /* rows come in order, in pieces of any size */
  uint8_t *kv;
  uint64_t held_bytes, slot_bytes, done;
} kv_target;

static bool take_rows(void *user, const void *data, size_t size) {
  kv_target *t = user;
  for (size_t i = 0; i < size; i++, t->done++)
    t->kv[t->done / t->held_bytes * t->slot_bytes + t->done % t->held_bytes] = ((const uint8_t *)data)[i];
  return true;
}

/* As if the tokens held had been a prompt. */
static bool hold(subject *s, const subject_params *p, wisp_kv_type kv_type) {
  subject_engine *e = s->engine;
  for (uint32_t i = 0; i < p->held; i++)
    if (!subject_append(s, (int32_t)((i * 7919u + 13) % s->vocabulary))) return false;
  kv_target target = {.kv = s->buffers[WISP_BIND_KV_VEC4].memory,
                      .held_bytes = wisp_plan_kv_row_bytes(&e->plan, kv_type) * p->held,
                      .slot_bytes = 16ull * s->kv_stride};
  return !p->held || wisp_cpu_executor.kv_read(e->timeline, take_rows, &target) == WISP_OK;
}

/* ---- The subject ---- */

static bool plan_kernel(subject *s, const subject_params *p, wisp_kv_type kv_type) {
  subject_engine *e = s->engine;
  const uint32_t subgroup_size = p->subgroup_size ? p->subgroup_size : 32;
  /* What an H100 says, with fewer cores. */
  const wvk_caps caps = {.name = "emulation",
                         .kind = WVK_KIND_DISCRETE,
                         .max_workgroup = 1024,
                         .shared_memory = 49152,
                         .max_storage_range = UINT32_MAX,
                         .max_allocation = UINT32_MAX,
                         .storage_alignment = 16,
                         .cores = p->groups,
                         .subgroup_size = subgroup_size,
                         .subgroup_min = subgroup_size,
                         .subgroup_max = subgroup_size,
                         .subgroup_shuffle = true};
  if (wisp_weights_plan(&e->weights, &e->host, &caps, &e->model) != WISP_OK) return false;
  wisp_kernel_context context = {.model = &e->model, .weights = &e->weights, .caps = &caps, .kv_type = kv_type};
  wisp_activations_plan(&context, 16);
  wisp_persistent_shape shape;
  const char *why = wisp_persistent_shape_for(&context, p->groups, p->local, &shape);
  if (why) {
    fprintf(stderr, "%s %s: %s\n", p->model, p->type, why);
    return false;
  }
  const uint64_t mail_bytes = wisp_persistent_set_constants(s->constants, &context, &e->plan, &shape, p->split);
  s->constants[WISP_P_KV_F32] = p->kv_f32;
  return make_buffers(s, p, &context, mail_bytes);
}

bool subject_open(subject *s, const subject_params *p) {
  *s = (subject){.engine = calloc(1, sizeof(subject_engine))};
  subject_engine *e = s->engine;
  if (!e) return false;
  e->host.log = say;
  setenv("WISP_CPU", "c", 1); /* the definition of each op: faster sets round activations */
  const wisp_kv_type kv_type = p->kv_f32 ? WISP_KV_F32 : WISP_KV_F16;
  if (!open_model(e, p) || !plan_kernel(s, p, kv_type)) return false;
  s->vocabulary = e->model.vocabulary;
  s->logits = calloc(s->vocabulary, sizeof *s->logits);
  const uint32_t positions = p->held + p->tokens;
  const wisp_executor_params params = {.host = &e->host, .plan = &e->plan, .threads = 1, .max_context = positions};
  return s->logits && wisp_cpu_executor.create(&e->cpu, &params) == WISP_OK &&
         wisp_cpu_executor.timeline_create(&e->timeline, e->cpu, positions, kv_type) == WISP_OK && hold(s, p, kv_type);
}

bool subject_append(subject *s, int32_t token) {
  return wisp_cpu_executor.append(s->engine->timeline, &token, 1, WISP_LOGITS_LAST, s->logits) == WISP_OK;
}

void subject_close(subject *s) {
  static const uint32_t owners[] = {WISP_BIND_WEIGHTS_VEC4, WISP_BIND_KV_VEC4, WISP_BIND_DATA_VEC4,
                                    WISP_BIND_STEP,         WISP_BIND_TOKENS,  WISP_BIND_MAIL};
  for (size_t i = 0; i < sizeof owners / sizeof *owners; i++) free(s->buffers[owners[i]].memory);
  free(s->logits);
  subject_engine *e = s->engine;
  if (!e) return;
  if (e->timeline) wisp_cpu_executor.timeline_destroy(e->timeline);
  if (e->cpu) wisp_cpu_executor.destroy(e->cpu);
  wisp_weights_close(&e->weights);
  wisp_plan_close(&e->plan);
  wisp_model_close(&e->model);
  free(e);
  *s = (subject){0};
}
