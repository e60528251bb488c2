/* SPDX-License-Identifier: Apache-2.0 */
#include "bed.h"

#include <string.h>

#include "gpu/executor.h"
#include "gpu/pipelines.h"

enum { GAP = 68 }; /* floats between two arrays of activations: not what the executor would choose */

static uint64_t round_up(uint64_t value, uint64_t to) {
  return (value + to - 1) / to * to;
}

static const size_t optional_features[] = {
    offsetof(wvk_caps, subgroup_shuffle), offsetof(wvk_caps, float16),
    offsetof(wvk_caps, storage16),        offsetof(wvk_caps, int8),
    offsetof(wvk_caps, storage8),         offsetof(wvk_caps, int_dot),
    offsetof(wvk_caps, memory_model),     offsetof(wvk_caps, cooperative_matrix),
};
enum { FEATURES = sizeof optional_features / sizeof *optional_features };
enum { LARGE = 5 + FEATURES, HALVES = LARGE + 2 }; /* the first mode of large batches, of f16 arithmetic */
_Static_assert(BED_MODES == HALVES + 2,
               "as the device is, three kinds, one for each feature, one without any, two of batches, two of f16");

/* All other fields of wisp_activations are places of arrays, in their order. */
static const size_t figures[] = {offsetof(wisp_activations, columns), offsetof(wisp_activations, split_columns),
                                 offsetof(wisp_activations, logit_columns), offsetof(wisp_activations, logit_stride),
                                 offsetof(wisp_activations, candidate_stride)};

static bool is_figure(size_t field) {
  for (size_t i = 0; i < sizeof figures / sizeof *figures; i++)
    if (figures[i] == field) return true;
  return false;
}

/* Moves the arrays apart, so that a write or read past the end of one meets poison, and to the same places in all modes, so
 * that kernels differ only where they must. */
static void spread(bed *b) {
  uint32_t gap = 0;
  for (size_t field = 0; field < sizeof(wisp_activations); field += sizeof(uint32_t)) {
    uint32_t furthest = 0;
    if (is_figure(field)) continue;
    for (uint32_t mode = 0; mode < BED_MODES; mode++) {
      const uint32_t at = *(uint32_t *)(void *)((char *)&b->modes[mode].activations + field);
      if (at > furthest) furthest = at;
    }
    gap += GAP;
    for (uint32_t mode = 0; mode < BED_MODES; mode++)
      *(uint32_t *)(void *)((char *)&b->modes[mode].activations + field) = furthest + gap;
  }
}

/* Limits under which the vocabulary takes three windows and every window a buffer of its own; the blocks must still fit. */
static wisp_status lower_limits(bed *b, wvk_caps *caps) {
  wisp_weights plan;
  WISP_TRY(wisp_weights_plan(&plan, b->host, caps, &b->model));
  uint64_t limit = 8192 + plan.embedding[0].bytes / 3 + 4096;
  for (uint32_t i = 0; i < b->model.weight_blocks; i++)
    if (plan.blocks[i].bytes > limit) limit = plan.blocks[i].bytes;
  caps->max_storage_range = caps->max_allocation = limit;
  wisp_weights_close(&plan);
  return WISP_OK;
}

static wisp_status create_buffers(bed *b, bool mapped) {
  const wvk_caps *caps = wvk_device_caps(b->device);
  const uint64_t alignment = caps->storage_alignment > 256 ? caps->storage_alignment : 256;
  const uint32_t context = b->shape->context;
  b->slot_bytes = round_up(wisp_plan_kv_row_bytes(&b->plan, b->shape->kv) * context, alignment);
  const uint64_t bytes[BED_BUFFERS] = {
      [BED_DATA] = (b->modes[0].activations.rope + (uint64_t)context * wisp_rope_tables(&b->model) * b->model.head_size + GAP) *
                   sizeof(float),
      [BED_KV] = b->slot_bytes * b->plan.kv_slots,
      [BED_STEP] = WISP_STEP_WORDS * 4,
      [BED_TOKENS] = (context + 1ull) * 4,
  };
  for (int i = 0; i < BED_BUFFERS; i++) {
    const wvk_memory memory = mapped || i >= BED_STEP ? WVK_MEMORY_READBACK : WVK_MEMORY_DEVICE;
    WISP_GPU_TRY(wvk_buffer_create(&b->buffers[i], b->device, "checked", bytes[i], memory));
    b->words[i] = wvk_buffer_size(b->buffers[i]) / 4;
    b->before[i] = mapped ? wisp_host_alloc(b->host, b->words[i], 4) : NULL;
    if (mapped && !b->before[i]) return wisp_fail_memory(b->host, "buffer contents", bytes[i]);
  }
  return WISP_OK;
}

