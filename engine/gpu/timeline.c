/* SPDX-License-Identifier: Apache-2.0
 * One timeline on the GPU: KV cache, activations, recorded commands. Commands are recorded when the timeline is made (decode)
 * or for each batch (prefill); all that differs from token to token is in the step buffer. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "gpu/executor.h"
#include "gpu/fused.h"

/* ---- Recording ---- */

static void bind_windows(gpu_timeline *t, wvk_commands *commands, const wisp_window *window, uint32_t kv_slot) {
  const uint32_t weights = window ? (uint32_t)window->offset : 0, kv = (uint32_t)(kv_slot * t->slot_bytes);
  const uint32_t offsets[] = {weights, weights, kv, kv};
  wvk_cmd_bind_set(commands, t->sets[window ? window->buffer : 0], offsets);
}

static wisp_status record_op(gpu_timeline *t, wvk_commands *commands, const wisp_op *op, uint32_t columns,
                             uint32_t push[WISP_PUSH_BYTES / 4]) {
  const uint32_t parts = wisp_kernel_parts(&t->context, op, columns > 1);
  for (uint32_t part = 0; part < parts; part++) {
    const wisp_kernel_call call = wisp_kernel_for(&t->context, op, part, columns > 1);
    if (part) wvk_cmd_barrier(commands); /* a post norm reads what the first part wrote; windows share the data buffer */
    const wvk_pipeline *pipeline = wisp_gpu_pipeline(t->executor, &call.kernel);
    if (!pipeline) return wisp_fail(t->executor->host, WISP_ERROR_DEVICE, "kernel %s was not built", call.kernel.shader->name);
    push[3] = call.residual;
    wvk_cmd_bind_pipeline(commands, pipeline);
    bind_windows(t, commands, call.window, op->kv_slot);
    wvk_cmd_push(commands, t->executor->layout, push, WISP_PUSH_BYTES);
    wvk_cmd_dispatch(commands, call.groups_x, wisp_kernel_groups_y(&call, columns), 1);
  }
  if (parts) wvk_cmd_barrier(commands);
  return WISP_OK;
}

wisp_status wisp_gpu_record_op(gpu_timeline *t, wvk_commands *commands, const wisp_op *op, uint32_t first_column,
                               uint32_t columns) {
  return record_op(t, commands, op, columns, (uint32_t[WISP_PUSH_BYTES / 4]){first_column});
}

wisp_status wisp_gpu_record_redraw(gpu_timeline *t, wvk_commands *commands) {
  const wisp_plan *plan = t->executor->plan;
  return record_op(t, commands, &plan->ops[plan->op_count - 1], 1, (uint32_t[WISP_PUSH_BYTES / 4]){[2] = 1});
}

static void copy_logits(gpu_timeline *t, wvk_commands *commands, uint32_t columns, uint32_t to_column) {
  const wisp_activations *a = &t->context.activations;
  const uint64_t row = (uint64_t)t->context.model->vocabulary * sizeof(float);
  wvk_cmd_transfer_barrier(commands);
  for (uint32_t i = 0; i < columns; i++)
    wvk_cmd_copy(commands, t->data, (a->logits + (uint64_t)i * a->logit_stride) * sizeof(float), t->readback,
                 (to_column + i) * row, row);
  wvk_cmd_transfer_barrier(commands);
}

