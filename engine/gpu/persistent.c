/* SPDX-License-Identifier: Apache-2.0 */
#include "gpu/persistent.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "gpu/executor.h"
#include "gpu/persistent_constants.h"
#include "gpu/token_check.h"
#include "gpu/tune.h"

/* Vendors on whose discrete GPUs it is tried unasked. NVIDIA: seen to work on an H100. */
static const uint32_t trusted[] = {0x10de};

static void say_why(wisp_persistent *p, wisp_decode_text *text, const char *why) {
  snprintf(text->by_ops, sizeof text->by_ops, "dispatches: %s", why);
  snprintf(text->fused, sizeof text->fused, "fused: three dispatches a block; %s", why);
  atomic_store(&p->decode, text);
}

/* Once, before anything uses the path. */
static void refuse(wisp_persistent *p, const char *format, ...) {
  char why[192];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(why, sizeof why, format, arguments);
  va_end(arguments);
  say_why(p, &p->refusal, why);
}

const char *wisp_persistent_text(const wisp_persistent *p, bool fused) {
  const wisp_decode_text *text = atomic_load(&p->decode);
  return !text ? "" : fused ? text->fused : text->by_ops;
}

/* ---- Whether and how ---- */

static const char slower[] = "found to be faster here";

#define REFUSE(...) return (refuse(p, __VA_ARGS__), false)

/* What the environment asks for. */
static bool read_wish(wisp_persistent *p, const wvk_caps *caps, const wisp_choice *choice) {
  const char *text = getenv("WISP_PERSISTENT");
  if (text && !*text) text = NULL;
  if (text && !strcmp(text, "0")) REFUSE("WISP_PERSISTENT=0");
  if (text && strcmp(text, "1")) sscanf(text, "%ux%ux%u", &p->wished_groups, &p->wished_local, &p->wished_split);
  p->wished = text;
  if (text) return true;
  if (choice->knobs[WISP_KNOB_PERSISTENT] == WISP_OFF) REFUSE("%s", slower);
  for (size_t i = 0; i < sizeof trusted / sizeof *trusted; i++)
    if (caps->vendor_id == trusted[i] && caps->kind == WVK_KIND_DISCRETE) return true;
  REFUSE("not seen to work on %.80s; WISP_PERSISTENT=1 tries", caps->name);
}

static bool device_fits(wisp_persistent *p, const wvk_caps *caps) {
  if (!caps->memory_model || !caps->atomic64) REFUSE("no device-scope memory model or 64-bit atomics");
  if (!caps->subgroup_shuffle || caps->subgroup_min != caps->subgroup_max || caps->subgroup_size < 32)
    REFUSE("no subgroups of one size, at least 32");
  if (caps->storage_buffers < WISP_PERSISTENT_BINDINGS)
    REFUSE("%u storage buffers, %d needed", caps->storage_buffers, WISP_PERSISTENT_BINDINGS);
  if (!caps->cores && !p->wished_groups) REFUSE("the driver does not tell how many workgroups run at the same time");
  return true;
}

static bool same_placed(const wisp_placed *a, const wisp_placed *b) {
  return a->layout == b->layout && a->quants == b->quants && a->scales == b->scales;
}

