/* SPDX-License-Identifier: Apache-2.0
 * Engine: file -> description -> plan -> executor. */
#include "session/engine.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "cpu/cpu.h"
#include "gpu/gpu.h"
#include "gpu/kernels.h"
#include "session/auto.h"

/* ---- Devices ---- */

wisp_status wisp_devices(const wisp_host *host, wisp_device_info *infos, uint32_t capacity, uint32_t *count) {
  static const wisp_host silent = {0};
  const wisp_host *h = host ? host : &silent;
  const wvk_host vulkan_host = wisp_gpu_host(h);
  *count = 0;
  uint32_t gpus = 0;
  wvk_status status = wvk_enumerate(&vulkan_host, NULL, 0, &gpus);
  if (status != WVK_OK) return wisp_gpu_status(status);
  if (capacity) {
    wvk_caps *caps = wisp_host_alloc(h, gpus + 1, sizeof *caps);
    if (!caps) return wisp_fail_memory(h, "device list", (gpus + 1) * sizeof *caps);
    if (gpus) status = wvk_enumerate(&vulkan_host, caps, gpus, &gpus);
    for (uint32_t i = 0; status == WVK_OK && i < gpus && i < capacity; i++) wisp_gpu_device_info(&caps[i], i, &infos[i]);
    wisp_host_free(h, caps);
    if (status != WVK_OK) return wisp_gpu_status(status);
    if (gpus < capacity) wisp_cpu_device_info(&infos[gpus]);
  }
  *count = gpus + 1;
  return WISP_OK;
}

/* What "cpu", "vulkan" and "vulkan:INDEX" mean. index -1: the best GPU. */
typedef struct choice {
  const wisp_executor_api *api;
  int32_t index;
} choice;

static wisp_status choose_device(const wisp_host *host, const char *device, choice *result) {
  *result = (choice){&wisp_gpu_executor, -1};
  if (!strcmp(device, "cpu")) result->api = &wisp_cpu_executor;
  if (!strcmp(device, "cpu") || !strcmp(device, "vulkan")) return WISP_OK;
  if (!strncmp(device, "vulkan:", 7)) {
    char *end;
    const unsigned long index = strtoul(device + 7, &end, 10);
    if (device[7] >= '0' && device[7] <= '9' && !*end && index < 1000) {
      result->index = (int32_t)index;
      return WISP_OK;
    }
  }
  return wisp_fail(host, WISP_ERROR_ARGUMENT, "unknown device \"%s\": use auto, cpu, vulkan or vulkan:INDEX", device);
}

/* ---- Creation ---- */

wisp_engine_params wisp_engine_params_defaults(void) {
  return (wisp_engine_params){.source = {.fd = -1}, .load = WISP_LOAD_ALL, .device = "auto"};
}

/* Everything but the weights' bytes, from a file that is open. */
static wisp_status read_model(wisp_engine *e, const wisp_engine_params *p) {
  double begin = wisp_now_s();
  WISP_TRY(wisp_tokenizer_create(&e->tokenizer, &e->host, e->file.gguf));
  e->chat = wisp_chat_choose(e->file.gguf);
  wisp_startup_add(&e->startup, "tokenizer", begin, wisp_now_s());
  if (p->load == WISP_LOAD_VOCABULARY) return WISP_OK;
  begin = wisp_now_s();
  WISP_TRY(wisp_model_from_gguf(&e->model, &e->host, e->file.gguf));
  if (e->tokenizer && wisp_tokenizer_vocabulary(e->tokenizer) > e->model.vocabulary)
    return wisp_fail(&e->host, WISP_ERROR_FORMAT, "%s: the tokenizer has %u tokens, token_embd.weight only %u rows",
                     e->file.gguf->name, wisp_tokenizer_vocabulary(e->tokenizer), e->model.vocabulary);
  wisp_startup_add(&e->startup, "description", begin, wisp_now_s());
  return WISP_OK;
}

/* device: what to open meanwhile, once the file is known to be one. */
static wisp_status load(wisp_engine *e, const wisp_engine_params *p, const choice *device, wisp_gpu_opening **opening) {
  const bool early = device->api == &wisp_gpu_executor && p->load >= WISP_LOAD_PIPELINES;
  const double begin = wisp_now_s();
  WISP_TRY(wisp_source_check(&e->host, &p->source));
  if (p->source.synthetic && p->load == WISP_LOAD_VOCABULARY)
    return wisp_fail(&e->host, WISP_ERROR_UNSUPPORTED, "synthetic %s has no tokenizer", p->source.synthetic);
  if (p->source.synthetic) {
    WISP_TRY(
        wisp_model_synthesize(&e->model, &e->host, p->source.synthetic, p->source.synthetic_type, p->source.synthetic_seed));
    wisp_startup_add(&e->startup, "random weights", begin, wisp_now_s());
  } else {
    WISP_TRY(wisp_model_file_open(&e->file, &e->host, &p->source, p->load == WISP_LOAD_VOCABULARY));
    wisp_startup_add(&e->startup, "model file", begin, wisp_now_s());
  }
  if (early && !(*opening = wisp_gpu_open(&e->host, device->index, p->validate, &e->startup))) return WISP_ERROR_MEMORY;
  if (!p->source.synthetic) WISP_TRY(read_model(e, p));
  return p->load == WISP_LOAD_VOCABULARY ? WISP_OK : wisp_plan_create(&e->plan, &e->host, &e->model);
}