wisp_status wisp_gpu_record_pass(gpu_timeline *t, wvk_commands *commands, uint32_t columns, wisp_gpu_outcome wanted) {
  const wisp_plan *plan = t->executor->plan;
  const uint32_t room = t->head_columns;
  for (uint32_t i = 0; i < plan->op_count; i++) {
    const wisp_op *op = &plan->ops[i];
    if (op->kind != WISP_OP_HEAD && op->kind != WISP_OP_SAMPLE) {
      WISP_TRY(wisp_gpu_record_op(t, commands, op, 0, columns));
    } else if (op->kind == WISP_OP_HEAD && wanted == WISP_GPU_EVERY) {
      for (uint32_t first = 0; first + 1 < columns; first += room) {
        const uint32_t count = columns - 1 - first < room ? columns - 1 - first : room;
        WISP_TRY(wisp_gpu_record_op(t, commands, op, first, count));
        copy_logits(t, commands, count, first);
      }
      WISP_TRY(wisp_gpu_record_op(t, commands, op, columns - 1, 1)); /* the last one as in NEXT: in column 0 */
      copy_logits(t, commands, 1, columns - 1);
    } else if (op->kind == WISP_OP_HEAD && wanted == WISP_GPU_NEXT) {
      WISP_TRY(wisp_gpu_record_op(t, commands, op, columns - 1, 1));
    } else if (op->kind == WISP_OP_SAMPLE && wanted != WISP_GPU_FILL) {
      WISP_TRY(wisp_gpu_record_op(t, commands, op, 0, 1));
    }
  }
  return WISP_OK;
}

/* ---- Creation ---- */

/* The RoPE table, and zeros in front of it. */
static wisp_status fill_rope(gpu_timeline *t) {
  const wisp_model *m = t->context.model;
  const uint64_t row = (uint64_t)m->head_size * wisp_rope_tables(m) * sizeof(float);
  const wisp_activations *a = &t->context.activations;
  const uint64_t zeros = (uint64_t)(a->rope - a->arrivals) * sizeof(float), bytes = zeros + row * t->base.context;
  uint8_t *table = wisp_host_alloc(t->executor->host, 1, bytes);
  if (!table) return wisp_fail_memory(t->executor->host, "RoPE table", bytes);
  wisp_rope_table(m, t->base.context, (float *)(void *)(table + zeros));
  wvk_uploader *uploader = NULL;
  wvk_status status = wvk_uploader_create(&uploader, t->executor->device, 1);
  for (uint64_t done = 0; done < bytes && status == WVK_OK;) {
    const uint64_t part = bytes - done < WVK_UPLOAD_CHUNK ? bytes - done : WVK_UPLOAD_CHUNK;
    void *pointer;
    status = wvk_uploader_map(uploader, 0, t->data, a->arrivals * sizeof(float) + done, part, &pointer);
    if (status == WVK_OK) memcpy(pointer, table + done, part);
    done += part;
  }
  if (status == WVK_OK) status = wvk_uploader_finish(uploader);
  wvk_uploader_destroy(&uploader);
  wisp_host_free(t->executor->host, table);
  return wisp_gpu_status(status);
}

static wisp_status create_buffers(gpu_timeline *t) {
  gpu_executor *e = t->executor;
  const wvk_caps *caps = wvk_device_caps(e->device);
  const wisp_model *m = t->context.model;
  const uint64_t alignment = caps->storage_alignment > 256 ? caps->storage_alignment : 256;
  const uint64_t slot = wisp_plan_kv_row_bytes(e->plan, t->base.kv_type) * t->base.context;
  t->slot_bytes = (slot + alignment - 1) / alignment * alignment;
  const uint64_t kv_bytes = t->slot_bytes * t->kv_slots;
  uint64_t kv_limit = caps->max_storage_range * t->kv_slots; /* a binding shows one slot */
  if (kv_limit > caps->max_allocation) kv_limit = caps->max_allocation;
  if (kv_limit > UINT32_MAX) kv_limit = UINT32_MAX; /* dynamic offsets have 32 bits */
  const uint64_t data_bytes = (t->context.activations.rope + (uint64_t)t->base.context * m->head_size * wisp_rope_tables(m)) *
                              sizeof(float);
  const struct {
    const char *name;
    uint64_t bytes, limit;
    wvk_buffer **buffer;
    wvk_memory memory;
  } buffers[] = {
      {"KV cache", kv_bytes, kv_limit, &t->kv, WVK_MEMORY_DEVICE},
      {"activations", data_bytes, caps->max_storage_range, &t->data, WVK_MEMORY_DEVICE},
      {"step", WISP_STEP_WORDS * 4, caps->max_storage_range, &t->step, WVK_MEMORY_SHARED},
      {"tokens", (t->base.context + 1ull) * 4, caps->max_storage_range, &t->tokens, WVK_MEMORY_SHARED},
      {"logits", (uint64_t)m->vocabulary * 4, caps->max_allocation, &t->readback, WVK_MEMORY_READBACK},
      {"residual stream", 16ull * m->width, caps->max_storage_range, &t->residual, WVK_MEMORY_DEVICE},
  };
  for (size_t i = 0; i < sizeof buffers / sizeof *buffers; i++) {
    if (buffers[i].bytes > buffers[i].limit)
      return wisp_fail(e->host, WISP_ERROR_MEMORY,
                       "a context of %u tokens needs %llu bytes for the %s, %s allows %llu: use a smaller --ctx",
                       t->base.context, (unsigned long long)buffers[i].bytes, buffers[i].name, caps->name,
                       (unsigned long long)buffers[i].limit);
    WISP_GPU_TRY(wvk_buffer_create(buffers[i].buffer, e->device, buffers[i].name, buffers[i].bytes, buffers[i].memory));
  }
  t->readback_columns = 1;
  return WISP_OK;
}