/* All windows alike and evenly spaced, in one buffer. */
static bool model_fits(wisp_persistent *p, const wisp_model *m, const wisp_weights *w, const wvk_caps *caps) {
  if (w->buffer_count != 1 || w->embedding_parts != 1 || w->head_parts != 1) REFUSE("weights in several bindings");
  if (w->sizes[0] + caps->storage_alignment > caps->max_storage_range) REFUSE("weights pass the limit of a binding");
  if (m->int8_activations) REFUSE("8-bit activations");
  if (m->qk_norm_plain || m->blocks[0].q_norm) REFUSE("norms of heads");
  if (m->blocks[0].attn_post_norm || m->blocks[0].ffn_post_norm) REFUSE("norms behind projections");
  if (m->head_size % 8 || (m->head_size & (m->head_size - 1)) || m->head_size / 8 > caps->subgroup_size)
    REFUSE("heads of %u", m->head_size);
  const wisp_window *first = &w->blocks[0];
  if (first->matrices[0].layout != first->matrices[1].layout || first->matrices[0].layout != first->matrices[2].layout ||
      first->matrices[4].layout != first->matrices[5].layout)
    REFUSE("q, k and v or gate and up of different types");
  for (uint32_t i = 0; i < m->weight_blocks; i++) {
    if (m->blocks[i].window) REFUSE("blocks with a window");
    for (int j = 0; j < WISP_WINDOW_MATRICES; j++)
      if (!same_placed(&first->matrices[j], &w->blocks[i].matrices[j])) REFUSE("blocks of different types");
    if (w->blocks[i].offset - first->offset != i * (m->weight_blocks > 1 ? w->blocks[1].offset - first->offset : 0))
      REFUSE("blocks unevenly spaced");
  }
  return true;
}

/* Returns NULL, or why the device cannot. */
static const char *choose_shape(const gpu_executor *e, uint32_t local, wisp_persistent_shape *shape) {
  const uint32_t wished = e->persistent.wished_groups;
  return wisp_persistent_shape_for(&e->context, wished ? wished : wvk_device_caps(e->device)->cores, local, shape);
}

/* ---- Compiling ---- */

static void *compile(void *user);

/* Where it cannot be begun, dispatches go on. */
static void begin_build(gpu_executor *e, wisp_persistent_kernel *k, bool kv_f32) {
  wisp_persistent_build *b = &k->builds[kv_f32];
  pthread_mutex_lock(&e->mutex);
  if (!b->started) {
    b->executor = e;
    b->kernel = k;
    b->started = pthread_create(&b->thread, NULL, compile, b) == 0;
  }
  pthread_mutex_unlock(&e->mutex);
}

static void wait_for_build(gpu_executor *e, const wisp_persistent_build *b) {
  pthread_mutex_lock(&e->mutex);
  while (b->started && !b->done) pthread_cond_wait(&e->changed, &e->mutex);
  pthread_mutex_unlock(&e->mutex);
}

static bool create_pipeline(wisp_persistent_build *b, bool kv_f32) {
  const gpu_executor *e = b->executor;
  const wisp_persistent *p = &e->persistent;
  const wisp_shader *shader = wisp_shader_find("persistent");
  uint32_t constants[WISP_P_COUNT];
  memcpy(constants, b->kernel->constants, sizeof constants);
  constants[WISP_P_KV_F32] = kv_f32;
  wvk_pipeline_params params = {.name = shader->name,
                                .constants = constants,
                                .constant_count = WISP_P_COUNT,
                                .subgroup_size = wvk_device_caps(e->device)->subgroup_size_control ? constants[WISP_P_SUBGROUP]
                                                                                                   : 0,
                                .statistics = e->compile_only};
  const double begin = wisp_now_s();
  uint32_t *compiled = wisp_gpu_choose_spirv(e, &params, shader);
  const bool created = wvk_pipeline_create(&b->pipeline, p->layout, &params) == WVK_OK;
  const wvk_host host = wisp_gpu_host(e->host);
  wvk_glsl_free(&host, compiled);
  wisp_startup_add(e->startup, "persistent kernel", begin, wisp_now_s());
  atomic_store(&b->ready, created);
  return created;
}

/* ---- Timelines ---- */

static bool kv_f32(const gpu_timeline *t) {
  return t->base.kv_type == WISP_KV_F32;
}

/* Of the one for the choice's value, else of the first. */
static uint32_t kernel_index(const wisp_persistent *p, const wisp_choice *choice) {
  for (uint32_t i = 0; i < p->kernel_count; i++)
    if (p->kernels[i].local == choice->knobs[WISP_KNOB_PERSISTENT_LOCAL]) return i;
  return 0;
}

