/* SPDX-License-Identifier: Apache-2.0
 * Weights and pipelines on a Vulkan device. */
#include "gpu/executor.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "cpu/cpu.h"
#include "gpu/batch_kernels.h"
#include "gpu/tune.h"

wisp_status wisp_gpu_status(wvk_status status) {
  switch (status) {
  case WVK_OK:
    return WISP_OK;
  case WVK_ERROR_MEMORY:
    return WISP_ERROR_MEMORY;
  case WVK_ERROR_NO_DEVICE:
  case WVK_ERROR_DRIVER:
  case WVK_ERROR_LOST:
  case WVK_TIMEOUT:
    break;
  }
  return WISP_ERROR_DEVICE;
}

static void forward_log(void *user, wvk_log_level level, const char *text) {
  const wisp_host *host = user;
  if (host->log) host->log(host->log_user, (wisp_log_level)level, text);
}

wvk_host wisp_gpu_host(const wisp_host *host) {
  return (wvk_host){forward_log, (void *)host, host->reallocate, host->memory_user};
}

uint32_t wisp_gpu_threads(void) {
  const uint32_t count = wisp_cpu_cores();
  return count < WISP_CREW_MAX ? count : WISP_CREW_MAX;
}

/* ---- Cache ---- */

static void load_cache(gpu_executor *e) {
  const wisp_cache *cache = &e->cache;
  char key[64];
  if (!cache->get) return;
  wvk_cache_key(e->device, key);
  const size_t size = cache->get(cache->user, key, NULL, 0);
  void *data = size ? wisp_host_alloc(e->host, 1, size) : NULL;
  if (data && cache->get(cache->user, key, data, size) == size) wvk_cache_load(e->device, data, size);
  wisp_host_free(e->host, data);
}

/* What was built and checked since the last time. */
static void save_cache(gpu_executor *e) {
  const wisp_cache *cache = &e->cache;
  const uint32_t built = wvk_device_counters(e->device).pipelines_built;
  char key[64];
  size_t size = 0;
  wisp_trust_save(&e->trust, cache, e->device);
  wisp_tune_save(e);
  if (!cache->put || built == e->saved) return;
  e->saved = built;
  wvk_cache_key(e->device, key);
  if (wvk_cache_save(e->device, NULL, &size) != WVK_OK) return;
  void *data = wisp_host_alloc(e->host, 1, size);
  if (data && wvk_cache_save(e->device, data, &size) == WVK_OK) cache->put(cache->user, key, data, size);
  wisp_host_free(e->host, data);
}

/* ---- Executor ---- */

/* Up to `most` positive numbers with x between them. */
static bool are_numbers(const char *text, int most) {
  for (int i = 0; i < most; i++) {
    char *end;
    if (*text < '0' || *text > '9' || !strtoul(text, &end, 10)) return false;
    if (!*end) return true;
    if (*end != 'x') return false;
    text = end + 1;
  }
  return false;
}

/* They are read in other places, which take them for granted. */
static wisp_status check_environment(const wisp_host *host) {
  static const struct {
    const char *name;
    bool is_switch; /* 0 or 1 */
    int numbers;
    const char *takes;
  } variables[] = {{"WISP_FUSED", true, 0, "0 or 1"},
                   {"WISP_PERSISTENT", true, 3, "0, 1, GROUPSxLOCAL or GROUPSxLOCALxSPLIT"},
                   {"WISP_BATCH", false, 1, "a number of tokens"}};
  for (size_t i = 0; i < sizeof variables / sizeof *variables; i++) {
    const char *text = getenv(variables[i].name);
    if (!text || !*text || (variables[i].is_switch && (!strcmp(text, "0") || !strcmp(text, "1")))) continue;
    if (!are_numbers(text, variables[i].numbers))
      return wisp_fail(host, WISP_ERROR_ARGUMENT, "%s=%.80s is not understood: %s", variables[i].name, text,
                       variables[i].takes);
  }
  return WISP_OK;
}

