/* SPDX-License-Identifier: Apache-2.0 */
#include "draw.h"

#include <math.h>
#include <string.h>

#include "random.h"
#include "session/sampler.h"
#include "shared/draw.h"

enum {
  DRAWS = 8,    /* one behind the other, in one submit */
  COLUMNS = 2,  /* the second is drawn from */
  FIRST = 68,   /* float of the first column, behind poison */
  POSITION = 3, /* before the draws */
  TOKENS = POSITION + 2 * DRAWS,
  FLAVOURS = 7 /* of logits */
};
#define POISON 0x7fff7fffu /* NaN */

typedef struct stand { /* what the kernel needs, for one vocabulary */
  const check_params *params;
  uint32_t local; /* invocations of the workgroup */
  uint32_t vocabulary, stride;
  wvk_layout *layout;
  wvk_set *set;
  wvk_pipeline *pipeline;
  wvk_commands *commands;
  wvk_buffer *other, *data, *step, *tokens; /* other: weights and KV cache, not touched */
  float *logits;                            /* [vocabulary] */
  uint64_t random;
} stand;

static void record(stand *s) {
  const uint32_t offsets[4] = {0}, push[WISP_PUSH_BYTES / 4] = {COLUMNS - 1}, moved[WISP_PUSH_BYTES / 4] = {COLUMNS - 1, 0, 1};
  wvk_cmd_bind_pipeline(s->commands, s->pipeline);
  wvk_cmd_bind_set(s->commands, s->set, offsets);
  for (uint32_t i = 0; i < DRAWS; i++) {
    wvk_cmd_push(s->commands, s->layout, push, sizeof push);
    wvk_cmd_dispatch(s->commands, 1, 1, 1);
    wvk_cmd_barrier(s->commands);
  }
  wvk_cmd_push(s->commands, s->layout, moved, sizeof moved); /* once more, in place of the last */
  wvk_cmd_dispatch(s->commands, 1, 1, 1);
  wvk_cmd_barrier(s->commands);
}

static wvk_status open_stand(stand *s) {
  const struct {
    wvk_buffer **buffer;
    uint64_t bytes;
  } buffers[] = {{&s->other, 256},
                 {&s->data, (FIRST + COLUMNS * s->stride + FIRST) * 4ull},
                 {&s->step, WISP_STEP_WORDS * 4},
                 {&s->tokens, TOKENS * 4}};
  wvk_device *device = s->params->device;
  for (size_t i = 0; i < sizeof buffers / sizeof *buffers; i++) {
    const wvk_status status = wvk_buffer_create(buffers[i].buffer, device, "draw", buffers[i].bytes, WVK_MEMORY_SHARED);
    if (status != WVK_OK) return status;
  }
  wvk_buffer *const bound[WISP_BINDINGS] = {s->other, s->other, s->other, s->other, s->data, s->data, s->step, s->tokens};
  wvk_binding bindings[WISP_BINDINGS];
  for (int i = 0; i < WISP_BINDINGS; i++) bindings[i] = (wvk_binding){bound[i], 0, wvk_buffer_size(bound[i])};
  uint32_t constants[WISP_C_COUNT] = {
      [WISP_C_LOCAL] = s->local, [WISP_C_COLS] = s->vocabulary, [WISP_C_X] = FIRST, [WISP_C_X_STRIDE] = s->stride};
  const wisp_shader *shader = wisp_shader_find("draw");
  const wvk_pipeline_params pipeline = {.name = shader->name,
                                        .spirv = shader->spirv,
                                        .spirv_bytes = shader->bytes,
                                        .constants = constants,
                                        .constant_count = WISP_C_COUNT};
  wvk_status status = wvk_layout_create(&s->layout, device, WISP_BINDINGS, WISP_DYNAMIC_MASK, WISP_PUSH_BYTES);
  if (status == WVK_OK) status = wvk_set_create(&s->set, s->layout, bindings);
  if (status == WVK_OK) status = wvk_pipeline_create(&s->pipeline, s->layout, &pipeline);
  if (status == WVK_OK) status = wvk_commands_create(&s->commands, device, 0);
  if (status == WVK_OK) status = wvk_commands_begin(s->commands);
  if (status != WVK_OK) return status;
  record(s);
  return wvk_commands_end(s->commands);
}