static wisp_persistent_kernel *kernel_of(gpu_executor *e, const wisp_choice *choice) {
  pthread_mutex_lock(&e->mutex);
  wisp_persistent_kernel *k = &e->persistent.kernels[kernel_index(&e->persistent, choice)];
  pthread_mutex_unlock(&e->mutex);
  return k;
}

bool wisp_persistent_take(gpu_timeline *t) {
  wisp_persistent_state *s = &t->persistent;
  if (s->active || s->failed || !s->set || !atomic_load(&t->executor->persistent.available)) return false;
  return s->active = atomic_load(&s->kernel->builds[kv_f32(t)].ready);
}

static wisp_status create_set(gpu_timeline *t) {
  gpu_executor *e = t->executor;
  WISP_GPU_TRY(wvk_buffer_create(&t->persistent.mail, e->device, "mail", t->persistent.kernel->mail_bytes, WVK_MEMORY_DEVICE));
  wvk_binding bindings[WISP_PERSISTENT_BINDINGS];
  wisp_gpu_bindings(t, 0, wvk_buffer_size(e->weights.buffers[0]), wvk_buffer_size(t->kv), bindings);
  bindings[WISP_BIND_MAIL] = (wvk_binding){t->persistent.mail, 0, wvk_buffer_size(t->persistent.mail)};
  WISP_GPU_TRY(wvk_set_create(&t->persistent.set, e->persistent.layout, bindings));
  /* Old mail of another timeline in the same memory could carry a tag of this one. */
  WISP_GPU_TRY(wvk_commands_begin(t->batch));
  wvk_cmd_fill(t->batch, t->persistent.mail, 0, wvk_buffer_size(t->persistent.mail), 0);
  wvk_cmd_transfer_barrier(t->batch);
  WISP_GPU_TRY(wvk_commands_end(t->batch));
  WISP_GPU_TRY(wvk_submit(e->device, &t->batch, 1));
  return wisp_gpu_status(wvk_wait(t->batch, UINT64_MAX));
}

wisp_status wisp_persistent_timeline_open(gpu_timeline *t) {
  gpu_executor *e = t->executor;
  wisp_persistent *p = &e->persistent;
  if (!p->planned || wvk_buffer_size(t->kv) > wvk_device_caps(e->device)->max_storage_range) return WISP_OK;
  if (t->base.kv_type == WISP_KV_Q8_0) {
    wisp_log(e->host, WISP_LOG_INFO, "decode: a dispatch for each op: the persistent kernel knows no KV cache in q8_0");
    return WISP_OK;
  }
  wisp_persistent_kernel *k = kernel_of(e, &t->context.choice);
  t->persistent.kernel = k;
  begin_build(e, k, kv_f32(t));
  if (p->wished && kv_f32(t)) wait_for_build(e, &k->builds[true]);
  WISP_TRY(create_set(t));
  wisp_persistent_take(t);
  return WISP_OK;
}

void wisp_persistent_timeline_close(gpu_timeline *t) {
  wvk_set_destroy(&t->persistent.set);
  wvk_buffer_destroy(&t->persistent.mail);
}

void wisp_persistent_record(gpu_timeline *t, wvk_commands *commands) {
  const uint32_t push[WISP_PUSH_BYTES / 4] = {0, (uint32_t)(t->slot_bytes / 16)};
  wvk_cmd_bind_pipeline(commands, t->persistent.kernel->builds[kv_f32(t)].pipeline);
  wvk_cmd_bind_set(commands, t->persistent.set, NULL);
  wvk_cmd_push(commands, t->executor->persistent.layout, push, sizeof push);
  wvk_cmd_dispatch(commands, t->persistent.kernel->constants[WISP_P_GROUPS], 1, 1);
  wvk_cmd_barrier(commands);
}

void wisp_persistent_bar(gpu_timeline *t) {
  t->persistent.active = false;
  t->persistent.failed = true;
}

static void give_up(gpu_executor *e, const char *why) {
  wisp_persistent *p = &e->persistent;
  pthread_mutex_lock(&e->mutex);
  atomic_store(&p->available, false);
  say_why(p, &p->failure, why);
  pthread_mutex_unlock(&e->mutex);
}