static void release_bytes(void *user, const void *data, uint64_t size) {
  const wisp_engine *e = user;
  wisp_model_file_release(&e->file, data, size);
}

static wisp_status initialize(wisp_engine *e, const wisp_engine_params *p, const choice *device, wisp_gpu_opening **opening) {
  const wisp_executor_params params = {.host = &e->host,
                                       .plan = &e->plan,
                                       .device_index = device->index,
                                       .opening = opening,
                                       .threads = p->threads,
                                       .max_context = e->max_context,
                                       .validate = p->validate,
                                       .compile_only = p->load == WISP_LOAD_PIPELINES,
                                       .cache = p->cache,
                                       .startup = &e->startup,
                                       .progress = p->progress,
                                       .progress_user = p->progress_user,
                                       .release = e->file.gguf ? release_bytes : NULL,
                                       .release_user = e};
  if (device->api) return device->api->create(&e->executor, &params);
  WISP_TRY(wisp_auto_create(&e->executor, &params, e->choice));
  wisp_log(&e->host, WISP_LOG_INFO, "auto: %s", e->choice);
  return WISP_OK;
}

wisp_status wisp_engine_check_kv(const wisp_engine *e, wisp_kv_type type) {
  if (type > WISP_KV_Q8_0) return wisp_fail(&e->host, WISP_ERROR_ARGUMENT, "KV cache: there is no type %u", type);
  if (type != WISP_KV_Q8_0 || e->model.head_size % WISP_KV_BLOCK == 0) return WISP_OK;
  return wisp_fail(&e->host, WISP_ERROR_UNSUPPORTED,
                   "%s: a KV cache in q8_0 has blocks of %d, which heads of %u are no multiple of; use f16 (--kv f16)",
                   e->model.name, WISP_KV_BLOCK, e->model.head_size);
}

wisp_status wisp_engine_create(wisp_engine **engine, const wisp_engine_params *params) {
  *engine = NULL;
  wisp_engine *e = wisp_host_alloc(&params->host, 1, sizeof *e);
  if (!e) return wisp_fail_memory(&params->host, "engine", sizeof *e);
  e->host = params->host;
  e->load = params->load;
  wisp_startup_begin(&e->startup, &e->host);
  const double start = 1e3 * wisp_now_s();
  choice device = {NULL, -1}; /* auto */
  wisp_gpu_opening *opening = NULL;
  wisp_status status = WISP_OK;
  if (params->load >= WISP_LOAD_PIPELINES && params->device && strcmp(params->device, "auto") != 0)
    status = choose_device(&e->host, params->device, &device);
  if (status == WISP_OK) status = load(e, params, &device, &opening);
  e->load_ms = 1e3 * wisp_now_s() - start;
  if (status == WISP_OK && params->load != WISP_LOAD_VOCABULARY) status = wisp_engine_check_kv(e, params->kv_type);
  if (status == WISP_OK && params->load != WISP_LOAD_VOCABULARY) {
    e->plan.kv_type = params->kv_type;
    e->max_context = params->max_context ? params->max_context : e->model.context_length;
    if (e->max_context > e->model.context_length && params->load == WISP_LOAD_ALL)
      wisp_log(&e->host, WISP_LOG_WARN, "%s: a context of %u tokens passes the %u that the model is made for", e->model.name,
               e->max_context, e->model.context_length);
  }
  if (status == WISP_OK && params->load >= WISP_LOAD_PIPELINES) status = initialize(e, params, &device, &opening);
  e->init_ms = 1e3 * wisp_now_s() - start - e->load_ms;
  wisp_gpu_open_close(&opening); /* where the load failed; else the executor has it */
  if (status != WISP_OK) {
    wisp_engine_destroy(&e);
    return status;
  }
  *engine = e;
  return WISP_OK;
}

