/* SPDX-License-Identifier: Apache-2.0
 * The runtime's pipelines and commands: order, resubmission, timestamps, cache, validation. */
#include "gpu/pipelines.h"
#include "wvk_fixture.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

static void check_sums(chain *c, const uint32_t *windows, uint32_t count, uint32_t times) {
  wvk_buffer_invalidate(c->sums, 0, CHAIN_COUNT * 4);
  const uint32_t *sums = wvk_buffer_map(c->sums);
  for (uint32_t i = 0; i < CHAIN_COUNT; i++) {
    uint32_t expected = 0;
    for (uint32_t t = 0; t < times; t++)
      for (uint32_t w = 0; w < count; w++) expected = chain_next(expected, windows[w], i);
    cr_assert_eq(sums[i], expected, "sum %u: %u, expected %u", i, sums[i], expected);
  }
}

/* Records the windows in order, a barrier after each or not. */
static wvk_commands *record(chain *c, const uint32_t *windows, uint32_t count, uint32_t timestamps, bool barriers) {
  wvk_commands *commands;
  cr_assert_eq(wvk_commands_create(&commands, c->device, timestamps), WVK_OK);
  cr_assert_eq(wvk_commands_begin(commands), WVK_OK);
  for (uint32_t w = 0; w < count; w++) {
    wvk_cmd_timestamp(commands, w);
    chain_dispatch(c, commands, windows[w], 1);
    if (barriers) wvk_cmd_barrier(commands);
  }
  cr_assert_eq(wvk_commands_end(commands), WVK_OK);
  return commands;
}

static const uint32_t order[] = {0, 2, 1, 1, 0, 2, 0};
enum { ORDER = sizeof order / sizeof *order };

static void run_chain(const char *caps, bool validate) {
  wvk_witness witness;
  wvk_device *device = open_device(&witness, caps, validate);
  chain c = chain_open(device);
  wvk_commands *commands = record(&c, order, ORDER, 0, true);
  cr_assert_eq(wvk_wait(commands, UINT64_MAX), WVK_OK); /* nothing submitted yet */
  cr_assert_eq(wvk_commands_dispatches(commands), ORDER);
  cr_assert_eq(wvk_commands_barriers(commands), ORDER);
  for (uint32_t times = 1; times <= 3; times++) {
    cr_assert_eq(wvk_submit(device, &commands, 1), WVK_OK);
    cr_assert_eq(wvk_wait(commands, UINT64_MAX), WVK_OK);
    check_sums(&c, order, ORDER, times);
  }
  wvk_counters counters = wvk_device_counters(device);
  cr_assert_eq(counters.submits, 3);
  cr_assert_eq(counters.dispatches, 3 * ORDER);
  cr_assert_eq(counters.barriers, 3 * ORDER);
  cr_assert_eq(counters.descriptor_writes, 2);
  cr_assert_eq(counters.validation_messages, 0, "%s", witness.last[WVK_LOG_ERROR]);
  wvk_commands_destroy(&commands);
  chain_close(&c);
  wvk_device_destroy(&device);
  cr_assert_eq(witness.live, 0);
  cr_assert_eq(witness.lines[WVK_LOG_ERROR] + witness.lines[WVK_LOG_WARN], 0);
}

Test(wvk_compute, chain_resubmitted) {
  run_chain(NULL, false);
}
Test(wvk_compute, chain_tier0) {
  run_chain("tier0", false);
}
Test(wvk_compute, chain_validated) {
  run_chain(NULL, true);
}
Test(wvk_compute, chain_tier0_validated) {
  run_chain("tier0", true);
}

Test(wvk_compute, validation_by_environment) {
  setenv("WISP_VALIDATE", "1", 1);
  run_chain(NULL, false);
}

/* Deliberate errors: if these go unreported, a silent layer means nothing. (Write after write, which layer 1.3.239 does not
 * see, is no use here: the second kernel reads what the first one writes, or the other way round.) */