/* Of all kernels that the self-test judges. */
static uint64_t kernels_hash(const gpu_executor *e) {
  wisp_hash hash;
  wisp_hash_begin(&hash);
  for (uint32_t i = 0; i < e->pipeline_count; i++)
    wisp_trust_hash_kernel(&hash, e->kernels[i].shader, e->kernels[i].constants, WISP_C_COUNT, e->kernels[i].subgroup_size);
  return wisp_hash_end(&hash);
}

static wisp_status check_kernels(gpu_executor *e) {
  const double begin = wisp_now_s();
  const uint64_t check = kernels_hash(e);
  const uint32_t refused = e->context.refused;
  const bool fused = e->context.fused;
  if (getenv("WISP_SHADER_DIR") == NULL && wisp_trust_has(&e->trust, check)) return WISP_OK;
  WISP_TRY(wisp_gpu_selftest(e));
  if (fused) WISP_TRY(wisp_gpu_check_fused(e));
  if (e->context.refused == refused && e->context.fused == fused)
    wisp_trust_add(&e->trust, check); /* a variant that was wrong is to be named each time */
  wisp_startup_add(e->startup, "self-test", begin, wisp_now_s());
  return WISP_OK;
}

static wisp_status open_device(gpu_executor *e, const wisp_executor_params *params) {
  if (params->opening) {
    e->opening = *params->opening;
    *params->opening = NULL;
  }
  if (!e->opening) e->opening = wisp_gpu_open(e->host, params->device_index, params->validate, e->startup);
  if (!e->opening) return WISP_ERROR_MEMORY;
  if (!e->compile_only) wisp_weights_touch(e->plan->model, e->opening);
  return wisp_gpu_status(wisp_gpu_open_wait(e->opening, &e->device));
}

static wisp_status build(gpu_executor *e) {
  bool built;
  const wvk_caps *caps = wvk_device_caps(e->device);
  const double begin = wisp_now_s();
  WISP_GPU_TRY(wvk_layout_create(&e->layout, e->device,
                                 caps->storage_buffers < WISP_FUSED_BINDINGS ? WISP_BINDINGS : WISP_FUSED_BINDINGS,
                                 WISP_DYNAMIC_MASK, WISP_PUSH_BYTES));
  const double laid_out = wisp_now_s(); /* a driver may load its compiler here */
  wisp_startup_add(e->startup, "layout", begin, laid_out);
  load_cache(e);
  wisp_trust_load(&e->trust, &e->cache, e->device);
  const double middle = wisp_now_s();
  wisp_startup_add(e->startup, "pipeline cache", laid_out, middle);
  WISP_TRY(wisp_tune_open(e));
  WISP_TRY(wisp_persistent_open(e));
  WISP_TRY(wisp_gpu_build_pipelines(e, e->plan->kv_type));
  if (e->compile_only) WISP_TRY(wisp_gpu_build_batch_head(e, &e->context, &built));
  wisp_startup_add(e->startup, "pipelines", middle, wisp_now_s());
  return WISP_OK;
}

/* Pipelines need to know where weights will lie, not that they are there. */
static void build_beside(void *argument) {
  gpu_executor *e = argument;
  e->built = build(e);
}

static wisp_status upload(gpu_executor *e, const wisp_executor_params *params) {
  const double begin = wisp_now_s();
  if (e->compile_only) return WISP_OK;
  WISP_TRY(wisp_weights_upload(&e->weights, e->device, e->plan->model, &e->uploaders, wisp_gpu_threads(), params->progress,
                               params->progress_user));
  wisp_startup_add(e->startup, "upload", begin, wisp_now_s());
  return WISP_OK;
}

static void free_staging(void *argument) {
  wisp_weights_free_staging(&((gpu_executor *)argument)->weights);
}

static wisp_status build_and_upload(gpu_executor *e, const wisp_executor_params *params) {
  const bool beside = wisp_crew_begin(&e->beside, build_beside, e);
  const wisp_status status = upload(e, params);
  if (!beside) build_beside(e);
  wisp_crew_wait(&e->beside);
  if (status == WISP_OK && !wisp_crew_begin(&e->beside, free_staging, e)) free_staging(e);
  return status != WISP_OK ? status : e->built;
}