void wisp_gpu_bindings(const gpu_timeline *t, uint32_t buffer, uint64_t weights_range, uint64_t kv_range,
                       wvk_binding *bindings) {
  const wvk_binding weights = {t->executor->weights.buffers[buffer], 0, weights_range}, kv = {t->kv, 0, kv_range};
  const wvk_binding data = {t->data, 0, wvk_buffer_size(t->data)};
  bindings[WISP_BIND_WEIGHTS_VEC4] = bindings[WISP_BIND_WEIGHTS_WORD] = weights;
  bindings[WISP_BIND_KV_VEC4] = bindings[WISP_BIND_KV_WORD] = kv;
  bindings[WISP_BIND_DATA_VEC4] = bindings[WISP_BIND_DATA] = data;
  bindings[WISP_BIND_STEP] = (wvk_binding){t->step, 0, wvk_buffer_size(t->step)};
  bindings[WISP_BIND_TOKENS] = (wvk_binding){t->tokens, 0, wvk_buffer_size(t->tokens)};
}

static wisp_status create_sets(gpu_timeline *t) {
  gpu_executor *e = t->executor;
  t->sets = wisp_host_alloc(e->host, e->weights.buffer_count, sizeof *t->sets);
  if (!t->sets) return wisp_fail_memory(e->host, "descriptor sets", e->weights.buffer_count * sizeof *t->sets);
  for (uint32_t i = 0; i < e->weights.buffer_count; i++) {
    wvk_binding bindings[WISP_FUSED_BINDINGS];
    bindings[WISP_BIND_RESIDUAL] = (wvk_binding){t->residual, 0, wvk_buffer_size(t->residual)};
    wisp_gpu_bindings(t, i, e->weights.ranges[i], t->slot_bytes, bindings);
    WISP_GPU_TRY(wvk_set_create(&t->sets[i], e->layout, bindings));
  }
  return WISP_OK;
}

static wisp_status create_commands(gpu_timeline *t) {
  WISP_GPU_TRY(wvk_commands_create(&t->batch, t->executor->device, 0));
  WISP_GPU_TRY(wvk_commands_create(&t->read_logits, t->executor->device, 0));
  WISP_TRY(wisp_persistent_timeline_open(t));
  WISP_TRY(wisp_gpu_decode_open(t));
  WISP_GPU_TRY(wvk_commands_begin(t->read_logits));
  copy_logits(t, t->read_logits, 1, 0);
  return wisp_gpu_status(wvk_commands_end(t->read_logits));
}

wisp_status wisp_gpu_timeline_create(wisp_timeline **timeline, wisp_executor *executor, uint32_t context,
                                     wisp_kv_type kv_type) {
  gpu_executor *e = (gpu_executor *)executor;
  gpu_timeline *t;
  *timeline = NULL;
  WISP_TRY(wisp_gpu_build_pipelines(e, kv_type));
  wisp_kernel_context chosen = e->context;
  chosen.kv_type = kv_type;
  chosen.fused = e->context.fused && wisp_fused_fits(&chosen);
  WISP_TRY(wisp_gpu_timeline_create_as(&t, e, &chosen, context, e->plan->kv_slots));
  *timeline = &t->base;
  return WISP_OK;
}

