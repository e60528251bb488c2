/* SPDX-License-Identifier: Apache-2.0 */
#include "gpu/choice.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "shaders.h"

static const char *const switches[] = {"off", "on"};
static const char *const arithmetics[] = {"f32", "f16"};
static const char *const reductions[] = {"shared", "subgroup", "direct"};

const wisp_knob_info wisp_knobs[WISP_KNOB_COUNT] = {
    [WISP_KNOB_FUSED] = {"fused", {WISP_OFF, WISP_ON}, switches},
    [WISP_KNOB_PERSISTENT] = {"persistent", {WISP_OFF, WISP_ON}, switches},
    [WISP_KNOB_PERSISTENT_LOCAL] = {"persistent_local", {256, 384, 512}, NULL},
    [WISP_KNOB_ARITHMETIC] = {"arithmetic", {WISP_ARITHMETIC_F32, WISP_ARITHMETIC_F16}, arithmetics},
    [WISP_KNOB_REDUCTIONS] = {"reductions", {WISP_SHARED, WISP_SUBGROUP, WISP_DIRECT}, reductions},
    [WISP_KNOB_MATRIX_LOCAL] = {"matrix_local", {64, 128, 256}, NULL},
    [WISP_KNOB_QKV_SLICES] = {"qkv_slices", {4, 8, 16, 32, 64}, NULL},
    [WISP_KNOB_ATTN_OUT_SLICES] = {"attn_out_slices", {4, 8, 16, 32, 64}, NULL},
    [WISP_KNOB_GATE_UP_SLICES] = {"gate_up_slices", {4, 8, 16, 32, 64}, NULL},
    [WISP_KNOB_DOWN_SLICES] = {"down_slices", {4, 8, 16, 32, 64}, NULL},
    [WISP_KNOB_HEAD_SLICES] = {"head_slices", {2, 4, 8, 16}, NULL},
    [WISP_KNOB_ATTENTION_LOCAL] = {"attention_local", {64, 128, 256, 512, 1024}, NULL},
    [WISP_KNOB_ATTENTION_GROUPS] = {"attention_groups", {2, 3, 4, 6, 8, 12}, NULL},
    [WISP_KNOB_QKV_ROWS] = {"qkv_rows", {8, 16, 32}, NULL},
    [WISP_KNOB_QKV_PARTS] = {"qkv_parts", {1, 2, 4}, NULL},
    [WISP_KNOB_UNITS] = {"units", {8, 16, 32}, NULL},
    [WISP_KNOB_GATE_UP_PARTS] = {"gate_up_parts", {1, 2, 4}, NULL},
    [WISP_KNOB_TEAM_LOCAL] = {"team_local", {256, 384, 512, 640, 768, 1024}, NULL},
    [WISP_KNOB_AHEAD_WORDS] = {"ahead_words", {24, 48, 72, 96}, NULL},
    [WISP_KNOB_HEAD_ROWS] = {"head_rows", {16, 32, 64, 128}, NULL},
};

/* ---- As text ---- */

void wisp_knob_text(wisp_knob knob, uint32_t value, char text[16]) {
  if (wisp_knobs[knob].names && value)
    snprintf(text, 16, "%s", wisp_knobs[knob].names[value - 1]);
  else
    snprintf(text, 16, "%u", value);
}

void wisp_choice_text(const wisp_choice *choice, char text[WISP_CHOICE_TEXT_BYTES]) {
  size_t at = 0;
  text[0] = '\0';
  for (int i = 0; i < WISP_KNOB_COUNT; i++) {
    char value[16];
    if (!choice->knobs[i] || at >= WISP_CHOICE_TEXT_BYTES) continue;
    wisp_knob_text((wisp_knob)i, choice->knobs[i], value);
    at += (size_t)snprintf(text + at, WISP_CHOICE_TEXT_BYTES - at, "%s%s=%s", at ? " " : "", wisp_knobs[i].name, value);
  }
}

static bool known_value(wisp_knob knob, uint32_t value) {
  for (int i = 0; i < WISP_KNOB_VALUES && wisp_knobs[knob].values[i]; i++)
    if (wisp_knobs[knob].values[i] == value) return true;
  return false;
}

static bool parse_value(wisp_knob knob, const char *text, size_t length, uint32_t *value) {
  for (int i = 0; i < WISP_KNOB_VALUES && wisp_knobs[knob].values[i]; i++) {
    char known[16];
    wisp_knob_text(knob, wisp_knobs[knob].values[i], known);
    if (strlen(known) != length || strncmp(known, text, length) != 0) continue;
    *value = wisp_knobs[knob].values[i];
    return true;
  }
  return false;
}

bool wisp_choice_parse(wisp_choice *choice, const char *text) {
  *choice = (wisp_choice){0};
  for (text += strspn(text, " ,"); *text; text += strspn(text, " ,")) {
    const size_t length = strcspn(text, " ,"), name = strcspn(text, "=");
    int knob = 0;
    while (knob < WISP_KNOB_COUNT && (strlen(wisp_knobs[knob].name) != name || strncmp(wisp_knobs[knob].name, text, name) != 0))
      knob++;
    if (name >= length || knob == WISP_KNOB_COUNT) return false;
    if (!parse_value((wisp_knob)knob, text + name + 1, length - name - 1, &choice->knobs[knob])) return false;
    text += length;
  }
  return true;
}

