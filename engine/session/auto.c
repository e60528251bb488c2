/* SPDX-License-Identifier: Apache-2.0 */
#include "session/auto.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/hash.h"
#include "cpu/cpu.h"
#include "gpu/gpu.h"
#include "session/mixed.h"

enum { CPU, GPU, DEVICES };
enum { PROMPT = 32, REPLY_CALLS = 4, REPLY_MOST = 8, CONTEXT = PROMPT + 2 * REPLY_MOST * REPLY_CALLS };

static const wisp_executor_api *const apis[DEVICES] = {&wisp_cpu_executor, &wisp_gpu_executor};
static const char *const names[DEVICES] = {"cpu", "vulkan"};

/* What the cache holds. */
typedef struct choice {
  uint32_t version, prompt, reply;
  double tokens_per_second[DEVICES][2]; /* prompt, reply */
} choice;

enum { VERSION = 1 };

/* ---- Trial ---- */

static wisp_status try_timeline(wisp_timeline *t, uint32_t vocabulary, double rates[2]) {
  const wisp_executor_api *api = t->executor->api;
  int32_t ids[CONTEXT];
  for (uint32_t i = 0; i < PROMPT; i++) ids[i] = (int32_t)((i * 7919ull + 5) % vocabulary);
  const uint32_t prompt = t->context / 2 < PROMPT ? t->context / 2 : PROMPT;
  WISP_TRY(api->append(t, ids, 2 < prompt ? 2 : 1, WISP_LOGITS_NONE, NULL)); /* warms up */
  api->truncate(t, 0);
  const double start = wisp_now_s();
  WISP_TRY(api->append(t, ids, prompt, WISP_LOGITS_NONE, NULL));
  const double middle = wisp_now_s();
  rates[0] = prompt / (middle - start);
  uint32_t all = 0;
  double begin = middle;
  for (uint32_t call = 0; call < REPLY_CALLS && t->length < t->context; call++) {
    uint32_t made;
    const uint32_t room = t->context - t->length, count = room < REPLY_MOST ? room : REPLY_MOST;
    WISP_TRY(api->generate(t, count, ids, &made));
    if (call == 0)
      begin = wisp_now_s(); /* the first tells an executor how long a token takes */
    else
      all += made;
  }
  rates[1] = all / (wisp_now_s() - begin);
  return WISP_OK;
}

static wisp_status try_device(wisp_executor *executor, const wisp_executor_params *params, double rates[2]) {
  wisp_timeline *timeline;
  const uint32_t context = params->max_context < CONTEXT ? params->max_context : CONTEXT;
  WISP_TRY(executor->api->timeline_create(&timeline, executor, context, WISP_KV_F16));
  const wisp_status status = try_timeline(timeline, params->plan->model->vocabulary, rates);
  executor->api->timeline_destroy(timeline);
  return status;
}

static void decide(choice *c) {
  const double(*rates)[2] = (const double(*)[2])c->tokens_per_second;
  c->prompt = rates[GPU][0] > rates[CPU][0] ? GPU : CPU;
  c->reply = rates[GPU][1] > rates[CPU][1] ? GPU : CPU;
  if (c->prompt != c->reply && rates[c->prompt][0] < 1.2 * rates[c->reply][0]) c->prompt = c->reply;
}

/* ---- Cache ---- */

static void cache_key(const wisp_executor_params *params, const wisp_device_info *gpu, char key[64]) {
  const wisp_model *m = params->plan->model;
  wisp_device_info cpu;
  wisp_cpu_device_info(&cpu);
  const uint32_t numbers[] = {m->width,
                              m->heads,
                              m->kv_heads,
                              m->head_size,
                              m->ffn_width,
                              m->weight_blocks,
                              m->vocabulary,
                              params->threads,
                              m->gelu,
                              (uint32_t)m->int8_activations,
                              params->max_context < CONTEXT,
                              params->plan->executed_blocks};
  wisp_hash hash;
  wisp_hash_begin(&hash);
  for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) wisp_hash_add_u32(&hash, numbers[i]);
  const char *const texts[] = {wisp_model_type_name(m), gpu->name, gpu->driver, cpu.name, wisp_version()};
  for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) wisp_hash_add(&hash, texts[i], strlen(texts[i]) + 1);
  snprintf(key, 64, "auto-%016llx", (unsigned long long)wisp_hash_end(&hash));
}

static bool load_choice(const wisp_cache *cache, const char *key, choice *c) {
  return cache->get && cache->get(cache->user, key, c, sizeof *c) == sizeof *c && c->version == VERSION &&
         c->prompt < DEVICES && c->reply < DEVICES;
}