static void close_stand(stand *s) {
  wvk_commands_destroy(&s->commands);
  wvk_pipeline_destroy(&s->pipeline);
  wvk_set_destroy(&s->set);
  wvk_layout_destroy(&s->layout);
  wvk_buffer **buffers[] = {&s->other, &s->data, &s->step, &s->tokens};
  for (size_t i = 0; i < sizeof buffers / sizeof *buffers; i++) wvk_buffer_destroy(buffers[i]);
  wisp_host_free(s->params->host, s->logits);
}

static void fill_logits(stand *s, uint32_t flavour) {
  for (uint32_t i = 0; i < s->vocabulary; i++) {
    const float normal = random_normal(&s->random);
    const uint32_t odd = random_below(&s->random, 5);
    const float values[FLAVOURS] = {3 * normal,
                                    floorf(2 * normal), /* ties */
                                    7,                  /* nothing but a tie */
                                    1e-6f * normal - 20,
                                    expf(30 * normal), /* from next to nothing to beyond */
                                    odd == 0   ? NAN
                                    : odd == 1 ? -INFINITY
                                               : normal,
                                    odd == 0   ? INFINITY
                                    : odd == 1 ? NAN
                                               : 3e38f * normal};
    s->logits[i] = values[flavour];
  }
  if (flavour == 5 && random_below(&s->random, 4) == 0)
    for (uint32_t i = 0; i < s->vocabulary; i++) s->logits[i] = i % 2 ? NAN : -INFINITY; /* no candidate */
}

#define ANY_OF(s, list) (list)[random_below(&(s)->random, sizeof(list) / sizeof *(list))]

static wisp_sampler_params some_params(stand *s) {
  static const float temperatures[] = {1e-30f, 0.1f, 0.7f, 1, 1.5f, 40, 1e30f}, top_ps[] = {1, 1, 1e-6f, 0.5f, 0.9f, 0.999f};
  static const float min_ps[] = {0, 0, 0, 1e-4f, 0.05f, 1};
  static const uint32_t top_ks[] = {0, 0, 1, 2, 40, 1024, 1025, UINT32_MAX};
  return (wisp_sampler_params){.temperature = ANY_OF(s, temperatures),
                               .top_k = ANY_OF(s, top_ks),
                               .top_p = ANY_OF(s, top_ps),
                               .min_p = ANY_OF(s, min_ps),
                               .repetition_penalty = 1,
                               .seed = (uint64_t)random_below(&s->random, 1u << 31) << 20};
}

static void write_inputs(stand *s, const wisp_sampler *sampler) {
  uint32_t *data = wvk_buffer_map(s->data), *step = wvk_buffer_map(s->step), *tokens = wvk_buffer_map(s->tokens);
  for (uint64_t i = 0; i < wvk_buffer_size(s->data) / 4; i++) data[i] = POISON;
  memcpy(data + FIRST + (COLUMNS - 1) * s->stride, s->logits, s->vocabulary * sizeof *s->logits);
  for (uint32_t i = 0; i < TOKENS; i++) tokens[i] = POISON;
  memset(step, 0, WISP_STEP_WORDS * 4);
  step[WISP_STEP_POSITION] = POSITION - 2; /* a batch of two: the first draw's token is behind both */
  step[WISP_STEP_COUNT] = 2;
  step[WISP_STEP_DRAWN] = (uint32_t)sampler->drawn;
  step[WISP_STEP_DRAWN + 1] = (uint32_t)(sampler->drawn >> 32);
  step[WISP_STEP_SEED] = (uint32_t)sampler->params.seed;
  step[WISP_STEP_SEED + 1] = (uint32_t)(sampler->params.seed >> 32);
  memcpy(&step[WISP_STEP_SCALE], &sampler->rule.scale, 4);
  step[WISP_STEP_TOP_K] = sampler->rule.top_k;
  step[WISP_STEP_TOP_P] = sampler->rule.top_p;
  step[WISP_STEP_FARTHEST] = sampler->rule.farthest;
  wvk_buffer_flush(s->data, 0, wvk_buffer_size(s->data));
  wvk_buffer_flush(s->step, 0, WISP_STEP_WORDS * 4);
  wvk_buffer_flush(s->tokens, 0, TOKENS * 4);
}