void wisp_persistent_give_up(gpu_executor *e) {
  give_up(e, slower);
}

bool wisp_persistent_failed(gpu_timeline *t) {
  if (!t->persistent.active) return false;
  uint32_t *step = wvk_buffer_map(t->step);
  wvk_buffer_invalidate(t->step, 0, WISP_STEP_WORDS * 4);
  if (!step[WISP_STEP_FAILED]) return false;
  step[WISP_STEP_FAILED] = 0;
  wvk_buffer_flush(t->step, 0, WISP_STEP_WORDS * 4);
  t->persistent.active = false;
  t->persistent.failed = true;
  give_up(t->executor, "workgroups waited in vain for each other");
  return true;
}

/* ---- Check ---- */

static wisp_status compare(gpu_executor *e, wisp_timeline *timeline, float *logits) {
  gpu_timeline *t = (gpu_timeline *)timeline;
  const wisp_model *m = e->plan->model;
  wisp_token_check expected = {.logits = logits};
  wisp_token_check found = {.logits = logits + (size_t)WISP_CHECK_TOKENS * m->vocabulary};
  WISP_TRY(wisp_token_check_run(timeline, m, &expected));
  t->persistent.active = true;
  t->recorded = false;
  WISP_TRY(wisp_token_check_run(timeline, m, &found));
  if (t->persistent.failed) return WISP_OK;
  double nmse;
  if (!wisp_token_check_agrees(m, &expected, &found, &nmse)) {
    refuse(&e->persistent, "wrong results: NMSE %.3g, token %d for %d", nmse, found.next, expected.next);
    return WISP_OK;
  }
  bool pays = true;
  if (!e->persistent.wished) WISP_TRY(wisp_tune_persistent(t, &pays));
  if (pays)
    atomic_store(&e->persistent.available, true);
  else if (!t->persistent.failed)
    refuse(&e->persistent, "%s", slower);
  return WISP_OK;
}

/* Of all that the comparison depends on. */
static uint64_t kernel_hash(const wisp_persistent_kernel *k) {
  wisp_hash hash;
  wisp_hash_begin(&hash);
  wisp_trust_hash_kernel(&hash, wisp_shader_find("persistent"), k->constants, WISP_P_COUNT, 0);
  return wisp_hash_end(&hash);
}

/* Of the kernel that start-up builds. */
static bool trusted_before(gpu_executor *e) {
  const wisp_persistent *p = &e->persistent;
  pthread_mutex_lock(&e->mutex);
  const bool passed = !p->wished && !getenv("WISP_SHADER_DIR") && wisp_trust_has(&e->trust, kernel_hash(&p->kernels[0]));
  pthread_mutex_unlock(&e->mutex);
  return passed;
}

static void trust(gpu_executor *e, const wisp_persistent_kernel *k) {
  if (getenv("WISP_SHADER_DIR")) return;
  pthread_mutex_lock(&e->mutex);
  wisp_trust_add(&e->trust, kernel_hash(k));
  pthread_mutex_unlock(&e->mutex);
}

/* Waits for the rest of the executor; false: there is none. One that is being closed is compared all the same, so that the next
 * start can do without. */
static bool wait_until_opened(gpu_executor *e) {
  pthread_mutex_lock(&e->mutex);
  while (!e->opened && !e->closing) pthread_cond_wait(&e->changed, &e->mutex);
  const bool opened = e->opened;
  pthread_mutex_unlock(&e->mutex);
  return opened;
}