static wisp_status create_sets(bed *b) {
  b->sets = wisp_host_alloc(b->host, b->weights.buffer_count, sizeof *b->sets);
  if (!b->sets) return wisp_fail_memory(b->host, "sets", b->weights.buffer_count * sizeof *b->sets);
  for (uint32_t i = 0; i < b->weights.buffer_count; i++) {
    const wvk_binding weights = {b->weights.buffers[i], 0, b->weights.ranges[i]}, kv = {b->buffers[BED_KV], 0, b->slot_bytes};
    const wvk_binding data = {b->buffers[BED_DATA], 0, wvk_buffer_size(b->buffers[BED_DATA])};
    const wvk_binding bindings[WISP_BINDINGS] = {
        [WISP_BIND_WEIGHTS_VEC4] = weights,
        [WISP_BIND_WEIGHTS_WORD] = weights,
        [WISP_BIND_KV_VEC4] = kv,
        [WISP_BIND_KV_WORD] = kv,
        [WISP_BIND_DATA_VEC4] = data,
        [WISP_BIND_DATA] = data,
        [WISP_BIND_STEP] = {b->buffers[BED_STEP], 0, wvk_buffer_size(b->buffers[BED_STEP])},
        [WISP_BIND_TOKENS] = {b->buffers[BED_TOKENS], 0, wvk_buffer_size(b->buffers[BED_TOKENS])},
    };
    WISP_GPU_TRY(wvk_set_create(&b->sets[i], b->layout, bindings));
  }
  return WISP_OK;
}

static wvk_caps believed(const wvk_caps *caps, uint32_t mode) {
  wvk_caps result = *caps;
  if (mode == 1 || (mode >= LARGE && mode < HALVES)) result.kind = WVK_KIND_DISCRETE;
  if (mode == HALVES + 1) result.subgroup_shuffle = false;
  if (mode == 2 || mode >= HALVES) result.kind = WVK_KIND_INTEGRATED;
  if (mode == 3) result.kind = WVK_KIND_SOFTWARE;
  for (uint32_t f = 0; f < FEATURES; f++)
    if (mode == 4 + f || mode == 4 + FEATURES) *(bool *)((char *)&result + optional_features[f]) = false;
  return result;
}

static wisp_status open_bed(bed *b, uint32_t blocks, bool mapped, uint64_t *random) {
  WISP_TRY(shape_model(&b->model, b->host, b->shape, blocks, random));
  WISP_TRY(wisp_kernels_check(b->host, &b->model));
  WISP_TRY(wisp_plan_create(&b->plan, b->host, &b->model));
  for (uint32_t i = 0; i < BED_MODES; i++) b->caps[i] = believed(wvk_device_caps(b->device), i);
  wvk_caps limits = b->caps[0];
  if (b->shape->split) WISP_TRY(lower_limits(b, &limits));
  WISP_TRY(wisp_weights_plan(&b->weights, b->host, &limits, &b->model));
  wisp_crew crew;
  wisp_crew_open(&crew);
  const wisp_status uploaded = wisp_weights_upload(&b->weights, b->device, &b->model, &crew, 2, NULL, NULL);
  wisp_crew_close(&crew);
  wisp_weights_free_staging(&b->weights);
  WISP_TRY(uploaded);
  for (uint32_t i = 0; i < BED_MODES; i++) {
    b->modes[i] = (wisp_kernel_context){
        .model = &b->model, .weights = &b->weights, .caps = &b->caps[i], .kv_type = b->shape->kv};
    if (i >= HALVES) b->modes[i].choice.knobs[WISP_KNOB_ARITHMETIC] = WISP_ARITHMETIC_F16;
    wisp_activations_plan(&b->modes[i], b->shape->columns > 64 ? b->shape->columns : 64);
    /* Tiles are chosen by what a batch could be: all of the largest size, and some of each. */
    if (i >= LARGE && i < HALVES) b->modes[i].activations.columns = i == LARGE ? 1 << 20 : 2048;
  }
  spread(b);
  WISP_GPU_TRY(wvk_layout_create(&b->layout, b->device, WISP_BINDINGS, WISP_DYNAMIC_MASK, WISP_PUSH_BYTES));
  WISP_TRY(create_buffers(b, mapped));
  WISP_TRY(create_sets(b));
  return wisp_gpu_status(wvk_commands_create(&b->commands, b->device, 2));
}