wisp_status wisp_gpu_timeline_create_as(gpu_timeline **timeline, gpu_executor *e, const wisp_kernel_context *chosen,
                                        uint32_t context, uint32_t kv_slots) {
  *timeline = NULL;
  gpu_timeline *t = wisp_host_alloc(e->host, 1, sizeof *t);
  if (!t) return wisp_fail_memory(e->host, "timeline", sizeof *t);
  t->base.executor = &e->base;
  t->base.context = context;
  t->base.kv_type = chosen->kv_type;
  t->executor = e;
  t->context = *chosen;
  t->kv_slots = kv_slots;
  t->batch_limit = t->context.activations.columns;
  const char *batch = getenv("WISP_BATCH");
  const unsigned long wanted = batch ? strtoul(batch, NULL, 10) : 0;
  if (wanted && wanted < t->batch_limit) t->batch_limit = (uint32_t)wanted;
  wisp_status status = create_buffers(t);
  if (status == WISP_OK) status = create_sets(t);
  if (status == WISP_OK) status = fill_rope(t);
  if (status == WISP_OK) status = create_commands(t);
  if (status != WISP_OK) {
    wisp_gpu_timeline_destroy(&t->base);
    return status;
  }
  *timeline = t;
  return WISP_OK;
}

void wisp_gpu_timeline_destroy(wisp_timeline *timeline) {
  gpu_timeline *t = (gpu_timeline *)timeline;
  const wisp_host *host = t->executor->host;
  wisp_gpu_decode_close(t);
  wvk_commands_destroy(&t->batch);
  wvk_commands_destroy(&t->read_logits);
  for (uint32_t i = 0; t->sets && i < t->executor->weights.buffer_count; i++) wvk_set_destroy(&t->sets[i]);
  wisp_host_free(host, t->sets);
  wisp_persistent_timeline_close(t);
  wvk_buffer **buffers[] = {&t->kv, &t->data, &t->step, &t->tokens, &t->readback, &t->residual};
  for (size_t i = 0; i < sizeof buffers / sizeof *buffers; i++) wvk_buffer_destroy(buffers[i]);
  wisp_host_free(host, t);
}

/* ---- Running ---- */

#define SUBMIT_SECONDS 0.05
enum { LEAST_BATCH = 16 }; /* two rounds of the batch kernels: fewer would not pay */

wisp_status wisp_gpu_run(gpu_timeline *t, wvk_commands *commands) {
  WISP_GPU_TRY(wvk_submit(t->executor->device, &commands, 1));
  return wisp_gpu_status(wvk_wait(commands, UINT64_MAX));
}

void wisp_gpu_write_step(gpu_timeline *t, uint32_t position, uint32_t count, uint64_t drawn) {
  uint32_t *step = wvk_buffer_map(t->step);
  step[WISP_STEP_POSITION] = position;
  step[WISP_STEP_COUNT] = count;
  if (t->base.sampler) {
    const wisp_draw_rule *rule = &t->base.sampler->rule;
    const uint64_t seed = t->base.sampler->params.seed;
    step[WISP_STEP_DRAWN] = (uint32_t)drawn;
    step[WISP_STEP_DRAWN + 1] = (uint32_t)(drawn >> 32);
    step[WISP_STEP_SEED] = (uint32_t)seed;
    step[WISP_STEP_SEED + 1] = (uint32_t)(seed >> 32);
    memcpy(&step[WISP_STEP_SCALE], &rule->scale, sizeof rule->scale);
    step[WISP_STEP_TOP_K] = rule->top_k;
    step[WISP_STEP_TOP_P] = rule->top_p;
    step[WISP_STEP_FARTHEST] = rule->farthest;
  }
  wvk_buffer_flush(t->step, 0, WISP_STEP_WORDS * 4);
}

static void read_logits(gpu_timeline *t, uint32_t columns, float *logits) {
  const uint64_t bytes = (uint64_t)columns * t->context.model->vocabulary * sizeof(float);
  wvk_buffer_invalidate(t->readback, 0, bytes);
  memcpy(logits, wvk_buffer_map(t->readback), bytes);
}