static const char *decode_path(const gpu_executor *e) {
  return wisp_persistent_text(&e->persistent, e->context.fused);
}

static wisp_status open_executor(gpu_executor *e, const wisp_executor_params *params) {
  WISP_TRY(check_environment(e->host));
  WISP_TRY(wisp_kernels_check(e->host, e->plan->model));
  WISP_TRY(open_device(e, params));
  const wvk_caps *caps = wvk_device_caps(e->device);
  WISP_TRY(wisp_weights_plan(&e->weights, e->host, caps, e->plan->model));
  e->context = (wisp_kernel_context){.model = e->plan->model, .weights = &e->weights, .caps = caps};
  wisp_activations_plan(&e->context, wisp_batch_columns(caps));
  WISP_TRY(build_and_upload(e, params));
  if (params->progress) params->progress(params->progress_user, "pipelines", 1.0f);
  if (!e->compile_only) WISP_TRY(check_kernels(e));
  pthread_mutex_lock(&e->mutex);
  e->opened = true;
  pthread_cond_broadcast(&e->changed);
  pthread_mutex_unlock(&e->mutex);
  (e->compile_only ? wisp_persistent_settle : wisp_persistent_expect)(e);
  save_cache(e);
  wisp_log(e->host, WISP_LOG_INFO, "decode: %s", decode_path(e));
  wisp_log(e->host, WISP_LOG_INFO, "vulkan:%u %s, tier %s, %s reductions, %u pipelines, %u of them compiled now",
           wvk_device_index(e->device), caps->name, wvk_caps_tier(caps), caps->subgroup_shuffle ? "subgroup" : "shared-memory",
           e->pipeline_count, wvk_device_counters(e->device).pipelines_built);
  wisp_crew_begin(&e->beside, wisp_tune_in_passing, e); /* where there is no thread, another time */
  return WISP_OK;
}

static void gpu_destroy(wisp_executor *executor) {
  gpu_executor *e = (gpu_executor *)executor;
  pthread_mutex_lock(&e->mutex);
  e->closing = true;
  pthread_cond_broadcast(&e->changed);
  pthread_mutex_unlock(&e->mutex);
  wisp_persistent_settle(e);
  wisp_crew_close(&e->beside);
  if (e->opened) save_cache(e); /* the device is there */
  wisp_persistent_close(e);
  wisp_gpu_drop_pipelines(e, 0);
  wisp_weights_close(&e->weights);
  wvk_layout_destroy(&e->layout);
  wisp_crew_close(&e->builders);
  wisp_crew_close(&e->uploaders);
  wisp_gpu_open_close(&e->opening);
  pthread_cond_destroy(&e->changed);
  pthread_mutex_destroy(&e->mutex);
  wisp_host_free(e->host, e);
}

static wisp_status gpu_create(wisp_executor **executor, const wisp_executor_params *params) {
  *executor = NULL;
  gpu_executor *e = wisp_host_alloc(params->host, 1, sizeof *e);
  if (!e) return wisp_fail_memory(params->host, "GPU executor", sizeof *e);
  e->base.api = &wisp_gpu_executor;
  e->host = params->host;
  e->plan = params->plan;
  e->compile_only = params->compile_only;
  e->cache = params->cache;
  e->startup = params->startup;
  atomic_init(&e->persistent.decode, NULL);
  pthread_mutex_init(&e->mutex, NULL);
  pthread_cond_init(&e->changed, NULL);
  wisp_crew_open(&e->uploaders);
  wisp_crew_open(&e->builders);
  wisp_crew_open(&e->beside);
  const wisp_status status = open_executor(e, params);
  if (status != WISP_OK) {
    gpu_destroy(&e->base);
    return status;
  }
  *executor = &e->base;
  return WISP_OK;
}

static const char *const kinds[] = {
    [WVK_KIND_OTHER] = "other",     [WVK_KIND_INTEGRATED] = "integrated", [WVK_KIND_DISCRETE] = "discrete",
    [WVK_KIND_VIRTUAL] = "virtual", [WVK_KIND_SOFTWARE] = "software",
};