wisp_status bed_open(bed *b, const wisp_host *host, wvk_device *device, const shape *s, uint32_t blocks, bool mapped,
                     uint64_t *random) {
  *b = (bed){.host = host, .device = device, .shape = s};
  const wisp_status status = open_bed(b, blocks, mapped, random);
  if (status != WISP_OK) bed_close(b);
  return status;
}

void bed_close(bed *b) {
  if (!b->host) return;
  wvk_commands_destroy(&b->commands);
  for (uint32_t i = 0; i < b->kernel_count; i++) wvk_pipeline_destroy(&b->pipelines[i]);
  for (uint32_t i = 0; b->sets && i < b->weights.buffer_count; i++) wvk_set_destroy(&b->sets[i]);
  wisp_host_free(b->host, b->sets);
  for (int i = 0; i < BED_BUFFERS; i++) {
    wvk_buffer_destroy(&b->buffers[i]);
    wisp_host_free(b->host, b->before[i]);
  }
  wvk_layout_destroy(&b->layout);
  if (b->weights.host) wisp_weights_close(&b->weights);
  if (b->plan.host) wisp_plan_close(&b->plan);
  if (b->model.host) wisp_model_close(&b->model);
  *b = (bed){0};
}

const wisp_op *bed_op(const bed *b, wisp_op_kind kind) {
  const wisp_op *op = &b->plan.ops[b->plan.op_count - 1];
  while (op->kind != kind) op--;
  return op;
}

static int32_t find_kernel(const bed *b, const wisp_kernel *kernel) {
  for (uint32_t i = 0; i < b->kernel_count; i++)
    if (wisp_kernel_equal(&b->kernels[i], kernel)) return (int32_t)i;
  return -1;
}

int32_t bed_kernel(const bed *b, const bed_run *run, uint32_t part) {
  const wisp_kernel_call call = wisp_kernel_for(&b->modes[run->mode], run->op, part, run->batch);
  return find_kernel(b, &call.kernel);
}

static bool same_kernels(const bed *b, const bed_run *run, const bed_run *other) {
  const uint32_t parts = wisp_kernel_parts(&b->modes[run->mode], run->op, run->batch);
  if (parts != wisp_kernel_parts(&b->modes[other->mode], run->op, run->batch)) return false;
  for (uint32_t part = 0; part < parts; part++)
    if (bed_kernel(b, run, part) != bed_kernel(b, other, part)) return false;
  return true;
}

bool bed_is_new(const bed *b, const bed_run *run, bool *refused) {
  for (bed_run lower = *run; lower.mode-- > 0;)
    if (same_kernels(b, run, &lower)) return false;
  for (uint32_t part = 0; part < wisp_kernel_parts(&b->modes[run->mode], run->op, run->batch); part++) {
    const int32_t kernel = bed_kernel(b, run, part);
    if (kernel < 0) return false;
    if (!b->pipelines[kernel]) *refused = true;
  }
  return true;
}

static void collect(bed *b, uint32_t mode, const wisp_op *op, bed_wanted *wanted, const void *user) {
  if (!shape_has(b->shape, op->kind)) return;
  for (int batch = 0; batch < 2; batch++)
    for (uint32_t part = 0; part < wisp_kernel_parts(&b->modes[mode], op, batch); part++) {
      const wisp_kernel kernel = wisp_kernel_for(&b->modes[mode], op, part, batch).kernel;
      if (wanted(user, kernel.shader, op->kind) && find_kernel(b, &kernel) < 0 && b->kernel_count < BED_KERNELS)
        b->kernels[b->kernel_count++] = kernel;
    }
}