/* All-position logits are asked for by tools only: their room is made when first needed. */
static wisp_status grow_readback(gpu_timeline *t, uint32_t columns) {
  if (columns <= t->readback_columns) return WISP_OK;
  wvk_buffer *buffer;
  bool batch_head;
  WISP_TRY(wisp_gpu_build_batch_head(t->executor, &t->context, &batch_head));
  t->head_columns = batch_head ? t->context.activations.logit_columns : 1;
  WISP_GPU_TRY(wvk_buffer_create(&buffer, t->executor->device, "logits", (uint64_t)columns * t->context.model->vocabulary * 4,
                                 WVK_MEMORY_READBACK));
  wvk_buffer_destroy(&t->readback);
  t->readback = buffer;
  t->readback_columns = columns;
  t->batch_columns = 0; /* it may copy to the old one */
  WISP_GPU_TRY(wvk_commands_begin(t->read_logits));
  copy_logits(t, t->read_logits, 1, 0);
  return wisp_gpu_status(wvk_commands_end(t->read_logits));
}

static wisp_status append_batch(gpu_timeline *t, const int32_t *ids, uint32_t count, wisp_gpu_outcome wanted) {
  const uint32_t position = t->base.length;
  uint32_t *tokens = wvk_buffer_map(t->tokens);
  for (uint32_t i = 0; i < count; i++) tokens[position + i] = (uint32_t)ids[i];
  wvk_buffer_flush(t->tokens, position * 4ull, count * 4ull);
  wisp_gpu_write_step(t, position, count, t->base.sampler ? t->base.sampler->drawn : 0);
  if (count == 1 && wanted == WISP_GPU_NEXT) {
    WISP_TRY(wisp_gpu_decode_step(t));
  } else {
    if (t->batch_columns != count || t->batch_outcome != wanted) {
      t->batch_columns = 0;
      WISP_GPU_TRY(wvk_commands_begin(t->batch));
      WISP_TRY(wisp_gpu_record_pass(t, t->batch, count, wanted));
      WISP_GPU_TRY(wvk_commands_end(t->batch));
      t->batch_columns = count;
      t->batch_outcome = wanted;
    }
    WISP_TRY(wisp_gpu_run(t, t->batch));
  }
  t->base.length += count;
  return WISP_OK;
}

/* Tokens of the next batch: as many as the device takes at a time, and on phones, where a long submit is killed or stops the
 * display, as many as take SUBMIT_SECONDS by the measure of the batch before. */
static uint32_t prompt_batch(const gpu_timeline *t, bool all) {
  const uint32_t limit = t->batch_limit, most = all && limit > WISP_GPU_LOGIT_COLUMNS ? WISP_GPU_LOGIT_COLUMNS : limit;
  const wvk_kind kind = wvk_device_caps(t->executor->device)->kind;
  if (kind == WVK_KIND_DISCRETE || kind == WVK_KIND_SOFTWARE || most < LEAST_BATCH) return most;
  if (t->prompt_seconds <= 0) return LEAST_BATCH;
  const double wanted = SUBMIT_SECONDS / t->prompt_seconds;
  return wanted >= most ? most : wanted < LEAST_BATCH ? LEAST_BATCH : (uint32_t)wanted / LEAST_BATCH * LEAST_BATCH;
}