void wisp_gpu_device_info(const wvk_caps *caps, uint32_t index, wisp_device_info *info) {
  *info = (wisp_device_info){.backend = "vulkan",
                             .api_version = caps->api_version,
                             .subgroup_size = caps->subgroup_size,
                             .max_workgroup = caps->max_workgroup,
                             .shared_memory = caps->shared_memory,
                             .max_binding = caps->max_storage_range,
                             .memory = caps->device_heap,
                             .unified_memory = caps->unified_memory,
                             .usable = caps->usable,
                             .float16 = caps->float16,
                             .int8 = caps->int8,
                             .storage16 = caps->storage16,
                             .storage8 = caps->storage8,
                             .subgroup_arithmetic = caps->subgroup_arithmetic,
                             .subgroup_shuffle = caps->subgroup_shuffle,
                             .int_dot = caps->int_dot,
                             .cooperative_matrix = caps->cooperative_matrix,
                             .timeline_semaphore = caps->timeline_semaphore,
                             .timestamps = caps->timestamp_ns > 0,
                             .memory_model = caps->memory_model};
  snprintf(info->selector, sizeof info->selector, "vulkan:%u", index);
  snprintf(info->name, sizeof info->name, "%s", caps->name);
  snprintf(info->driver, sizeof info->driver, "%s", caps->driver);
  snprintf(info->kind, sizeof info->kind, "%s", kinds[caps->kind]);
  snprintf(info->tier, sizeof info->tier, "%s", wvk_caps_tier(caps));
  snprintf(info->why_not, sizeof info->why_not, "%s", caps->why_not);
}

static void gpu_settle(wisp_executor *executor) {
  gpu_executor *e = (gpu_executor *)executor;
  wisp_persistent_settle(e);
  wisp_crew_wait(&e->beside);
}

static void gpu_get_stats(wisp_executor *executor, wisp_engine_stats *stats) {
  const gpu_executor *e = (gpu_executor *)executor;
  const wvk_counters counters = wvk_device_counters(e->device);
  wisp_gpu_device_info(wvk_device_caps(e->device), wvk_device_index(e->device), &stats->device);
  stats->threads = 0;
  stats->decode = decode_path(e);
  stats->driver_ms = counters.instance_ms + counters.list_ms + counters.device_ms;
  stats->device_bytes = counters.allocated_bytes;
  stats->peak_device_bytes = counters.peak_allocated_bytes;
  stats->pipelines_built = counters.pipelines_built;
  stats->descriptor_writes = counters.descriptor_writes;
  stats->allocations = counters.allocations;
  stats->dispatches = counters.dispatches;
  stats->barriers = counters.barriers;
  stats->submits = counters.submits;
}

static const char *const constant_names[WISP_C_COUNT] = {
    "local",
    "slices",
    "cols",
    "rows",
    "tile",
    "x",
    "x_stride",
    "y",
    "y_stride",
    "norm",
    "epsilon",
    "layout0",
    "quants0",
    "scales0",
    "layout1",
    "quants1",
    "scales1",
    "layout2",
    "quants2",
    "scales2",
    "heads",
    "kv_heads",
    "head_size",
    "rope",
    "kv_type",
    "row_begin",
    "candidates",
    "candidate_stride",
    "candidate_begin",
    "scale",
    "subgroups",
    "rope_stride",
    "bias",
    "head_norm",
    "add",
    "gelu",
    "window",
    "round",
    "tile_rows",
    "tile_columns",
    "sub_rows",
    "sub_columns",
    "coop_m",
    "coop_n",
    "coop_k",
    "form",
    "raw_k",
    "staged",
    "splits",
    "split_columns",
    "parts",
    "ahead",
    "down_ahead",
    "out_factor",
    "in_factor",
    "split_from",
    "partials",
    "arrivals",
    "queries",
};