/* An error of the device has been logged, and comes back to whoever uses it next. */
static void prove(gpu_executor *e) {
  const double begin = wisp_now_s();
  wisp_persistent *p = &e->persistent;
  wisp_timeline *timeline = NULL;
  float *logits = wisp_host_alloc(e->host, 2ull * WISP_CHECK_TOKENS * e->plan->model->vocabulary, sizeof *logits);
  if (!logits || wisp_gpu_timeline_create(&timeline, &e->base, WISP_TUNE_CONTEXT, WISP_KV_F16) != WISP_OK ||
      compare(e, timeline, logits) != WISP_OK)
    refuse(p, "the comparison with them failed");
  if (timeline) wisp_gpu_timeline_destroy(timeline);
  wisp_host_free(e->host, logits);
  wisp_startup_add(e->startup, "persistent check", begin, wisp_now_s());
  if (atomic_load(&p->available)) trust(e, &p->kernels[0]);
}

static void *compile(void *user) {
  wisp_persistent_build *b = user;
  gpu_executor *e = b->executor;
  wisp_persistent *p = &e->persistent;
  const bool kv_f32 = b == &b->kernel->builds[true], created = create_pipeline(b, kv_f32);
  const bool first = b == &p->kernels[0].builds[false];
  if (!created && first) refuse(p, "the driver refuses the kernel");
  if (created && first && !e->compile_only) {
    if (trusted_before(e))
      atomic_store(&p->available, true);
    else if (wait_until_opened(e))
      prove(e);
    if (atomic_load(&p->available)) atomic_store(&p->decode, &b->kernel->text);
  }
  pthread_mutex_lock(&e->mutex);
  b->done = true;
  pthread_cond_broadcast(&e->changed);
  pthread_mutex_unlock(&e->mutex);
  return NULL;
}

/* ---- Opening ---- */

/* The kernel of that shape, all but its pipelines. */
static wisp_persistent_kernel describe(const gpu_executor *e, uint32_t local, const wisp_persistent_shape *s) {
  wisp_persistent_kernel k = {.local = local};
  k.mail_bytes = wisp_persistent_set_constants(k.constants, &e->context, e->plan, s, e->persistent.wished_split);
  snprintf(k.text.by_ops, sizeof k.text.by_ops, "persistent: %u workgroups of %u", s->groups, s->local);
  snprintf(k.text.fused, sizeof k.text.fused, "%s", k.text.by_ops);
  return k;
}

static wisp_persistent_kernel *add_kernel(gpu_executor *e, const wisp_persistent_kernel *k) {
  wisp_persistent *p = &e->persistent;
  pthread_mutex_lock(&e->mutex);
  wisp_persistent_kernel *added = &p->kernels[p->kernel_count++];
  *added = *k;
  pthread_mutex_unlock(&e->mutex);
  begin_build(e, added, false);
  return added;
}

wisp_status wisp_persistent_open(gpu_executor *e) {
  wisp_persistent *p = &e->persistent;
  const wvk_caps *caps = wvk_device_caps(e->device);
  const wisp_choice *choice = &e->context.choice;
  const uint32_t local = choice->knobs[WISP_KNOB_PERSISTENT_LOCAL];
  wisp_persistent_shape s;
  if (!read_wish(p, caps, choice) || !device_fits(p, caps) || !model_fits(p, e->plan->model, &e->weights, caps)) return WISP_OK;
  const char *why = choose_shape(e, p->wished_local ? p->wished_local : local, &s);
  if (why && !p->wished_local && local) why = choose_shape(e, 0, &s);
  if (why) {
    refuse(p, "%s", why);
    return WISP_OK;
  }
  WISP_GPU_TRY(wvk_layout_create(&p->layout, e->device, WISP_PERSISTENT_BINDINGS, 0, WISP_PUSH_BYTES));
  say_why(p, &p->planned_text, "the persistent kernel is being compiled");
  p->planned = true;
  const wisp_persistent_kernel first = describe(e, local, &s);
  add_kernel(e, &first);
  return WISP_OK;
}