wisp_status wisp_gpu_append(wisp_timeline *timeline, const int32_t *ids, size_t count, wisp_logits which, float *logits) {
  gpu_timeline *t = (gpu_timeline *)timeline;
  const bool all = which == WISP_LOGITS_ALL;
  WISP_TRY(wisp_gpu_decode_settle(t));
  WISP_TRY(wisp_gpu_decode_prepare(t));
  t->ahead = false;
  if (all) WISP_TRY(grow_readback(t, WISP_GPU_LOGIT_COLUMNS));
  for (size_t done = 0; done < count;) {
    if (timeline->cancel && *timeline->cancel) return WISP_ERROR_CANCELLED;
    const uint32_t most = prompt_batch(t, all), batch = count - done < most ? (uint32_t)(count - done) : most;
    const bool last = done + batch == count;
    const double start = wisp_now_s();
    WISP_TRY(append_batch(t, ids + done, batch, all ? WISP_GPU_EVERY : last ? WISP_GPU_NEXT : WISP_GPU_FILL));
    t->prompt_seconds = (wisp_now_s() - start) / batch;
    if (all) read_logits(t, batch, logits + done * t->context.model->vocabulary);
    done += batch;
    if (timeline->progress) timeline->progress(timeline->progress_user, timeline->length);
  }
  return which == WISP_LOGITS_LAST ? wisp_gpu_last_logits(timeline, logits) : WISP_OK;
}

wisp_status wisp_gpu_last_logits(wisp_timeline *timeline, float *logits) {
  gpu_timeline *t = (gpu_timeline *)timeline;
  WISP_TRY(wisp_gpu_decode_settle(t));
  if (t->ahead) WISP_TRY(wisp_gpu_decode_go_back(t));
  WISP_TRY(wisp_gpu_run(t, t->read_logits));
  read_logits(t, 1, logits);
  return WISP_OK;
}

static int compare_doubles(const void *a, const void *b) {
  const double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

/* One token with a timestamp after each op. */
static wisp_status record_timed(gpu_timeline *t, wvk_commands *commands) {
  const wisp_plan *plan = t->executor->plan;
  WISP_GPU_TRY(wvk_commands_begin(commands));
  wvk_cmd_timestamp(commands, 0);
  for (uint32_t i = 0; i < plan->op_count; i++) {
    WISP_TRY(wisp_gpu_record_op(t, commands, &plan->ops[i], 0, 1));
    wvk_cmd_timestamp(commands, i + 1);
  }
  return wisp_gpu_status(wvk_commands_end(commands));
}

static wisp_status time_tokens(gpu_timeline *t, wvk_commands *commands, uint32_t tokens, double *times, double *op_ns) {
  const uint32_t ops = t->executor->plan->op_count, slots = ops + 1;
  WISP_TRY(record_timed(t, commands));
  for (uint32_t i = 0; i < tokens; i++) {
    WISP_TRY(wisp_gpu_run(t, commands));
    t->base.length++;
    if (!wvk_commands_times(commands, times + (size_t)i * slots))
      return wisp_fail(t->executor->host, WISP_ERROR_UNSUPPORTED, "%s has no timestamps",
                       wvk_device_caps(t->executor->device)->name);
  }
  double *samples = times + (size_t)tokens * slots;
  for (uint32_t op = 0; op < ops; op++) {
    for (uint32_t i = 0; i < tokens; i++) samples[i] = times[(size_t)i * slots + op + 1] - times[(size_t)i * slots + op];
    qsort(samples, tokens, sizeof *samples, compare_doubles);
    op_ns[op] = samples[tokens / 2];
  }
  return WISP_OK;
}

wisp_status wisp_gpu_profile(wisp_timeline *timeline, uint32_t tokens, double *op_ns) {
  gpu_timeline *t = (gpu_timeline *)timeline;
  const uint32_t slots = t->executor->plan->op_count + 1;
  wvk_commands *commands;
  WISP_TRY(wisp_gpu_decode_settle(t));
  double *times = wisp_host_alloc(t->executor->host, (size_t)tokens * (slots + 1), sizeof *times);
  if (!times) return wisp_fail_memory(t->executor->host, "timestamps", (uint64_t)tokens * slots * sizeof *times);
  wisp_status status = wisp_gpu_status(wvk_commands_create(&commands, t->executor->device, slots));
  if (status == WISP_OK) status = time_tokens(t, commands, tokens, times, op_ns);
  wvk_commands_destroy(&commands);
  wisp_host_free(t->executor->host, times);
  return status;
}

void wisp_gpu_truncate(wisp_timeline *timeline, uint32_t length) {
  /* A device that fails here fails again when it is next asked. */
  (void)wisp_gpu_decode_settle((gpu_timeline *)timeline);
  timeline->length = length;
}