static uint32_t gpu_pipelines(wisp_executor *executor, wisp_pipeline_info *infos, uint32_t capacity) {
  gpu_executor *e = (gpu_executor *)executor;
  pthread_mutex_lock(&e->mutex);
  for (uint32_t i = 0; i < e->pipeline_count && i < capacity; i++) {
    wisp_pipeline_info *info = &infos[i];
    *info = (wisp_pipeline_info){0};
    snprintf(info->name, sizeof info->name, "%s", e->kernels[i].shader->name);
    size_t at = 0;
    for (uint32_t c = 0; c < WISP_C_COUNT && at < sizeof info->constants; c++)
      if (e->kernels[i].constants[c])
        at += (size_t)snprintf(info->constants + at, sizeof info->constants - at, "%s%s=%u", at ? " " : "", constant_names[c],
                               e->kernels[i].constants[c]);
    wvk_pipeline_statistics(e->pipelines[i], info->statistics, sizeof info->statistics);
  }
  uint32_t count = e->pipeline_count;
  for (int kv_f32 = 0; kv_f32 < 2; kv_f32++)
    count += wisp_persistent_pipeline(e, kv_f32, count < capacity ? &infos[count] : NULL);
  pthread_mutex_unlock(&e->mutex);
  return count;
}

static wisp_status time_copies(wvk_commands *commands, wvk_device *device, wvk_buffer *from, wvk_buffer *to, uint64_t size,
                               double *gb_per_s) {
  enum { COPIES = 8 };
  WISP_GPU_TRY(wvk_commands_begin(commands));
  for (int i = 0; i < COPIES; i++) {
    wvk_cmd_copy(commands, from, 0, to, 0, size);
    wvk_cmd_transfer_barrier(commands);
  }
  WISP_GPU_TRY(wvk_commands_end(commands));
  for (int run = 0; run < 3; run++) { /* the first one warms up; the best of the others counts */
    const double start = wisp_now_s();
    WISP_GPU_TRY(wvk_submit(device, &commands, 1));
    WISP_GPU_TRY(wvk_wait(commands, UINT64_MAX));
    const double rate = 2.0 * COPIES * (double)size / (wisp_now_s() - start) / 1e9;
    if (run && rate > *gb_per_s) *gb_per_s = rate;
  }
  return WISP_OK;
}

static wisp_status gpu_copy_bandwidth(wisp_executor *executor, double *gb_per_s) {
  gpu_executor *e = (gpu_executor *)executor;
  const uint64_t size = wvk_device_caps(e->device)->kind == WVK_KIND_DISCRETE ? 128u << 20 : 32u << 20;
  wvk_buffer *from = NULL, *to = NULL;
  wvk_commands *commands = NULL;
  *gb_per_s = 0;
  wvk_status status = wvk_buffer_create(&from, e->device, "copy source", size, WVK_MEMORY_DEVICE);
  if (status == WVK_OK) status = wvk_buffer_create(&to, e->device, "copy target", size, WVK_MEMORY_DEVICE);
  if (status == WVK_OK) status = wvk_commands_create(&commands, e->device, 0);
  wisp_status result = wisp_gpu_status(status);
  if (result == WISP_OK) result = time_copies(commands, e->device, from, to, size, gb_per_s);
  wvk_commands_destroy(&commands);
  wvk_buffer_destroy(&from);
  wvk_buffer_destroy(&to);
  return result;
}

const wisp_executor_api wisp_gpu_executor = {
    .backend = "vulkan",
    .create = gpu_create,
    .destroy = gpu_destroy,
    .timeline_create = wisp_gpu_timeline_create,
    .timeline_destroy = wisp_gpu_timeline_destroy,
    .append = wisp_gpu_append,
    .last_logits = wisp_gpu_last_logits,
    .generate = wisp_gpu_generate,
    .profile = wisp_gpu_profile,
    .truncate = wisp_gpu_truncate,
    .kv_read = wisp_gpu_kv_read,
    .kv_write = wisp_gpu_kv_write,
    .settle = gpu_settle,
    .get_stats = gpu_get_stats,
    .pipelines = gpu_pipelines,
    .copy_bandwidth = gpu_copy_bandwidth,
    .tune = wisp_gpu_tune,
};
