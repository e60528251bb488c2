/* SPDX-License-Identifier: Apache-2.0
 * Engines as wisp.h promises them: where models come from, what they cost, and that running out of memory is survived. */
#include <criterion/criterion.h>
#include <unistd.h>

#include "unit/session_fixture.h"
#include "unit/small_model.h"

enum { TOKENS = 24 };

/* Params for a file in memory on device, logging to f. */
static wisp_engine_params file_params(fixture *f, const char *device, const uint8_t *bytes, size_t size) {
  wisp_engine_params params = fixture_params(f, device, NULL);
  params.source = (wisp_model_source){.data = bytes, .size = size, .fd = -1};
  return params;
}

/* ---- Sources --------------------------------------------------------------------------------------------------------- */

typedef struct memory_file {
  const uint8_t *bytes;
  size_t size;
  unsigned calls;
  bool broken;
} memory_file;

static bool read_memory(void *user, uint64_t offset, void *buffer, uint64_t size) {
  memory_file *file = user;
  file->calls++;
  if (file->broken || offset > file->size || size > file->size - offset) return false;
  memcpy(buffer, file->bytes + offset, size);
  return true;
}

static float *logits_from(const wisp_model_source *source) {
  fixture f;
  int32_t ids[TOKENS];
  wisp_engine_params params = fixture_params(&f, "cpu", NULL);
  params.source = *source;
  fixture_create(&f, &params);
  fixture_ids(&f, ids, TOKENS);
  float *rows = fixture_rows(&f, TOKENS);
  wisp_session *session = fixture_session(&f, TOKENS);
  fixture_append(session, ids, TOKENS, WISP_LOGITS_ALL, rows);
  wisp_session_destroy(&session);
  fixture_close(&f);
  return rows;
}

Test(engine, sources_give_the_same_logits) {
  enum { LEAD = 4100, TAIL = 77 }; /* as in an Android package: aligned to 4, something behind it */
  size_t size;
  uint8_t *bytes = small_model_file(&small_model_plain, &size);
  char path[] = "/tmp/wisp-engine-XXXXXX";
  const int fd = mkstemp(path);
  char zeros[LEAD] = {0};
  cr_assert(fd >= 0);
  cr_assert(write(fd, zeros, LEAD) == LEAD && write(fd, bytes, size) == (ssize_t)size && write(fd, zeros, TAIL) == TAIL);
  char whole_path[] = "/tmp/wisp-engine-XXXXXX";
  const int whole = mkstemp(whole_path);
  cr_assert(whole >= 0 && write(whole, bytes, size) == (ssize_t)size);

  memory_file file = {.bytes = bytes, .size = size};
  const wisp_model_source sources[] = {
      {.data = bytes, .size = size, .fd = -1},
      {.fd = fd, .offset = LEAD, .size = size},
      {.fd = whole},
      {.path = whole_path, .fd = -1},
      {.read = read_memory, .read_user = &file, .size = size, .fd = -1},
  };
  enum { SOURCES = sizeof sources / sizeof *sources };
  float *rows[SOURCES];
  for (int i = 0; i < SOURCES; i++) {
    rows[i] = logits_from(&sources[i]);
    cr_assert_arr_eq(rows[i], rows[0], TOKENS * SMALL_VOCABULARY * sizeof(float), "source %d", i);
  }
  cr_assert_gt(file.calls, 0);
  cr_assert_eq(lseek(fd, 0, SEEK_END), (off_t)(LEAD + size + TAIL), "the file was closed");
  for (int i = 0; i < SOURCES; i++) free(rows[i]);
  close(fd), close(whole);
  unlink(path), unlink(whole_path);
  free(bytes);
}

