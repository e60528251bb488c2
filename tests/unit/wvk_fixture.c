/* SPDX-License-Identifier: Apache-2.0 */
#include "wvk_fixture.h"
#include "chain.h"
#include "subgroup_size.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const uint32_t *const subgroup_size_spirv = spirv_subgroup_size;
const size_t subgroup_size_bytes = sizeof spirv_subgroup_size;

static void on_log(void *user, wvk_log_level level, const char *text) {
  wvk_witness *witness = user;
  atomic_fetch_add(&witness->lines[level], 1);
  snprintf(witness->last[level], sizeof witness->last[level], "%s", text);
}

static void *on_reallocate(void *user, void *pointer, size_t size) {
  wvk_witness *witness = user;
  if (size == 0) {
    if (pointer) atomic_fetch_sub(&witness->live, 1);
    free(pointer);
    return NULL;
  }
  if (atomic_fetch_add(&witness->allocations, 1) + 1 == witness->fail_at) return NULL;
  void *block = realloc(pointer, size);
  if (block && !pointer) atomic_fetch_add(&witness->live, 1);
  return block;
}

wvk_host witness_host(wvk_witness *witness) {
  memset(witness, 0, sizeof *witness);
  return (wvk_host){.log = on_log, .log_user = witness, .reallocate = on_reallocate, .memory_user = witness};
}

wvk_device *open_device(wvk_witness *witness, const char *caps, bool validate) {
  if (caps)
    setenv("WISP_CAPS", caps, 1);
  else
    unsetenv("WISP_CAPS");
  wvk_device *device;
  const wvk_device_params params = {.host = witness_host(witness), .index = -1, .validate = validate};
  cr_assert_eq(wvk_device_create(&device, &params), WVK_OK, "a Vulkan device is needed (Debian: mesa-vulkan-drivers): %s",
               witness->last[WVK_LOG_ERROR]);
  return device;
}

wvk_pipeline_params chain_params(const char *name, const uint32_t constants[3]) {
  return (wvk_pipeline_params){
      .name = name, .spirv = spirv_chain, .spirv_bytes = sizeof spirv_chain, .constants = constants, .constant_count = 3};
}

chain chain_open(wvk_device *device) {
  chain c = {.device = device};
  const uint64_t sums_bytes = CHAIN_WINDOW; /* so that it can serve as a window */
  cr_assert_eq(wvk_buffer_create(&c.window, device, "window", CHAIN_WINDOWS * CHAIN_WINDOW, WVK_MEMORY_SHARED), WVK_OK);
  cr_assert_eq(wvk_buffer_create(&c.sums, device, "sums", sums_bytes, WVK_MEMORY_READBACK), WVK_OK);
  uint32_t *words = wvk_buffer_map(c.window);
  for (uint32_t w = 0; w < CHAIN_WINDOWS; w++)
    for (uint32_t i = 0; i < CHAIN_WINDOW / 4; i++) words[w * (CHAIN_WINDOW / 4) + i] = (w + 1) * 7 + i;
  wvk_buffer_flush(c.window, 0, wvk_buffer_size(c.window));

  cr_assert_eq(wvk_layout_create(&c.layout, device, 2, 1u << 0, 8), WVK_OK);
  const wvk_binding bindings[] = {{c.window, 0, CHAIN_WINDOW}, {c.sums, 0, sums_bytes}};
  cr_assert_eq(wvk_set_create(&c.set, c.layout, bindings), WVK_OK);
  const float addend = CHAIN_ADDEND;
  uint32_t constants[3] = {64, CHAIN_FACTOR, 0};
  memcpy(&constants[2], &addend, 4);
  wvk_pipeline_params params = chain_params("chain", constants);
  params.statistics = true;
  cr_assert_eq(wvk_pipeline_create(&c.pipeline, c.layout, &params), WVK_OK);
  return c;
}

void chain_close(chain *c) {
  wvk_pipeline_destroy(&c->pipeline);
  wvk_set_destroy(&c->set);
  wvk_layout_destroy(&c->layout);
  wvk_buffer_destroy(&c->sums);
  wvk_buffer_destroy(&c->window);
}

void chain_dispatch(chain *c, wvk_commands *commands, uint32_t window, uint32_t rounds) {
  const uint32_t offset = window * CHAIN_WINDOW, push[] = {CHAIN_COUNT, rounds};
  wvk_cmd_bind_pipeline(commands, c->pipeline);
  wvk_cmd_bind_set(commands, c->set, &offset);
  wvk_cmd_push(commands, c->layout, push, sizeof push);
  wvk_cmd_dispatch(commands, (CHAIN_COUNT + 63) / 64, 1, 1);
}

uint32_t chain_next(uint32_t sum, uint32_t window, uint32_t i) {
  return sum * CHAIN_FACTOR + (window + 1) * 7 + i + CHAIN_ADDEND;
}