bool wisp_persistent_add(gpu_executor *e, uint32_t local) {
  wisp_persistent *p = &e->persistent;
  wisp_persistent_shape s;
  const wisp_choice defaults = {0};
  if (!p->planned || choose_shape(e, local ? local : p->wished_local, &s)) return false;
  const wisp_persistent_kernel k = describe(e, local, &s);
  uint32_t i = 0;
  while (i < p->kernel_count && memcmp(p->kernels[i].constants, k.constants, sizeof k.constants)) i++;
  if (i == WISP_PERSISTENT_KERNELS) return false;
  if (i == p->kernel_count) wait_for_build(e, &add_kernel(e, &k)->builds[false]);
  return i != kernel_index(p, &defaults) && atomic_load(&p->kernels[i].builds[false].ready);
}

void wisp_persistent_adopt(gpu_executor *e) {
  const wisp_persistent_kernel *k = kernel_of(e, &e->context.choice);
  if (!atomic_load(&e->persistent.available)) return;
  trust(e, k);
  atomic_store(&e->persistent.decode, &k->text);
}

void wisp_persistent_expect(gpu_executor *e) {
  if (e->persistent.wished || trusted_before(e)) wait_for_build(e, &e->persistent.kernels[0].builds[false]);
}

void wisp_persistent_settle(gpu_executor *e) {
  for (int i = 0; i < WISP_PERSISTENT_KERNELS; i++)
    for (int kv_f32 = 0; kv_f32 < 2; kv_f32++) wait_for_build(e, &e->persistent.kernels[i].builds[kv_f32]);
}

bool wisp_persistent_pipeline(const gpu_executor *e, bool kv_f32, wisp_pipeline_info *info) {
  static const struct {
    const char *name;
    uint32_t first, count;
  } shown[] = {{"local", WISP_P_LOCAL, 1},
               {"subgroup", WISP_P_SUBGROUP, 1},
               {"groups", WISP_P_GROUPS, 1},
               {"blocks", WISP_P_BLOCKS, 1},
               {"repeat", WISP_P_REPEAT, 1},
               {"width", WISP_P_WIDTH, 1},
               {"ffn_width", WISP_P_FFN_WIDTH, 1},
               {"heads", WISP_P_HEADS, 1},
               {"kv_heads", WISP_P_KV_HEADS, 1},
               {"head_size", WISP_P_HEAD_SIZE, 1},
               {"vocabulary", WISP_P_VOCABULARY, 1},
               {"slices", WISP_P_SLICES, WISP_P_ROW_PHASES},
               {"parts", WISP_P_PARTS, WISP_P_ROW_PHASES + 2},
               {"hidden", WISP_P_HIDDEN, 1},
               {"stream", WISP_P_STREAM, 1},
               {"ahead", WISP_P_AHEAD, 1},
               {"split", WISP_P_SPLIT, 1},
               {"splits", WISP_P_SPLITS, 1}};
  const wisp_persistent_kernel *k = &e->persistent.kernels[kernel_index(&e->persistent, &e->context.choice)];
  if (!atomic_load(&k->builds[kv_f32].ready)) return false;
  if (!info) return true;
  *info = (wisp_pipeline_info){0};
  snprintf(info->name, sizeof info->name, "persistent");
  size_t at = (size_t)snprintf(info->constants, sizeof info->constants, "kv_f32=%d", kv_f32);
  for (size_t i = 0; i < sizeof shown / sizeof *shown; i++)
    for (uint32_t j = 0; j < shown[i].count && at < sizeof info->constants; j++)
      at += (size_t)snprintf(info->constants + at, sizeof info->constants - at, j ? ",%s%u" : " %s=%u", j ? "" : shown[i].name,
                             k->constants[shown[i].first + j]);
  wvk_pipeline_statistics(k->builds[kv_f32].pipeline, info->statistics, sizeof info->statistics);
  return true;
}

void wisp_persistent_close(gpu_executor *e) {
  for (int i = 0; i < WISP_PERSISTENT_KERNELS; i++)
    for (int kv_f32 = 0; kv_f32 < 2; kv_f32++) {
      wisp_persistent_build *b = &e->persistent.kernels[i].builds[kv_f32];
      if (b->started) pthread_join(b->thread, NULL);
      wvk_pipeline_destroy(&b->pipeline);
    }
  wvk_layout_destroy(&e->persistent.layout);
}