static void missing_barrier(bool read_first) {
  setenv("WISP_VALIDATE", "1", 1);
  wvk_witness witness;
  wvk_device *device = open_device(&witness, NULL, false);
  chain writer = chain_open(device), reader = chain_open(device);
  wvk_set_destroy(&reader.set);
  const wvk_binding bindings[] = {{writer.sums, 0, CHAIN_WINDOW}, {reader.sums, 0, CHAIN_WINDOW}};
  cr_assert_eq(wvk_set_create(&reader.set, reader.layout, bindings), WVK_OK);
  for (int barriers = 1; barriers >= 0; barriers--) {
    wvk_commands *commands;
    cr_assert_eq(wvk_commands_create(&commands, device, 0), WVK_OK);
    cr_assert_eq(wvk_commands_begin(commands), WVK_OK);
    chain_dispatch(read_first ? &reader : &writer, commands, 0, 1);
    if (barriers) wvk_cmd_barrier(commands);
    chain_dispatch(read_first ? &writer : &reader, commands, 0, 1);
    cr_assert_eq(wvk_commands_end(commands), WVK_OK);
    cr_assert_eq(wvk_device_counters(device).validation_messages > 0, !barriers);
    wvk_commands_destroy(&commands);
  }
  cr_assert(strstr(witness.last[WVK_LOG_ERROR], "validation: "));
  cr_assert(strstr(witness.last[WVK_LOG_ERROR], "SYNC-HAZARD"), "%s", witness.last[WVK_LOG_ERROR]);
  chain_close(&writer);
  chain_close(&reader);
  wvk_device_destroy(&device);
}

Test(wvk_compute, canary_read_after_write) {
  missing_barrier(false);
}
Test(wvk_compute, canary_write_after_read) {
  missing_barrier(true);
}

Test(wvk_compute, canary_dynamic_offset) {
  wvk_witness witness;
  wvk_device *device = open_device(&witness, NULL, true);
  chain c = chain_open(device);
  const uint32_t outside = CHAIN_WINDOWS;
  wvk_commands *commands = record(&c, &outside, 1, 0, true);
  cr_assert_gt(wvk_device_counters(device).validation_messages, 0);
  wvk_commands_destroy(&commands);
  chain_close(&c);
  wvk_device_destroy(&device);
}

Test(wvk_compute, several_commands_in_one_submit) {
  wvk_witness witness;
  wvk_device *device = open_device(&witness, NULL, true);
  chain c = chain_open(device);
  wvk_commands *parts[ORDER];
  for (int i = 0; i < ORDER; i++) parts[i] = record(&c, &order[i], 1, 0, false); /* each ends with a barrier of its own */
  for (uint32_t times = 1; times <= 4; times++) {
    cr_assert_eq(wvk_submit(device, parts, ORDER), WVK_OK);
    cr_assert_eq(wvk_wait(parts[times % ORDER], UINT64_MAX), WVK_OK);
    check_sums(&c, order, ORDER, times);
  }
  /* The last one goes away and its fence with it: the others may still be waited for, and submitted on their own. */
  wvk_commands_destroy(&parts[ORDER - 1]);
  cr_assert_eq(wvk_wait(parts[0], UINT64_MAX), WVK_OK);
  cr_assert_eq(wvk_submit(device, &parts[1], 1), WVK_OK);
  cr_assert_eq(wvk_submit(device, &parts[2], 1), WVK_OK);
  cr_assert_eq(wvk_wait(parts[0], 0), WVK_OK);
  cr_assert_eq(wvk_wait(parts[1], UINT64_MAX), WVK_OK);
  cr_assert_eq(wvk_wait(parts[2], UINT64_MAX), WVK_OK);
  cr_assert_eq(wvk_device_counters(device).submits, 6);
  for (int i = 0; i < ORDER; i++) wvk_commands_destroy(&parts[i]);
  chain_close(&c);
  cr_assert_eq(wvk_device_counters(device).validation_messages, 0);
  wvk_device_destroy(&device);
  cr_assert_eq(witness.live, 0);
}

Test(wvk_compute, wait_runs_out_of_time) {
  wvk_witness witness;
  wvk_device *device = open_device(&witness, NULL, false);
  chain c = chain_open(device);
  wvk_commands *commands;
  cr_assert_eq(wvk_commands_create(&commands, device, 0), WVK_OK);
  cr_assert_eq(wvk_commands_begin(commands), WVK_OK);
  chain_dispatch(&c, commands, 0, 300000);
  cr_assert_eq(wvk_commands_end(commands), WVK_OK);
  cr_assert_eq(wvk_submit(device, &commands, 1), WVK_OK);
  cr_assert_eq(wvk_wait(commands, 1000), WVK_TIMEOUT);
  cr_assert_eq(wvk_wait(commands, UINT64_MAX), WVK_OK);
  cr_assert_eq(wvk_wait(commands, 0), WVK_OK);
  wvk_commands_destroy(&commands);
  chain_close(&c);
  wvk_device_destroy(&device);
}