/* How many tokens differ from the sampler's. */
static uint32_t compare(stand *s, wisp_sampler *sampler) {
  const uint32_t *tokens = wvk_buffer_map(s->tokens);
  uint32_t differ = 0;
  for (uint32_t i = 0; i <= DRAWS; i++) {
    const uint32_t picked = (uint32_t)wisp_sampler_pick(sampler, s->logits, NULL, 0);
    if (i + 1 != DRAWS) differ += tokens[POSITION + (i < DRAWS ? i : DRAWS - 1)] != picked; /* the last but one is replaced */
  }
  return differ;
}

static uint32_t judge_step(stand *s, const wisp_sampler *sampler) {
  const uint32_t *step = wvk_buffer_map(s->step), *tokens = wvk_buffer_map(s->tokens);
  uint32_t wrong = step[WISP_STEP_POSITION] != POSITION + DRAWS - 1 || step[WISP_STEP_COUNT] != 1;
  wrong += step[WISP_STEP_DRAWN] != (uint32_t)sampler->drawn || step[WISP_STEP_DRAWN + 1] != sampler->drawn >> 32;
  for (uint32_t i = 0; i < TOKENS; i++)
    if (i < POSITION || i >= POSITION + DRAWS) wrong += tokens[i] != POISON;
  return wrong;
}

static wisp_status check_one(stand *s, uint32_t flavour, draw_row *row) {
  const wisp_sampler_params params = some_params(s);
  wisp_sampler sampler;
  WISP_TRY(wisp_sampler_open(&sampler, s->params->host, &params, s->vocabulary));
  const uint64_t first = UINT32_MAX - random_below(&s->random, 2 * DRAWS); /* the lower word may run over */
  fill_logits(s, flavour);
  sampler.drawn = first;
  write_inputs(s, &sampler);
  wvk_status status = wvk_submit(s->params->device, &s->commands, 1);
  if (status == WVK_OK) status = wvk_wait(s->commands, UINT64_MAX);
  if (status == WVK_OK) {
    wvk_buffer_invalidate(s->step, 0, WISP_STEP_WORDS * 4);
    wvk_buffer_invalidate(s->tokens, 0, TOKENS * 4);
    row->cases++;
    row->draws += DRAWS;
    row->differ += compare(s, &sampler) + judge_step(s, &sampler);
    sampler.params.seed++;
    sampler.drawn = first;
    row->blind += !compare(s, &sampler);
  }
  wisp_sampler_close(&sampler);
  return status == WVK_OK ? WISP_OK : WISP_ERROR_DEVICE;
}

wisp_status draw_check(const check_params *params, draw_row *row) {
  static const struct {
    uint32_t vocabulary, cases;
  } sizes[] = {{1, 5}, {5, 42}, {300, 42}, {1025, 28}, {4099, 14}, {49152, 7}};
  *row = (draw_row){0};
  wisp_status status = WISP_OK;
  const uint32_t largest = wvk_device_caps(params->device)->max_workgroup, counts = largest > WISP_DRAW_BINS ? 2 : 1;
  for (size_t i = 0; i < counts * (sizeof sizes / sizeof *sizes) && status == WISP_OK; i++) {
    const size_t size = i / counts;
    stand s = {.params = params,
               .local = i % counts ? largest : WISP_DRAW_BINS,
               .vocabulary = sizes[size].vocabulary,
               .stride = (sizes[size].vocabulary + 3) / 4 * 4,
               .random = params->seed + i};
    s.logits = wisp_host_alloc(params->host, s.vocabulary, sizeof *s.logits);
    status = s.logits && open_stand(&s) == WVK_OK ? WISP_OK : WISP_ERROR_DEVICE;
    for (uint32_t n = 0; n < sizes[size].cases && status == WISP_OK; n++) status = check_one(&s, n % FLAVOURS, row);
    close_stand(&s);
  }
  return status;
}