wisp_status bed_build(bed *b, bed_wanted *wanted, const void *user) {
  for (uint32_t mode = 0; mode < BED_MODES; mode++)
    for (int kind = WISP_OP_EMBED; kind <= WISP_OP_SAMPLE; kind++)
      collect(b, mode, bed_op(b, (wisp_op_kind)kind), wanted, user);
  if (b->kernel_count == BED_KERNELS) return wisp_fail(b->host, WISP_ERROR_UNSUPPORTED, "over %d kernels", BED_KERNELS - 1);
  wvk_pipeline_params params[BED_KERNELS];
  wvk_status results[BED_KERNELS];
  for (uint32_t i = 0; i < b->kernel_count; i++) {
    const wisp_shader *shader = b->kernels[i].shader;
    params[i] = (wvk_pipeline_params){.name = shader->name,
                                      .spirv = shader->spirv,
                                      .spirv_bytes = shader->bytes,
                                      .constants = b->kernels[i].constants,
                                      .constant_count = WISP_C_COUNT,
                                      .subgroup_size = b->kernels[i].subgroup_size};
  }
  wisp_crew crew;
  wisp_crew_open(&crew);
  const wvk_status status = wisp_pipelines_create(&crew, 4, b->pipelines, results, b->layout, params, b->kernel_count);
  wisp_crew_close(&crew);
  return status == WVK_ERROR_DRIVER ? WISP_OK : wisp_gpu_status(status);
}

void bed_record(bed *b, const bed_run *run) {
  const uint32_t push[WISP_PUSH_BYTES / 4] = {run->first}, kv = (uint32_t)(run->op->kv_slot * b->slot_bytes);
  for (uint32_t part = 0; part < wisp_kernel_parts(&b->modes[run->mode], run->op, run->batch); part++) {
    const wisp_kernel_call call = wisp_kernel_for(&b->modes[run->mode], run->op, part, run->batch);
    if (part) wvk_cmd_barrier(b->commands);
    const uint32_t weights = call.window ? (uint32_t)call.window->offset : 0, offsets[] = {weights, weights, kv, kv};
    wvk_cmd_bind_pipeline(b->commands, b->pipelines[find_kernel(b, &call.kernel)]);
    wvk_cmd_bind_set(b->commands, b->sets[call.window ? call.window->buffer : 0], offsets);
    wvk_cmd_push(b->commands, b->layout, push, sizeof push);
    wvk_cmd_dispatch(b->commands, call.groups_x, wisp_kernel_groups_y(&call, run->columns), 1);
  }
}

wisp_status bed_go(bed *b, const bed_run *run) {
  for (int i = 0; i < BED_BUFFERS; i++) {
    memcpy(wvk_buffer_map(b->buffers[i]), b->before[i], b->words[i] * 4);
    wvk_buffer_flush(b->buffers[i], 0, b->words[i] * 4);
  }
  WISP_GPU_TRY(wvk_commands_begin(b->commands));
  bed_record(b, run);
  WISP_GPU_TRY(wvk_commands_end(b->commands));
  WISP_GPU_TRY(wvk_submit(b->device, &b->commands, 1));
  WISP_GPU_TRY(wvk_wait(b->commands, UINT64_MAX));
  for (int i = 0; i < BED_BUFFERS; i++) wvk_buffer_invalidate(b->buffers[i], 0, b->words[i] * 4);
  return WISP_OK;
}

const uint32_t *bed_after(const bed *b, bed_buffer buffer) {
  return wvk_buffer_map(b->buffers[buffer]);
}

static wisp_status read_buffer(bed *b, wvk_buffer *from, uint8_t *to) {
  const uint64_t size = wvk_buffer_size(from);
  wvk_buffer *readback;
  WISP_GPU_TRY(wvk_buffer_create(&readback, b->device, "readback", size, WVK_MEMORY_READBACK));
  wvk_status status = wvk_commands_begin(b->commands);
  if (status == WVK_OK) {
    wvk_cmd_copy(b->commands, from, 0, readback, 0, size);
    status = wvk_commands_end(b->commands);
  }
  if (status == WVK_OK) status = wvk_submit(b->device, &b->commands, 1);
  if (status == WVK_OK) status = wvk_wait(b->commands, UINT64_MAX);
  wvk_buffer_invalidate(readback, 0, size);
  memcpy(to, wvk_buffer_map(readback), size);
  wvk_buffer_destroy(&readback);
  return wisp_gpu_status(status);
}

uint8_t *bed_read_weights(bed *b, size_t *size) {
  *size = 0;
  for (uint32_t i = 0; i < b->weights.buffer_count; i++) *size += wvk_buffer_size(b->weights.buffers[i]);
  uint8_t *bytes = wisp_host_alloc(b->host, 1, *size), *next = bytes;
  for (uint32_t i = 0; bytes && i < b->weights.buffer_count; i++) {
    if (read_buffer(b, b->weights.buffers[i], next) != WISP_OK) {
      wisp_host_free(b->host, bytes);
      return NULL;
    }
    next += wvk_buffer_size(b->weights.buffers[i]);
  }
  return bytes;
}