void wisp_engine_destroy(wisp_engine **engine) {
  wisp_engine *e = *engine;
  if (!e) return;
  *engine = NULL;
  if (e->executor) e->executor->api->destroy(e->executor);
  wisp_plan_close(&e->plan);
  wisp_model_close(&e->model);
  wisp_tokenizer_destroy(&e->tokenizer);
  wisp_model_file_close(&e->file, &e->host);
  wisp_startup_end(&e->startup);
  const wisp_host host = e->host;
  wisp_host_free(&host, e);
}

/* ---- What it is ---- */

/* Counts of the Vulkan plan need no device: tier T0's limits stand in for one. */
static void count_kernels(const wisp_engine *e, wisp_model_info *info) {
  const wvk_caps floor = {
      .name = "tier T0", .max_storage_range = 128u << 20, .max_allocation = 1u << 30, .storage_alignment = 256};
  wisp_weights weights;
  if (wisp_weights_plan(&weights, &e->host, &floor, &e->model) != WISP_OK) return;
  wisp_kernel_context context = {.model = &e->model, .weights = &weights, .caps = &floor, .kv_type = e->plan.kv_type};
  wisp_activations_plan(&context, 64);
  wisp_kernel seen[96];
  for (uint32_t i = 0; i < e->plan.op_count; i++) {
    const wisp_op *op = &e->plan.ops[i];
    const uint32_t decode = wisp_kernel_parts(&context, op, false), parts = decode + wisp_kernel_parts(&context, op, true);
    info->dispatches_per_token += decode;
    info->barriers_per_token += decode; /* one behind each */
    for (uint32_t j = 0; j < parts; j++) {
      const bool batch = j >= decode;
      context.draws = batch && op->kind == WISP_OP_SAMPLE; /* which has no batches */
      const wisp_kernel kernel = wisp_kernel_for(&context, op, batch ? j - decode : j, batch).kernel;
      uint32_t k = 0;
      while (k < info->pipelines && !wisp_kernel_equal(&seen[k], &kernel)) k++;
      if (k == info->pipelines && k < 96) seen[info->pipelines++] = kernel;
    }
  }
  wisp_weights_close(&weights);
}

void wisp_engine_model_info(const wisp_engine *engine, wisp_model_info *info) {
  *info = (wisp_model_info){.name = "", .architecture = "", .type = ""};
  const wisp_model *m = &engine->model;
  if (!m->blocks) return; /* vocabulary only */
  *info = (wisp_model_info){.name = m->name,
                            .architecture = m->architecture,
                            .type = wisp_model_type_name(m),
                            .parameters = wisp_model_parameters(m),
                            .executed_blocks = engine->plan.executed_blocks,
                            .weight_blocks = m->weight_blocks,
                            .kv_slots = engine->plan.kv_slots,
                            .width = m->width,
                            .heads = m->heads,
                            .kv_heads = m->kv_heads,
                            .head_size = m->head_size,
                            .ffn_width = m->ffn_width,
                            .vocabulary = m->vocabulary,
                            .context_length = m->context_length,
                            .weight_bytes = wisp_model_weight_bytes(m),
                            .kv_bytes_per_token = wisp_plan_kv_row_bytes(&engine->plan, engine->plan.kv_type) *
                                                  engine->plan.kv_slots,
                            .submits_per_token = 1};
  for (uint32_t i = 0; i < engine->plan.op_count; i++) {
    info->bytes_per_token += wisp_op_bytes(&engine->plan, &engine->plan.ops[i], 1, 0);
    info->flops_per_token += wisp_op_flops(&engine->plan, &engine->plan.ops[i], 1, 0);
  }
  count_kernels(engine, info);
}

uint32_t wisp_engine_plan(const wisp_engine *engine, wisp_phase phase, wisp_op_info *ops, uint32_t capacity) {
  const uint32_t tokens = phase == WISP_PHASE_PREFILL ? 64 : 1;
  for (uint32_t i = 0; i < engine->plan.op_count && i < capacity; i++) {
    const wisp_op *op = &engine->plan.ops[i];
    const uint32_t op_tokens = op->kind == WISP_OP_HEAD ? 1 : tokens;
    ops[i] = (wisp_op_info){.name = wisp_op_name(op->kind),
                            .executed_block = op->executed_block,
                            .weight_block = op->executed_block < 0 ? -1 : (int32_t)op->weight_block,
                            .kv_slot = op->executed_block < 0 ? -1 : (int32_t)op->kv_slot,
                            .type = op->matrix_count ? op->matrices[0]->type->name : "",
                            .bytes = wisp_op_bytes(&engine->plan, op, op_tokens, 0),
                            .flops = wisp_op_flops(&engine->plan, op, op_tokens, 0)};
    for (uint32_t j = 0; j < op->matrix_count; j++) ops[i].rows += op->matrices[j]->rows;
    if (op->matrix_count) ops[i].cols = op->matrices[0]->cols;
  }
  return engine->plan.op_count;
}

