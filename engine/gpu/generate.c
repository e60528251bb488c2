/* SPDX-License-Identifier: Apache-2.0
 * Decode: the commands of a token are recorded once and submitted again and again, several tokens a submit and two submits
 * under way, so that the device goes on while the host reads ids and calls back. Ids are in the tokens buffer, by position:
 * what a finished submit has written there stays, whatever the next one does. */
#include <string.h>

#include "base/clock.h"
#include "gpu/executor.h"

/* A display's watchdog and a user who stops wait for at most this: flights are that short where a token is. */
#define FLIGHTS_SECONDS 0.05
#define SUBMIT_SHARE 400 /* a flight takes at least so many times what its submit costs */

static bool draws(const gpu_timeline *t) {
  return t->base.sampler && wisp_sampler_draws(t->base.sampler);
}

/* Where this device does not get the draw right. */
static bool draws_on_host(const gpu_timeline *t) {
  return draws(t) && t->executor->context.refused & 1u << WISP_OP_SAMPLE;
}

/* ---- Recording ---- */

/* 16 tokens a flight are short on a discrete GPU only: elsewhere the last part would be recorded for nothing. */
static uint32_t usable_parts(const gpu_timeline *t) {
  return t->context.caps->kind == WVK_KIND_DISCRETE ? WISP_GPU_FLIGHT_PARTS : WISP_GPU_FLIGHT_PARTS - 1;
}

static uint32_t part_tokens(uint32_t part) {
  return part ? 1u << (part - 1) : 1;
}

wisp_status wisp_gpu_record_token(gpu_timeline *t, wvk_commands *commands) {
  if (!t->persistent.active) return wisp_gpu_record_pass(t, commands, 1, WISP_GPU_NEXT);
  wisp_persistent_record(t, commands);
  return t->context.draws ? wisp_gpu_record_redraw(t, commands) : WISP_OK;
}

static wisp_status record_part(gpu_timeline *t, uint32_t flight, uint32_t part) {
  wvk_commands *commands = t->flights[flight].parts[part];
  WISP_GPU_TRY(wvk_commands_begin(commands));
  for (uint32_t i = 0; i < part_tokens(part); i++) WISP_TRY(wisp_gpu_record_token(t, commands));
  return wisp_gpu_status(wvk_commands_end(commands));
}

wisp_status wisp_gpu_decode_prepare(gpu_timeline *t) {
  if (t->recorded) return WISP_OK;
  t->context.draws = draws(t) && !draws_on_host(t);
  for (uint32_t i = 0; i < WISP_GPU_FLIGHTS; i++)
    for (uint32_t part = 0; part < usable_parts(t); part++) WISP_TRY(record_part(t, i, part));
  t->recorded = true;
  return WISP_OK;
}

/* Once the persistent path is ready. */
static wisp_status adopt_persistent(gpu_timeline *t) {
  if (!wisp_persistent_take(t)) return WISP_OK;
  WISP_TRY(wisp_gpu_decode_settle(t));
  t->recorded = false;
  return wisp_gpu_decode_prepare(t);
}

static wisp_status time_empty(gpu_timeline *t, wvk_commands *commands) {
  WISP_GPU_TRY(wvk_commands_begin(commands));
  WISP_GPU_TRY(wvk_commands_end(commands));
  const double start = wisp_now_s();
  WISP_TRY(wisp_gpu_run(t, commands));
  const double seconds = wisp_now_s() - start;
  if (t->submit_seconds <= 0 || seconds < t->submit_seconds) t->submit_seconds = seconds;
  return WISP_OK;
}

/* The fastest of a few empty submits: one of each commands object, then one of a flight, so that all fences that decode needs,
 * one for each object and one to spare, are made before its first token. */
static wisp_status measure_submit(gpu_timeline *t) {
  for (uint32_t i = 0; i < WISP_GPU_FLIGHTS; i++)
    for (uint32_t part = 0; part < usable_parts(t); part++) WISP_TRY(time_empty(t, t->flights[i].parts[part]));
  WISP_TRY(time_empty(t, t->batch));
  WISP_GPU_TRY(wvk_submit(t->executor->device, t->flights[0].parts, usable_parts(t)));
  return wisp_gpu_status(wvk_wait(t->flights[0].parts[0], UINT64_MAX));
}