Test(engine, sources_that_fail) {
  size_t size;
  uint8_t *bytes = small_model_file(&small_model_plain, &size);
  memory_file broken = {.broken = true};
  const struct {
    wisp_model_source source;
    wisp_status status;
    const char *words;
  } cases[] = {
      {{.fd = -1}, WISP_ERROR_ARGUMENT, "exactly one of path, data, fd, read and synthetic"},
      {{.path = "x", .data = bytes, .size = size, .fd = -1}, WISP_ERROR_ARGUMENT, "exactly one"},
      {{.path = "x", .synthetic = "tiny", .fd = -1}, WISP_ERROR_ARGUMENT, "exactly one"},
      {{.path = "/no/such/file.gguf", .fd = -1}, WISP_ERROR_IO, "/no/such/file.gguf: cannot open"},
      {{.path = "/usr", .fd = -1}, WISP_ERROR_IO, "/usr: a folder without config.json"},
      {{.data = bytes, .size = 0, .fd = -1}, WISP_ERROR_FORMAT, "(memory): no bytes"},
      {{.data = bytes, .size = size - 1, .fd = -1}, WISP_ERROR_FORMAT, "(memory)"},
      {{.read = read_memory, .read_user = &broken, .size = 100, .fd = -1}, WISP_ERROR_IO, "short read"},
      {{.synthetic = "mammoth", .fd = -1}, WISP_ERROR_ARGUMENT, "mammoth"},
      {{.synthetic = "tiny", .synthetic_type = "q9_9", .fd = -1}, WISP_ERROR_ARGUMENT, "q9_9"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    fixture f;
    wisp_engine_params params = fixture_params(&f, "cpu", NULL);
    params.source = cases[i].source;
    f.engine = (wisp_engine *)&f;
    const wisp_status status = wisp_engine_create(&f.engine, &params);
    cr_assert_eq(status, cases[i].status, "%s: %s (%s)", cases[i].words, wisp_status_name(status), f.witness.capture.error);
    cr_assert_null(f.engine);
    fixture_said(&f, cases[i].words);
    fixture_close(&f);
  }
  free(bytes);
}

static void *no_memory(void *user, void *pointer, size_t size) {
  (void)user, (void)pointer, (void)size;
  return NULL;
}

Test(engine_vulkan, devices_without_memory) {
  const wisp_host host = {.reallocate = no_memory};
  wisp_device_info info;
  uint32_t count;
  cr_expect_eq(wisp_devices(&host, NULL, 0, &count), WISP_ERROR_MEMORY);
  cr_expect_eq(wisp_devices(&host, &info, 1, &count), WISP_ERROR_MEMORY);
}

Test(engine, context_past_the_models_own) {
  fixture f;
  for (uint32_t past = 0; past < 2; past++) {
    wisp_engine_params params = fixture_params(&f, "cpu", "tiny");
    params.max_context = 512 + past; /* of which 512 are the model's */
    fixture_create(&f, &params);
    cr_expect_eq(f.witness.capture.warnings, past, "%s", f.witness.capture.warning);
    fixture_close(&f);
  }
}

/* What is too large is told with the limit that it passes. */
Test(engine_vulkan, limits_are_told) {
  fixture f;
  setenv("WISP_CAPS", "max_allocation=256", 1);
  wisp_engine_params params = fixture_params(&f, "vulkan", "tiny");
  cr_expect_eq(wisp_engine_create(&f.engine, &params), WISP_ERROR_UNSUPPORTED);
  fixture_said(&f, "the device's limit of 256 ");
  fixture_close(&f);

  enum { CONTEXT = 1100000, SLOTS = 3, RANGE = 128 << 20 };
  setenv("WISP_CAPS", "max_storage_range=134217728", 1);
  params = fixture_params(&f, "vulkan", "tiny");
  params.max_context = CONTEXT;
  fixture_create(&f, &params);
  wisp_session_params session_params = wisp_session_params_defaults();
  session_params.context = CONTEXT;
  wisp_session *session;
  cr_expect_eq(wisp_session_create(&session, f.engine, &session_params), WISP_ERROR_MEMORY);
  char words[64];
  snprintf(words, sizeof words, "allows %llu:", (unsigned long long)RANGE * SLOTS);
  fixture_said(&f, words);
  fixture_close(&f);
}

Test(engine, devices_that_do_not_exist) {
  static const char *const devices[] = {"cuda", "vulkan:", "vulkan:x", "vulkan:-1", "vulkan:1000000", "CPU", ""};
  for (size_t i = 0; i < sizeof devices / sizeof *devices; i++) {
    fixture f;
    const wisp_engine_params params = fixture_params(&f, devices[i], "tiny");
    cr_assert_eq(wisp_engine_create(&f.engine, &params), WISP_ERROR_ARGUMENT);
    fixture_said(&f, "unknown device");
    fixture_close(&f);
  }
}

/* ---- Ends of text ---------------------------------------------------------------------------------------------------- */

static void generate_from_file(fixture *f, const char *device, int32_t end, bool ignore_end, int32_t *ids, uint32_t *count) {
  int32_t prompt[4];
  size_t size;
  small_model model = small_model_plain;
  model.tokens = SMALL_VOCABULARY;
  model.end = end;
  uint8_t *bytes = small_model_file(&model, &size);
  const wisp_engine_params params = file_params(f, device, bytes, size);
  fixture_create(f, &params);
  fixture_ids(f, prompt, 4);
  wisp_session *session = fixture_session(f, 64);
  fixture_append(session, prompt, 4, WISP_LOGITS_NONE, NULL);
  const wisp_generate_params wanted = {.max_tokens = TOKENS, .ignore_end = ignore_end};
  cr_assert_eq(wisp_session_generate(session, &wanted, ids, count), WISP_OK);
  cr_assert_eq(wisp_session_length(session), 4 + *count);
  for (uint32_t i = 0; i < *count; i++) cr_assert_eq(wisp_token_is_end(f->engine, ids[i]), ids[i] == end);
  wisp_session_destroy(&session);
  fixture_close(f);
  free(bytes);
}

static void end_stops(const char *device) {
  fixture f;
  int32_t whole[TOKENS], made[TOKENS];
  uint32_t count, first = 0;
  generate_from_file(&f, device, SMALL_VOCABULARY - 1, true, whole, &count);
  cr_assert_eq(count, TOKENS);
  const int32_t end = whole[TOKENS / 2];
  while (whole[first] != end) first++;
  generate_from_file(&f, device, end, false, made, &count);
  cr_assert_eq(count, first + 1, "the end token is counted and the last");
  cr_assert_arr_eq(made, whole, count * sizeof *made);
  generate_from_file(&f, device, end, true, made, &count);
  cr_assert_eq(count, TOKENS);
  cr_assert_arr_eq(made, whole, sizeof made);
}
Test(engine, end_of_text_stops_the_cpu) {
  end_stops("cpu");
}
Test(engine, end_of_text_stops_vulkan) {
  end_stops("vulkan");
}

/* ---- What a token costs ---------------------------------------------------------------------------------------------- */

/* On the path with a dispatch for each op, at the limits of tier T0; submits: at most. */
static const struct {
  const char *shape;
  uint32_t blocks, dispatches, barriers, submits;
} costs[] = {
    {"mobilellm-125m", 30, 153, 153, 1},
    {"mobilellm-125m-ls", 60, 303, 303, 1},
    {"mobilellm-125m-60l", 60, 303, 303, 1},
    {"mobilellm-350m", 32, 163, 163, 1},
    {"mobilellm-350m-ls", 64, 323, 323, 1},
    {"mobilellm-600m", 40, 203, 203, 1},
    {"mobilellm-1b", 54, 273, 273, 1},
    {"mobilellm-1.5b", 54, 273, 273, 1},
    {"smollm2-135m", 30, 153, 153, 1},
    {"mobilellm-r1-140m", 15, 78, 78, 1},
    {"tiny", 3, 18, 18, 1},
    {"tiny-ls", 6, 33, 33, 1},
    {"tiny-32", 3, 18, 18, 1},
    {"tiny-32-ls", 6, 33, 33, 1},
};

static wisp_model_info describe_type(fixture *f, const char *shape, const char *type) {
  wisp_engine_params params = fixture_params(f, "cpu", shape);
  params.source.synthetic_type = type;
  params.load = WISP_LOAD_DESCRIPTION;
  fixture_create(f, &params);
  wisp_model_info info;
  wisp_engine_model_info(f->engine, &info);
  return info;
}

static wisp_model_info describe(fixture *f, const char *shape) {
  return describe_type(f, shape, NULL);
}

Test(engine, costs_of_every_shape) {
  unsigned shapes = 0;
  for (const char *const *name = wisp_synthetic_names(); *name; name++, shapes++) {
    fixture f;
    const wisp_model_info info = describe(&f, *name);
    cr_assert_str_eq(info.name, *name);
    unsigned i = 0;
    while (i < sizeof costs / sizeof *costs && strcmp(costs[i].shape, *name)) i++;
    cr_assert_lt(i, sizeof costs / sizeof *costs, "%s has no line in the table", *name);
    cr_expect_eq(info.executed_blocks, costs[i].blocks, "%s: %u blocks", *name, info.executed_blocks);
    cr_expect_eq(info.dispatches_per_token, costs[i].dispatches, "%s: %u dispatches", *name, info.dispatches_per_token);
    cr_expect_eq(info.barriers_per_token, costs[i].barriers, "%s: %u barriers", *name, info.barriers_per_token);
    cr_expect_eq(info.submits_per_token, (float)costs[i].submits, "%s: %g submits", *name, (double)info.submits_per_token);
    cr_assert_leq(costs[i].dispatches, 5 * costs[i].blocks + 3, "%s: over the budget", *name);
    cr_assert_eq(info.kv_slots, info.executed_blocks);
    const bool shared = strstr(*name, "-ls");
    cr_assert_eq(info.executed_blocks, info.weight_blocks * (shared ? 2 : 1), "%s", *name);
    cr_assert_eq(wisp_engine_plan(f.engine, WISP_PHASE_DECODE, NULL, 0), 5 * info.executed_blocks + 3);
    fixture_close(&f);
  }
  cr_assert_eq(shapes, sizeof costs / sizeof *costs);
}

/* A vocabulary that passes tier T0's binding takes a dispatch more in embedding and head each. */
Test(engine, costs_of_a_split_vocabulary) {
  fixture f;
  const wisp_model_info info = describe_type(&f, "mobilellm-r1-140m", "f16");
  cr_assert_eq(info.dispatches_per_token, 80);
  fixture_close(&f);
}

Test(engine, block_sharing_is_in_the_plan) {
  fixture f;
  const wisp_model_info info = describe(&f, "tiny-ls");
  cr_assert(info.executed_blocks == 6 && info.weight_blocks == 3 && info.kv_slots == 6);
  cr_assert_str_eq(info.architecture, "mobilellm");
  wisp_op_info ops[5 * 6 + 3];
  cr_assert_eq(wisp_engine_plan(f.engine, WISP_PHASE_DECODE, ops, 33), 33);
  for (uint32_t i = 0; i < 33; i++) {
    const bool inside = i > 0 && i < 31;
    const int32_t block = inside ? (int32_t)(i - 1) / 5 : -1;
    cr_assert_eq(ops[i].executed_block, block);
    cr_assert_eq(ops[i].weight_block, inside ? block / 2 : -1);
    cr_assert_eq(ops[i].kv_slot, block);
  }
  fixture plain;
  const wisp_model_info unshared = describe(&plain, "tiny");
  cr_assert(unshared.executed_blocks == 3 && unshared.parameters == info.parameters &&
            unshared.weight_bytes == info.weight_bytes);
  cr_assert_eq(info.kv_bytes_per_token, 2 * unshared.kv_bytes_per_token);
  cr_assert_gt(info.bytes_per_token, unshared.bytes_per_token);
  fixture_close(&f);
  fixture_close(&plain);
}

static void counted(const char *shape, const wisp_sampler_params *sampler) {
  fixture f;
  int32_t ids[TOKENS];
  wisp_model_info info;
  wisp_engine_stats before, after;
  fixture_open(&f, "vulkan", shape);
  wisp_engine_model_info(f.engine, &info);
  fixture_ids(&f, ids, TOKENS);
  wisp_session_params wanted = wisp_session_params_defaults();
  wanted.context = 256;
  wanted.sampler = *sampler;
  wisp_session *session;
  cr_assert_eq(wisp_session_create(&session, f.engine, &wanted), WISP_OK);
  fixture_append(session, ids, TOKENS, WISP_LOGITS_NONE, NULL);
  fixture_generate(session, ids, 1);
  wisp_engine_get_stats(f.engine, &before);
  const unsigned host_allocations = f.witness.capture.allocations;
  for (int i = 0; i < 4; i++) fixture_generate(session, ids, TOKENS);
  wisp_engine_get_stats(f.engine, &after);
  const uint64_t tokens = 4 * TOKENS;
  cr_assert_eq(after.allocations, before.allocations, "device memory was allocated between tokens");
  cr_assert_eq(after.descriptor_writes, before.descriptor_writes, "descriptors were written between tokens");
  cr_assert_eq(after.pipelines_built, before.pipelines_built);
  cr_assert_eq(after.device_bytes, before.device_bytes);
  cr_assert_eq(f.witness.capture.allocations, host_allocations, "host memory was allocated between tokens");
  cr_assert_leq(after.submits - before.submits, tokens, "%s: more than one submit a token", shape);
  cr_assert_gt(after.submits, before.submits);
  cr_assert_eq(after.dispatches - before.dispatches, tokens * info.dispatches_per_token,
               "%s: %llu dispatches for %llu tokens of %u", shape, (unsigned long long)(after.dispatches - before.dispatches),
               (unsigned long long)tokens, info.dispatches_per_token);
  cr_assert_eq(after.barriers - before.barriers, tokens * info.barriers_per_token);
  wisp_session_destroy(&session);
  fixture_close(&f);
}
Test(engine_vulkan, counts_of_tiny) {
  const wisp_sampler_params greedy = wisp_sampler_params_defaults();
  counted("tiny", &greedy);
}
Test(engine_vulkan, counts_of_tiny_ls) {
  const wisp_sampler_params greedy = wisp_sampler_params_defaults();
  counted("tiny-ls", &greedy);
}
Test(engine_vulkan, counts_of_draws) {
  const wisp_sampler_params warm = {.temperature = 40, .top_k = 30, .top_p = 0.9f, .repetition_penalty = 1};
  counted("tiny", &warm);
}

/* ---- Memory ---------------------------------------------------------------------------------------------------------- */

/* Everything an application does; whatever status comes, all is given back. */
static wisp_status whole_life(fixture *f, const wisp_engine_params *params) {
  wisp_session *session = NULL;
  wisp_session_params wanted = wisp_session_params_defaults();
  wanted.context = 32;
  wanted.sampler.temperature = 1;
  int32_t ids[8] = {1, 2, 3, 4};
  float logits[SMALL_VOCABULARY];
  uint32_t count;
  const wisp_generate_params generate = {.max_tokens = 4, .ignore_end = true};
  wisp_status status = wisp_engine_create(&f->engine, params);
  if (status == WISP_OK) status = wisp_session_create(&session, f->engine, &wanted);
  if (status == WISP_OK) status = wisp_session_append(session, ids, 4, WISP_LOGITS_LAST, logits);
  if (status == WISP_OK) status = wisp_session_generate(session, &generate, ids, &count);
  wisp_session_destroy(&session);
  wisp_engine_destroy(&f->engine);
  return status;
}

/* Fails the n-th allocation for n = 1, 2, ... (later in larger steps) until none is left to fail. optional: how many may go by
 * without harm, since what they were for can be done without (lists of a driver's extensions). */
static void survive(const char *device, unsigned step_after, unsigned optional) {
  size_t size;
  small_model model = small_model_plain;
  model.tokens = SMALL_VOCABULARY;
  model.factors = true;
  uint8_t *bytes = small_model_file(&model, &size);
  unsigned failures = 0;
  for (unsigned n = 1;; n += n < step_after ? 1 : n / step_after) {
    fixture f;
    const wisp_engine_params params = file_params(&f, device, bytes, size);
    f.witness.capture.fail_at = n;
    const wisp_status status = whole_life(&f, &params);
    const capture *said = &f.witness.capture;
    cr_assert_eq(said->live, 0, "allocation %u: %ld blocks were not freed", n, said->live);
    if (said->allocations < n) {
      cr_assert_eq(status, WISP_OK, "nothing failed, but: %s", said->error);
      break;
    }
    failures++;
    if (status == WISP_OK && said->errors == 0 && optional-- > 0) continue;
    cr_assert_eq(status, WISP_ERROR_MEMORY, "allocation %u: %s (%s)", n, wisp_status_name(status), said->error);
    cr_assert_eq(said->errors, 1, "allocation %u: %u errors, the last: %s", n, said->errors, said->error);
  }
  cr_assert_gt(failures, 10);
  free(bytes);
}

Test(engine, survives_every_failed_allocation) {
  survive("cpu", 1000000, 0);
}

Test(engine_vulkan, survives_failed_allocations) {
  survive("vulkan", FIXTURE_SANITIZED ? 24 : 6, 8);
}

Test(engine, vocabulary_and_description_make_no_sessions) {
  fixture f;
  describe(&f, "tiny");
  wisp_session *session;
  const wisp_session_params params = wisp_session_params_defaults();
  cr_assert_eq(wisp_session_create(&session, f.engine, &params), WISP_ERROR_ARGUMENT);
  cr_assert_null(session);
  fixture_said(&f, "WISP_LOAD_ALL");
  wisp_session_destroy(&session);
  fixture_close(&f);
  wisp_engine_destroy(&f.engine);
}

/* ---- Start-up -------------------------------------------------------------------------------------------------------- */

typedef struct kept {
  uint8_t data[1 << 20];
  size_t size;
  unsigned gets, puts;
} kept;

static size_t cache_get(void *user, const char *key, void *data, size_t size) {
  kept *k = user;
  k->gets++;
  if (size) memcpy(data, k->data, k->size < size ? k->size : size);
  return k->size;
}
static void cache_put(void *user, const char *key, const void *data, size_t size) {
  kept *k = user;
  k->puts++;
  k->size = size <= sizeof k->data ? size : 0;
  memcpy(k->data, data, k->size);
}

/* Empty, filled, damaged: the pipeline cache only ever saves time. */
Test(engine_vulkan, pipeline_cache_of_the_host) {
  static kept k;
  int32_t made[3][TOKENS];
  for (int i = 0; i < 3; i++) {
    fixture f;
    wisp_engine_params params = fixture_params(&f, "vulkan", "tiny");
    params.cache = (wisp_cache){cache_get, cache_put, &k};
    fixture_create(&f, &params);
    wisp_session *session = fixture_session(&f, 64);
    fixture_append(session, (int32_t[]){1, 2, 3}, 3, WISP_LOGITS_NONE, NULL);
    fixture_generate(session, made[i], TOKENS);
    wisp_session_destroy(&session);
    fixture_close(&f);
    cr_assert_arr_eq(made[i], made[0], sizeof made[0]);
    cr_assert(k.gets > 0 && k.puts > 0, "%u gets, %u puts", k.gets, k.puts);
    if (i == 1)
      for (size_t byte = 0; byte < k.size; byte += 7) k.data[byte] ^= 0x5a;
  }
}

typedef struct stages {
  char last[32];
  float fraction;
  unsigned calls;
} stages;

static void on_progress(void *user, const char *stage, float fraction) {
  stages *s = user;
  s->calls++;
  cr_assert(fraction >= 0 && fraction <= 1, "%s: %g", stage, (double)fraction);
  if (!strcmp(stage, s->last)) cr_assert_geq(fraction, s->fraction, "%s goes back", stage);
  snprintf(s->last, sizeof s->last, "%s", stage);
  s->fraction = fraction;
}

Test(engine_vulkan, progress) {
  fixture f;
  stages s = {.calls = 0};
  wisp_engine_params params = fixture_params(&f, "vulkan", "tiny");
  params.progress = on_progress;
  params.progress_user = &s;
  fixture_create(&f, &params);
  cr_assert_gt(s.calls, 0);
  fixture_close(&f);
}

Test(engine, words) {
  for (int status = WISP_OK; status <= WISP_ERROR_CANCELLED; status++)
    cr_assert(strlen(wisp_status_name((wisp_status)status)) > 1);
  cr_assert_not_null(wisp_status_name((wisp_status)99));
  cr_assert_not_null(strchr(wisp_version(), '.'));
  wisp_engine *engine = NULL;
  wisp_session *session = NULL;
  wisp_engine_destroy(&engine);
  wisp_session_destroy(&session);
}