uint32_t wisp_engine_pipelines(const wisp_engine *engine, wisp_pipeline_info *infos, uint32_t capacity) {
  return engine->executor ? engine->executor->api->pipelines(engine->executor, infos, capacity) : 0;
}

void wisp_engine_get_stats(const wisp_engine *engine, wisp_engine_stats *stats) {
  *stats = (wisp_engine_stats){
      .choice = engine->choice, .decode = "", .kernels = "", .load_ms = engine->load_ms, .init_ms = engine->init_ms};
  if (engine->executor) engine->executor->api->get_stats(engine->executor, stats);
}

void wisp_engine_settle(wisp_engine *engine) {
  if (engine->executor && engine->executor->api->settle) engine->executor->api->settle(engine->executor);
}

uint32_t wisp_engine_startup(wisp_engine *engine, wisp_startup_step *steps, uint32_t capacity) {
  return wisp_startup_get(&engine->startup, steps, capacity);
}

wisp_tune_params wisp_tune_params_defaults(void) {
  return (wisp_tune_params){.budget_s = 60};
}

wisp_status wisp_engine_tune(wisp_engine *engine, const wisp_tune_params *params, wisp_tune_result *result) {
  *result = (wisp_tune_result){.trials = 0};
  if (!engine->executor) return wisp_fail(&engine->host, WISP_ERROR_ARGUMENT, "the engine was created without a device");
  if (!(params->budget_s > 0)) return wisp_fail(&engine->host, WISP_ERROR_ARGUMENT, "tuning: a budget of 0 seconds");
  if (!engine->executor->api->tune)
    return wisp_fail(&engine->host, WISP_ERROR_UNSUPPORTED, "tuning is for one GPU: use --device vulkan or vulkan:INDEX");
  return engine->executor->api->tune(engine->executor, params, result);
}

wisp_status wisp_engine_copy_bandwidth(wisp_engine *engine, double *gb_per_s) {
  *gb_per_s = 0;
  if (!engine->executor) return wisp_fail(&engine->host, WISP_ERROR_ARGUMENT, "the engine was created without a device");
  return engine->executor->api->copy_bandwidth(engine->executor, gb_per_s);
}

wisp_status wisp_engine_cpu_limits(wisp_engine *engine, wisp_cpu_limits *limits) {
  *limits = (wisp_cpu_limits){0};
  if (!engine->executor) return wisp_fail(&engine->host, WISP_ERROR_ARGUMENT, "the engine was created without a device");
  return engine->executor->api->limits ? engine->executor->api->limits(engine->executor, limits) : WISP_OK;
}

/* ---- Text ---- */

/* For messages. */
static const char *source_name(const wisp_engine *e) {
  return e->file.gguf ? e->file.gguf->name : "a synthetic model";
}

static wisp_status no_tokenizer(const wisp_engine *e) {
  return wisp_fail(&e->host, WISP_ERROR_UNSUPPORTED, "%s has no tokenizer; give token ids", source_name(e));
}

wisp_status wisp_tokenize(const wisp_engine *engine, const char *text, size_t size, unsigned flags, int32_t *ids,
                          size_t capacity, size_t *count) {
  *count = 0;
  if (!engine->tokenizer) return no_tokenizer(engine);
  return wisp_tokenizer_encode(engine->tokenizer, text, size, flags, ids, capacity, count);
}

size_t wisp_token_bytes(const wisp_engine *engine, int32_t id, bool special, char *bytes, size_t capacity) {
  return engine->tokenizer ? wisp_tokenizer_bytes(engine->tokenizer, id, special, bytes, capacity) : 0;
}

wisp_status wisp_detokenize(const wisp_engine *engine, const int32_t *ids, size_t count, bool special, char *text,
                            size_t capacity, size_t *size) {
  *size = 0;
  if (!engine->tokenizer) return no_tokenizer(engine);
  return wisp_tokenizer_decode(engine->tokenizer, ids, count, special, text, capacity, size);
}

bool wisp_token_is_end(const wisp_engine *engine, int32_t id) {
  return engine->tokenizer && wisp_tokenizer_is_end(engine->tokenizer, id);
}

wisp_status wisp_chat_format(const wisp_engine *engine, const wisp_message *messages, size_t count, bool open_reply, char *text,
                             size_t capacity, size_t *size) {
  *size = 0;
  if (!engine->chat)
    return wisp_fail(&engine->host, WISP_ERROR_UNSUPPORTED, "%s has no chat template that Wisp knows; use --raw",
                     source_name(engine));
  return wisp_chat_write(engine->chat, &engine->host, messages, count, open_reply, text, capacity, size);
}

const char *wisp_chat_template(const wisp_engine *engine) {
  return engine->chat ? wisp_chat_name(engine->chat) : NULL;
}