wisp_status wisp_gpu_decode_open(gpu_timeline *t) {
  for (uint32_t i = 0; i < WISP_GPU_FLIGHTS; i++)
    for (uint32_t part = 0; part < usable_parts(t); part++)
      WISP_GPU_TRY(wvk_commands_create(&t->flights[i].parts[part], t->executor->device, 0));
  return measure_submit(t);
}

void wisp_gpu_decode_close(gpu_timeline *t) {
  (void)wisp_gpu_decode_settle(t);
  for (uint32_t i = 0; i < WISP_GPU_FLIGHTS; i++)
    for (uint32_t part = 0; part < WISP_GPU_FLIGHT_PARTS; part++) wvk_commands_destroy(&t->flights[i].parts[part]);
}

/* ---- Running ---- */

wisp_status wisp_gpu_decode_settle(gpu_timeline *t) {
  wisp_status status = WISP_OK;
  for (uint32_t i = 0; i < WISP_GPU_FLIGHTS; i++) {
    gpu_flight *flight = &t->flights[i];
    if (flight->tokens) {
      const wisp_status waited = wisp_gpu_status(wvk_wait(flight->parts[0], UINT64_MAX));
      if (status == WISP_OK) status = waited;
      t->ahead = true;
    }
    flight->tokens = 0;
  }
  t->busy_since = 0;
  return status;
}

wisp_status wisp_gpu_decode_go_back(gpu_timeline *t) {
  const uint32_t length = t->base.length;
  const int32_t last = ((const int32_t *)wvk_buffer_map(t->tokens))[length - 1];
  t->base.length--;
  const wisp_status status = wisp_gpu_append(&t->base, &last, 1, WISP_LOGITS_NONE, NULL);
  t->base.length = length; /* its K and V are what they were */
  return status;
}

/* After a run: whether the persistent path has failed. Then nothing is under way and the commands are recorded anew. */
static wisp_status check_persistent(gpu_timeline *t, bool *failed) {
  const uint32_t *step = wvk_buffer_map(t->step);
  *failed = false;
  if (!t->persistent.active) return WISP_OK;
  wvk_buffer_invalidate(t->step, 0, WISP_STEP_WORDS * 4);
  if (!step[WISP_STEP_FAILED]) return WISP_OK;
  WISP_TRY(wisp_gpu_decode_settle(t));
  *failed = wisp_persistent_failed(t);
  wisp_log(t->executor->host, WISP_LOG_WARN, "%s: %s", wvk_device_caps(t->executor->device)->name,
           wisp_persistent_text(&t->executor->persistent, t->context.fused));
  t->recorded = false;
  return wisp_gpu_decode_prepare(t);
}

wisp_status wisp_gpu_decode_step(gpu_timeline *t) {
  bool failed;
  wvk_commands *commands = t->flights[0].parts[0];
  WISP_TRY(adopt_persistent(t));
  WISP_TRY(wisp_gpu_run(t, commands));
  WISP_TRY(check_persistent(t, &failed));
  if (!failed) return WISP_OK;
  wisp_gpu_write_step(t, t->base.length, 1, t->base.sampler ? t->base.sampler->drawn : 0);
  return wisp_gpu_run(t, commands);
}

/* Parts of the next flight, at most tokens long. Doubled while its submit costs too much of it, and flights stay short. */
static uint32_t flight_parts(const gpu_timeline *t, uint32_t tokens) {
  uint32_t parts = 1, made = 1;
  while (parts < usable_parts(t) && 2 * made <= tokens && t->token_seconds > 0 &&
         made * t->token_seconds < SUBMIT_SHARE * t->submit_seconds &&
         WISP_GPU_FLIGHTS * 2 * made * t->token_seconds < FLIGHTS_SECONDS) {
    parts++;
    made *= 2;
  }
  return parts;
}

static wisp_status take_off(gpu_timeline *t, gpu_flight *flight, uint32_t tokens) {
  const uint32_t parts = flight_parts(t, tokens);
  WISP_GPU_TRY(wvk_submit(t->executor->device, flight->parts, parts));
  flight->tokens = 1u << (parts - 1);
  return WISP_OK;
}