/* ---- In the cache ---- */

enum { VERSION = 2 };

typedef struct entry {
  uint32_t version, origin;
  uint64_t key; /* hash */
  double default_us, us;
  uint32_t knobs[WISP_KNOB_COUNT + WISP_KNOB_COUNT % 2]; /* no padding behind it, which could hold anything */
  uint64_t sum;                                          /* of all before it */
} entry;

/* Limits and features that kernels are chosen by, also as the environment lowers them. */
static void hash_caps(wisp_hash *hash, const wvk_caps *c) {
  const uint32_t numbers[] = {
      (uint32_t)c->kind, c->max_workgroup, c->shared_memory, c->storage_buffers,    c->cores,
      c->subgroup_size,  c->subgroup_min,  c->subgroup_max,  c->subgroup_shuffle,   c->float16,
      c->int_dot,        c->memory_model,  c->atomic64,      c->cooperative_matrix, c->subgroup_arithmetic};
  for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) wisp_hash_add_u32(hash, numbers[i]);
  wisp_hash_add(hash, &c->max_storage_range, sizeof c->max_storage_range); /* which divides head and embedding */
  wisp_hash_add(hash, &c->max_allocation, sizeof c->max_allocation);
  wisp_hash_add(hash, c->name, strlen(c->name) + 1);
  wisp_hash_add(hash, c->driver, strlen(c->driver) + 1);
}

static void hash_plan(wisp_hash *hash, const wisp_plan *plan) {
  const wisp_model *m = plan->model;
  const uint32_t numbers[] = {m->width,         m->ffn_width,
                              m->heads,         m->kv_heads,
                              m->head_size,     m->gelu,
                              m->vocabulary,    VERSION,
                              plan->op_count,   (uint32_t)plan->kv_type,
                              m->qk_norm_plain, (uint32_t)m->int8_activations};
  for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) wisp_hash_add_u32(hash, numbers[i]);
  for (uint32_t i = 0; i < plan->op_count; i++) {
    const wisp_op *op = &plan->ops[i];
    const uint32_t of_op[] = {(uint32_t)op->kind,
                              op->weight_block,
                              op->post_norm != NULL,
                              op->block ? op->block->window : 0,
                              op->block && op->block->q_norm,
                              op->block && op->block->q_bias};
    for (size_t j = 0; j < sizeof of_op / sizeof *of_op; j++) wisp_hash_add_u32(hash, of_op[j]);
    for (uint32_t j = 0; j < op->matrix_count; j++) wisp_hash_add_u32(hash, (uint32_t)op->matrices[j]->type->dtype);
  }
}

wisp_choice_key wisp_choice_key_of(const wvk_device *device, const wisp_plan *plan) {
  wisp_choice_key key;
  char pipelines[64];
  wisp_hash hash;
  wisp_hash_begin(&hash);
  wvk_cache_key(device, pipelines);
  wisp_hash_add(&hash, pipelines, strlen(pipelines) + 1);
  hash_caps(&hash, wvk_device_caps(device));
  hash_plan(&hash, plan);
  snprintf(key.name, sizeof key.name, "tuned-%s-%016llx", pipelines, (unsigned long long)wisp_hash_end(&hash));
  for (uint32_t i = 0; i < wisp_shader_count; i++) wisp_hash_add(&hash, wisp_shaders[i].spirv, wisp_shaders[i].bytes);
  key.hash = wisp_hash_end(&hash);
  return key;
}

static uint64_t sum_of(const entry *e) {
  return wisp_hash_bytes(e, offsetof(entry, sum));
}

wisp_choice_kept wisp_choice_load(const wisp_cache *cache, const wisp_choice_key *key) {
  wisp_choice_kept kept = {0};
  entry e;
  if (!cache->get || cache->get(cache->user, key->name, &e, sizeof e) != sizeof e) return kept;
  if (e.version != VERSION || e.key != key->hash || e.sum != sum_of(&e) || e.origin > WISP_CHOICE_TUNED) return kept;
  for (int i = 0; i < WISP_KNOB_COUNT; i++)
    if (e.knobs[i] && !known_value((wisp_knob)i, e.knobs[i])) return kept;
  memcpy(kept.choice.knobs, e.knobs, sizeof kept.choice.knobs);
  kept.origin = (wisp_choice_origin)e.origin;
  kept.default_us = e.default_us;
  kept.us = e.us;
  return kept;
}

void wisp_choice_save(const wisp_cache *cache, const wisp_choice_key *key, const wisp_choice_kept *kept) {
  if (!cache->put) return;
  entry e = {
      .version = VERSION, .origin = (uint32_t)kept->origin, .key = key->hash, .default_us = kept->default_us, .us = kept->us};
  memcpy(e.knobs, kept->choice.knobs, sizeof kept->choice.knobs);
  e.sum = sum_of(&e);
  cache->put(cache->user, key->name, &e, sizeof e);
}