Test(wvk_compute, copy_and_fill) {
  wvk_witness witness;
  wvk_device *device = open_device(&witness, NULL, true);
  wvk_buffer *from, *to;
  cr_assert_eq(wvk_buffer_create(&from, device, "from", 1024, WVK_MEMORY_DEVICE), WVK_OK);
  cr_assert_eq(wvk_buffer_create(&to, device, "to", 1024, WVK_MEMORY_READBACK), WVK_OK);
  wvk_commands *commands;
  cr_assert_eq(wvk_commands_create(&commands, device, 0), WVK_OK);
  cr_assert_eq(wvk_commands_begin(commands), WVK_OK);
  wvk_cmd_fill(commands, from, 0, 1024, 0x01020304);
  wvk_cmd_transfer_barrier(commands);
  wvk_cmd_copy(commands, from, 256, to, 512, 256);
  cr_assert_eq(wvk_commands_end(commands), WVK_OK);
  cr_assert_eq(wvk_submit(device, &commands, 1), WVK_OK);
  cr_assert_eq(wvk_wait(commands, UINT64_MAX), WVK_OK);
  wvk_buffer_invalidate(to, 0, 1024);
  const uint32_t *words = wvk_buffer_map(to);
  for (int i = 0; i < 256; i++) cr_assert_eq(words[i], i >= 128 && i < 192 ? 0x01020304 : 0, "word %d", i);
  wvk_commands_destroy(&commands);
  wvk_buffer_destroy(&from);
  wvk_buffer_destroy(&to);
  cr_assert_eq(wvk_device_counters(device).validation_messages, 0);
  wvk_device_destroy(&device);
}

Test(wvk_compute, timestamps) {
  wvk_witness witness;
  wvk_device *device = open_device(&witness, NULL, false);
  chain c = chain_open(device);
  wvk_commands *commands = record(&c, order, ORDER, ORDER, true);
  double ns[ORDER];
  cr_assert(!wvk_commands_times(commands, ns), "nothing has run yet");
  bool has = wvk_device_caps(device)->timestamp_ns > 0;
  for (int times = 0; times < 2; times++) {
    cr_assert_eq(wvk_submit(device, &commands, 1), WVK_OK);
    cr_assert_eq(wvk_wait(commands, UINT64_MAX), WVK_OK);
    cr_assert_eq(wvk_commands_times(commands, ns), has);
    if (!has) continue;
    cr_assert_eq(ns[0], 0);
    for (int i = 1; i < ORDER; i++) cr_assert(ns[i] >= ns[i - 1] && ns[i] < 60e9, "slot %d: %g after %g", i, ns[i], ns[i - 1]);
    cr_assert_gt(ns[ORDER - 1], 0);
  }
  wvk_commands_destroy(&commands);
  chain_close(&c);
  wvk_device_destroy(&device);

  device = open_device(&witness, "-timestamps", false);
  c = chain_open(device);
  commands = record(&c, order, ORDER, ORDER, true);
  cr_assert_eq(wvk_submit(device, &commands, 1), WVK_OK);
  cr_assert_eq(wvk_wait(commands, UINT64_MAX), WVK_OK);
  cr_assert(!wvk_commands_times(commands, ns));
  check_sums(&c, order, ORDER, 1);
  wvk_commands_destroy(&commands);
  chain_close(&c);
  wvk_device_destroy(&device);
}

enum { MANY = 12 };

Test(wvk_compute, pipelines_on_threads) {
  wvk_witness witness;
  wvk_device *device = open_device(&witness, NULL, false);
  chain c = chain_open(device);
  uint32_t before = wvk_device_counters(device).pipelines_built;
  uint32_t constants[MANY][3];
  wvk_pipeline_params params[MANY];
  for (uint32_t i = 0; i < MANY; i++) {
    constants[i][0] = 32 + i;
    constants[i][1] = i;
    constants[i][2] = 0;
    params[i] = chain_params("many", constants[i]);
  }
  constants[5][0] = wvk_device_caps(device)->max_workgroup + 1; /* not possible */
  wvk_pipeline *pipelines[MANY];
  wvk_status results[MANY];
  wisp_crew crew;
  wisp_crew_open(&crew);
  cr_assert_eq(wisp_pipelines_create(&crew, 4, pipelines, results, c.layout, params, MANY), WVK_ERROR_DRIVER);
  wisp_crew_close(&crew);
  for (uint32_t i = 0; i < MANY; i++) {
    cr_assert_eq(results[i], i == 5 ? WVK_ERROR_DRIVER : WVK_OK);
    cr_assert_eq(pipelines[i] != NULL, i != 5);
    if (pipelines[i]) cr_assert_str_eq(wvk_pipeline_name(pipelines[i]), "many");
    wvk_pipeline_destroy(&pipelines[i]);
  }
  cr_assert_eq(witness.lines[WVK_LOG_WARN], 1, "the refused one is said once, as a warning");
  cr_assert_eq(witness.lines[WVK_LOG_ERROR], 0);
  cr_assert_leq(wvk_device_counters(device).pipelines_built - before, MANY - 1);
  chain_close(&c);
  wvk_device_destroy(&device);
  cr_assert_eq(witness.live, 0);
}