static void describe(const choice *c, bool kept, char text[WISP_CHOICE_TEXT]) {
  const double(*r)[2] = (const double(*)[2])c->tokens_per_second;
  snprintf(text, WISP_CHOICE_TEXT, "prompts on %s (%.0f tokens/s, %s %.0f), replies on %s (%.1f, %s %.1f)%s", names[c->prompt],
           r[c->prompt][0], names[!c->prompt], r[!c->prompt][0], names[c->reply], r[c->reply][1], names[!c->reply],
           r[!c->reply][1], kept ? ", as found at an earlier start" : "");
}

/* ---- Creation ---- */

/* Opens what of executors is not there yet and closes what is not chosen. *at: the device that a failure is of. */
static wisp_status assemble(wisp_executor **executor, const wisp_executor_params *params, const choice *c,
                            wisp_executor *executors[DEVICES], int *at) {
  for (*at = 0; *at < DEVICES; (*at)++) {
    const int i = *at;
    const bool chosen = (int)c->prompt == i || (int)c->reply == i;
    if (!chosen && executors[i]) {
      executors[i]->api->destroy(executors[i]);
      executors[i] = NULL;
    }
    if (chosen && !executors[i]) WISP_TRY(apis[i]->create(&executors[i], params));
  }
  wisp_executor *prompt = executors[c->prompt], *reply = executors[c->reply];
  executors[CPU] = executors[GPU] = NULL;
  if (prompt != reply) return wisp_mixed_create(executor, params->host, params->plan, prompt, reply);
  *executor = prompt;
  return WISP_OK;
}

/* Opens and times both, the GPU first. *at: as above. */
static wisp_status find_choice(const wisp_executor_params *params, wisp_executor *executors[DEVICES], choice *c, int *at) {
  for (*at = DEVICES - 1; *at >= 0; (*at)--) {
    const int i = *at;
    WISP_TRY(apis[i]->create(&executors[i], params));
    if (apis[i]->settle) apis[i]->settle(executors[i]);
    WISP_TRY(try_device(executors[i], params, c->tokens_per_second[i]));
  }
  decide(c);
  return WISP_OK;
}

/* The best GPU that is one; a software Vulkan device is only ever slower than the CPU itself. */
static wisp_status find_gpu(const wisp_executor_params *params, wisp_device_info *gpu, bool *found) {
  wisp_device_info infos[16];
  uint32_t count;
  *found = false;
  WISP_TRY(wisp_devices(params->host, infos, 16, &count));
  for (uint32_t i = 0; i < count && i < 16 && !*found; i++) {
    *found = infos[i].usable && !strcmp(infos[i].backend, "vulkan") && strcmp(infos[i].kind, "software");
    if (*found) *gpu = infos[i];
  }
  return WISP_OK;
}

wisp_status wisp_auto_create(wisp_executor **executor, const wisp_executor_params *params, char text[WISP_CHOICE_TEXT]) {
  wisp_executor *executors[DEVICES] = {NULL};
  wisp_device_info gpu;
  bool found;
  *executor = NULL;
  WISP_TRY(find_gpu(params, &gpu, &found));
  snprintf(text, WISP_CHOICE_TEXT, "cpu: there is no GPU with a Vulkan driver");
  if (!found) return wisp_cpu_executor.create(executor, params);
  snprintf(text, WISP_CHOICE_TEXT, "vulkan: pipelines only");
  if (params->compile_only) return wisp_gpu_executor.create(executor, params);

  char key[64];
  choice c = {.version = VERSION};
  cache_key(params, &gpu, key);
  const bool kept = load_choice(&params->cache, key, &c);
  if (!kept) c = (choice){.version = VERSION};
  int at = DEVICES;
  wisp_status status = kept ? WISP_OK : find_choice(params, executors, &c, &at);
  if (status == WISP_OK && !kept && params->cache.put) params->cache.put(params->cache.user, key, &c, sizeof c);
  if (status == WISP_OK) {
    describe(&c, kept, text);
    status = assemble(executor, params, &c, executors, &at);
  }
  for (int i = 0; i < DEVICES; i++)
    if (executors[i]) executors[i]->api->destroy(executors[i]);
  if (status == WISP_OK || at != GPU) return status;
  snprintf(text, WISP_CHOICE_TEXT, "cpu: %.128s cannot be used", gpu.name); /* which said why */
  return wisp_cpu_executor.create(executor, params);
}