/* Flights for up to count tokens together, one where a token takes long: the other would hardly save and might be for nothing.
 */
static wisp_status fill_flights(gpu_timeline *t, uint32_t count) {
  uint32_t under_way = 0;
  for (uint32_t i = 0; i < WISP_GPU_FLIGHTS; i++) under_way += t->flights[(t->oldest + i) % WISP_GPU_FLIGHTS].tokens;
  const bool quick = t->token_seconds > 0 && WISP_GPU_FLIGHTS * t->token_seconds < FLIGHTS_SECONDS;
  for (uint32_t i = 0; i < (quick ? WISP_GPU_FLIGHTS : 1) && under_way < count; i++) {
    gpu_flight *flight = &t->flights[(t->oldest + i) % WISP_GPU_FLIGHTS];
    if (flight->tokens) continue;
    if (!under_way) t->busy_since = wisp_now_s();
    WISP_TRY(take_off(t, flight, count - under_way));
    under_way += flight->tokens;
  }
  return WISP_OK;
}

/* Waits for the oldest flight. Its tokens are timed where its begin and its end are known: it had to be waited for, and so had
 * the one before or there was none. */
static wisp_status await_oldest(gpu_timeline *t) {
  const gpu_flight *flight = &t->flights[t->oldest];
  wvk_status status = wvk_wait(flight->parts[0], 0);
  const bool waits = status == WVK_TIMEOUT;
  if (waits) status = wvk_wait(flight->parts[0], UINT64_MAX);
  const double now = wisp_now_s();
  if (t->busy_since > 0 && (waits || t->token_seconds <= 0)) t->token_seconds = (now - t->busy_since) / flight->tokens;
  t->busy_since = waits ? now : 0;
  return wisp_gpu_status(status);
}

/* The next token by the host's sampler. */
static wisp_status draw_on_host(gpu_timeline *t, int32_t *ids, uint32_t *made) {
  wisp_sampler *sampler = t->base.sampler;
  const uint64_t drawn = sampler->drawn;
  WISP_TRY(wisp_gpu_run(t, t->read_logits));
  wvk_buffer_invalidate(t->readback, 0, wvk_buffer_size(t->readback));
  ids[0] = wisp_sampler_pick(sampler, wvk_buffer_map(t->readback), NULL, 0);
  const wisp_status status = wisp_gpu_append(&t->base, ids, 1, WISP_LOGITS_NONE, NULL);
  if (status == WISP_OK)
    *made = 1;
  else
    sampler->drawn = drawn;
  return status;
}

wisp_status wisp_gpu_generate(wisp_timeline *timeline, uint32_t count, int32_t *ids, uint32_t *made) {
  gpu_timeline *t = (gpu_timeline *)timeline;
  *made = 0;
  if (!count) return WISP_OK;
  if (draws_on_host(t)) return draw_on_host(t, ids, made);
  WISP_TRY(adopt_persistent(t));
  if (t->ahead) WISP_TRY(wisp_gpu_decode_go_back(t));
  bool failed;
  do {
    WISP_TRY(fill_flights(t, count));
    WISP_TRY(await_oldest(t));
    WISP_TRY(check_persistent(t, &failed));
    /* The next token is chosen already: it was the draw before. */
    if (failed) wisp_gpu_write_step(t, timeline->length, 1, timeline->sampler ? timeline->sampler->drawn + 1 : 0);
  } while (failed);
  gpu_flight *flight = &t->flights[t->oldest];
  const uint32_t told = flight->tokens < count ? flight->tokens : count;
  wvk_buffer_invalidate(t->tokens, timeline->length * 4ull, told * 4ull);
  memcpy(ids, (const uint32_t *)wvk_buffer_map(t->tokens) + timeline->length, told * 4ull);
  flight->tokens -= told;
  if (!flight->tokens) t->oldest = (t->oldest + 1) % WISP_GPU_FLIGHTS;
  timeline->length += told;
  if (draws(t)) timeline->sampler->drawn += told;
  *made = told;
  return WISP_OK;
}