Test(wvk_compute, required_subgroup_size) {
  wvk_witness witness;
  wvk_device *device = open_device(&witness, NULL, true);
  const wvk_caps *caps = wvk_device_caps(device);
  chain c = chain_open(device);
  const uint32_t constants[] = {64};
  for (uint32_t size = 4; size <= 128; size *= 2) {
    const wvk_pipeline_params params = {.name = "subgroup_size",
                                        .spirv = subgroup_size_spirv,
                                        .spirv_bytes = subgroup_size_bytes,
                                        .constants = constants,
                                        .constant_count = 1,
                                        .subgroup_size = size};
    bool possible = caps->subgroup_size_control && size >= caps->subgroup_min && size <= caps->subgroup_max;
    wvk_pipeline *pipeline;
    cr_assert_eq(wvk_pipeline_create(&pipeline, c.layout, &params), possible ? WVK_OK : WVK_ERROR_DRIVER);
    if (!possible) continue;
    wvk_commands *commands;
    cr_assert_eq(wvk_commands_create(&commands, device, 0), WVK_OK);
    cr_assert_eq(wvk_commands_begin(commands), WVK_OK);
    wvk_cmd_bind_pipeline(commands, pipeline);
    wvk_cmd_bind_set(commands, c.set, &(uint32_t){0});
    wvk_cmd_dispatch(commands, 2, 1, 1);
    cr_assert_eq(wvk_commands_end(commands), WVK_OK);
    cr_assert_eq(wvk_submit(device, &commands, 1), WVK_OK);
    cr_assert_eq(wvk_wait(commands, UINT64_MAX), WVK_OK);
    wvk_buffer_invalidate(c.sums, 0, 512);
    const uint32_t *sizes = wvk_buffer_map(c.sums);
    for (int i = 0; i < 128; i++) cr_assert_eq(sizes[i], size);
    wvk_commands_destroy(&commands);
    wvk_pipeline_destroy(&pipeline);
  }
  cr_assert_eq(wvk_device_counters(device).validation_messages, 0);
  chain_close(&c);
  wvk_device_destroy(&device);
}

Test(wvk_compute, sets_and_layouts_refused) {
  wvk_witness witness;
  wvk_device *device = open_device(&witness, "tier0", false);
  chain c = chain_open(device);
  const wvk_binding bad[][2] = {
      {{c.window, 16, 64}, {c.sums, 0, 64}},                         /* not aligned */
      {{c.window, 0, 64}, {c.sums, 0, 1 << 20}},                     /* past the end */
      {{c.window, UINT64_C(1) << 40, 64}, {c.sums, 0, 64}},          /* begins past the end */
      {{c.window, 0, 0}, {c.sums, 0, 64}},                           /* empty */
      {{c.window, 256, wvk_buffer_size(c.window)}, {c.sums, 0, 64}}, /* one too far */
  };
  unsigned errors = 0;
  wvk_set *set;
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    cr_assert_eq(wvk_set_create(&set, c.layout, bad[i]), WVK_ERROR_DRIVER, "case %zu", i);
    cr_assert_null(set);
    cr_assert_eq(witness.lines[WVK_LOG_ERROR], ++errors);
  }
  wvk_layout *layout;
  cr_assert_eq(wvk_layout_create(&layout, device, 9, 0, 0), WVK_ERROR_DRIVER);
  cr_assert_eq(wvk_layout_create(&layout, device, 8, 0x1f, 0), WVK_ERROR_DRIVER);
  cr_assert_eq(wvk_layout_create(&layout, device, 8, 0x0f, 132), WVK_ERROR_DRIVER);
  cr_assert_eq(wvk_layout_create(&layout, device, 8, 0x0f, 128), WVK_OK);
  wvk_layout_destroy(&layout);
  chain_close(&c);
  wvk_device_destroy(&device);
  cr_assert_eq(witness.live, 0);
}

Test(wvk_compute, statistics) {
  wvk_witness witness;
  wvk_device *device = open_device(&witness, NULL, true);
  chain c = chain_open(device);
  char text[4096] = "x", little[4] = "xxx";
  size_t length = wvk_pipeline_statistics(c.pipeline, text, sizeof text);
  cr_assert_eq(length, strlen(text));
  cr_assert_eq(length > 0, wvk_device_caps(device)->pipeline_statistics, "%s", text);
  cr_assert_eq(wvk_pipeline_statistics(c.pipeline, little, sizeof little), length);
  cr_assert_lt(strlen(little), sizeof little);
  chain_close(&c);
  cr_assert_eq(wvk_device_counters(device).validation_messages, 0);
  wvk_device_destroy(&device);
}

static wvk_device *reopen(wvk_device *device, chain *c, wvk_witness *witness) {
  if (c->device) chain_close(c);
  c->device = NULL;
  wvk_device_destroy(&device);
  return open_device(witness, NULL, false);
}

Test(wvk_compute, cache) {
  wvk_witness witness;
  chain c = {0};
  wvk_device *device = reopen(NULL, &c, &witness);
  char key[64], key_again[64];
  wvk_cache_key(device, key);
  cr_assert_eq(strspn(key, "0123456789abcdef-"), strlen(key));
  c = chain_open(device);
  size_t size = 0;
  cr_assert_eq(wvk_cache_save(device, NULL, &size), WVK_OK);
  cr_assert_gt(size, 0);
  unsigned char *data = malloc(size), *damaged = malloc(size + 1);
  size_t small = size - 1;
  cr_assert_eq(wvk_cache_save(device, data, &small), WVK_ERROR_MEMORY);
  cr_assert_eq(small, size);
  cr_assert_eq(wvk_cache_save(device, data, &size), WVK_OK);
  cr_assert(!wvk_cache_load(device, data, size), "pipelines exist: too late");

  device = reopen(device, &c, &witness);
  wvk_cache_key(device, key_again);
  cr_assert_str_eq(key, key_again);
  cr_assert(!wvk_cache_load(device, NULL, 0));
  for (size_t cut = 0; cut < size; cut += cut < 64 ? 1 : size / 50 + 1)
    cr_assert(!wvk_cache_load(device, data, cut), "%zu", cut);
  for (size_t at = 0; at < size; at += at < 64 ? 1 : size / 200 + 1) {
    memcpy(damaged, data, size);
    damaged[at] ^= 0x10;
    cr_assert(!wvk_cache_load(device, damaged, size), "byte %zu", at);
  }
  memcpy(damaged, data, size);
  cr_assert(!wvk_cache_load(device, damaged, size + 1));
  cr_assert(wvk_cache_load(device, data, size));
  cr_assert(wvk_cache_load(device, data, size), "still before the first pipeline");
  c = chain_open(device);
  wvk_commands *commands = record(&c, order, ORDER, 0, true);
  cr_assert_eq(wvk_submit(device, &commands, 1), WVK_OK);
  cr_assert_eq(wvk_wait(commands, UINT64_MAX), WVK_OK);
  check_sums(&c, order, ORDER, 1);
  wvk_commands_destroy(&commands);
  chain_close(&c);
  wvk_device_destroy(&device);
  free(data);
  free(damaged);
}

struct worker {
  wvk_device *device;
  const char *problem;
};

static void *submit_many(void *user) {
  struct worker *worker = user;
  chain c = chain_open(worker->device);
  wvk_commands *commands = record(&c, order, ORDER, 0, true);
  for (uint32_t times = 1; times <= 20; times++) {
    if (wvk_submit(worker->device, &commands, 1) != WVK_OK) worker->problem = "submit";
    if (wvk_wait(commands, UINT64_MAX) != WVK_OK) worker->problem = "wait";
  }
  check_sums(&c, order, ORDER, 20);
  wvk_commands_destroy(&commands);
  chain_close(&c);
  return NULL;
}

Test(wvk_compute, submits_from_threads) {
  wvk_witness witness;
  wvk_device *device = open_device(&witness, NULL, true);
  struct worker workers[3] = {{device, NULL}, {device, NULL}, {device, NULL}};
  pthread_t threads[3];
  for (int i = 0; i < 3; i++) cr_assert_eq(pthread_create(&threads[i], NULL, submit_many, &workers[i]), 0);
  for (int i = 0; i < 3; i++) {
    pthread_join(threads[i], NULL);
    cr_assert_null(workers[i].problem, "%s", workers[i].problem);
  }
  wvk_counters counters = wvk_device_counters(device);
  cr_assert_eq(counters.submits, 60);
  cr_assert_eq(counters.dispatches, 60 * ORDER);
  cr_assert_eq(counters.validation_messages, 0);
  wvk_device_destroy(&device);
  cr_assert_eq(witness.live, 0);
}
