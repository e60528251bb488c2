/* SPDX-License-Identifier: Apache-2.0
 * The runtime's devices, capabilities and memory. */
#include "wvk_fixture.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

Test(wvk_device, enumerate_and_open) {
  wvk_witness witness;
  wvk_host host = witness_host(&witness);
  wvk_caps caps[8];
  uint32_t count = 0, again = 0;
  cr_assert_eq(wvk_enumerate(&host, NULL, 0, &count), WVK_OK);
  cr_assert_gt(count, 0, "no Vulkan device: install a driver (Debian: mesa-vulkan-drivers)");
  cr_assert_eq(wvk_enumerate(&host, caps, 8, &again), WVK_OK);
  cr_assert_eq(count, again);
  cr_assert(caps[0].usable, "%s", caps[0].why_not);
  cr_assert_gt(strlen(caps[0].name), 0);
  cr_assert_geq(caps[0].max_workgroup, 256);
  cr_assert_eq(witness.live, 0);

  wvk_device *device;
  wvk_device_params params = {.host = host, .index = 0};
  cr_assert_eq(wvk_device_create(&device, &params), WVK_OK);
  cr_assert_eq(wvk_device_index(device), 0);
  cr_assert_str_eq(wvk_device_caps(device)->name, caps[0].name);
  wvk_device *second; /* several at once, an instance each */
  cr_assert_eq(wvk_device_create(&second, &params), WVK_OK);
  wvk_device_destroy(&device);
  cr_assert_null(device);
  wvk_device_destroy(&device);
  wvk_device_destroy(&second);
  cr_assert_eq(witness.live, 0);
  cr_assert_eq(witness.lines[WVK_LOG_ERROR], 0);

  params.index = (int32_t)count;
  cr_assert_eq(wvk_device_create(&device, &params), WVK_ERROR_NO_DEVICE);
  cr_assert_null(device);
  cr_assert_eq(witness.lines[WVK_LOG_ERROR], 1);
  cr_assert_eq(witness.live, 0);
}

Test(wvk_device, no_driver) {
  setenv("VK_DRIVER_FILES", "/nonexistent/driver.json", 1);
  wvk_witness witness;
  wvk_host host = witness_host(&witness);
  uint32_t count = 7;
  cr_assert_eq(wvk_enumerate(&host, NULL, 0, &count), WVK_OK);
  cr_assert_eq(count, 0);
  cr_assert_eq(witness.lines[WVK_LOG_WARN], 1);
  wvk_device *device;
  const wvk_device_params params = {.host = host, .index = -1};
  cr_assert_eq(wvk_device_create(&device, &params), WVK_ERROR_NO_DEVICE);
  cr_assert_eq(witness.lines[WVK_LOG_ERROR], 1);
  cr_assert_eq(witness.live, 0);
}

Test(wvk_device, tier0_is_the_floor) {
  wvk_witness witness;
  wvk_device *device = open_device(&witness, "tier0", false);
  const wvk_caps *caps = wvk_device_caps(device);
  cr_assert(caps->usable);
  cr_assert_str_eq(wvk_caps_tier(caps), "T0");
  cr_assert_eq(caps->max_workgroup, 256);
  cr_assert_eq(caps->shared_memory, 16384);
  cr_assert_eq(caps->push_constants, 128);
  cr_assert_eq(caps->storage_buffers, 8);
  cr_assert_eq(caps->dynamic_storage_buffers, 4);
  cr_assert_eq(caps->max_storage_range, 128u << 20);
  cr_assert_eq(caps->storage_alignment, 256);
  cr_assert_leq(caps->max_allocation, 1u << 30);
  cr_assert_eq(caps->timestamp_ns, 0);
  cr_assert(!caps->float16 && !caps->int8 && !caps->storage16 && !caps->storage8 && !caps->subgroup_arithmetic &&
            !caps->subgroup_shuffle && !caps->int_dot && !caps->memory_model && !caps->cooperative_matrix &&
            !caps->timeline_semaphore && !caps->subgroup_size_control);
  wvk_device_destroy(&device);
}

Test(wvk_device, caps_only_lower) {
  wvk_witness witness;
  wvk_device *device = open_device(&witness, NULL, false);
  const wvk_caps all = *wvk_device_caps(device);
  wvk_device_destroy(&device);

  device = open_device(&witness, "tier0,+float16,+subgroup,+timestamps,+int8", false);
  const wvk_caps *caps = wvk_device_caps(device);
  cr_assert_eq(caps->float16, all.float16);
  cr_assert_eq(caps->int8, all.int8);
  cr_assert_eq(caps->subgroup_arithmetic, all.subgroup_arithmetic);
  cr_assert_eq(caps->subgroup_shuffle, all.subgroup_shuffle);
  cr_assert_eq(caps->timestamp_ns, all.timestamp_ns);
  cr_assert(!caps->storage16);
  wvk_device_destroy(&device);

  device = open_device(&witness, "-subgroup,max_workgroup=4000000000,max_allocation=300000000,shared_memory=16384", false);
  caps = wvk_device_caps(device);
  cr_assert(!caps->subgroup_arithmetic && !caps->subgroup_shuffle);
  cr_assert_eq(caps->max_workgroup, all.max_workgroup);
  cr_assert_eq(caps->max_allocation, 300000000);
  cr_assert_eq(caps->shared_memory, 16384);
  cr_assert_eq(caps->float16, all.float16);
  wvk_device_destroy(&device);

  device = open_device(&witness, "kind=integrated,-int8,kind=discrete", false); /* the last word counts */
  caps = wvk_device_caps(device);
  cr_assert_eq(caps->kind, WVK_KIND_DISCRETE);
  cr_assert_eq(caps->unified_memory, all.unified_memory);
  cr_assert(!caps->int8);
  wvk_device_destroy(&device);

  device = open_device(&witness, "powervr-ge8320", false); /* subgroup size 1 in the field */
  caps = wvk_device_caps(device);
  cr_assert(!caps->subgroup_arithmetic && !caps->int_dot && caps->timestamp_ns == 0);
  cr_assert_eq(caps->shared_memory, 16384);
  cr_assert_leq(caps->max_workgroup, 512);
  cr_assert_geq(caps->storage_alignment, all.storage_alignment);
  wvk_device_destroy(&device);

  device = open_device(&witness, "adreno-610", false);
  caps = wvk_device_caps(device);
  cr_assert(!caps->storage16 && !caps->storage8);
  cr_assert_eq(caps->float16, all.float16);
  wvk_device_destroy(&device);
}

Test(wvk_device, caps_refused) {
  static const char *const bad[] = {"tier9",          "kind=phone",      "float16",         "+nonsense", "tier0,adreno-610",
                                    "max_workgroup=", "max_workgroup=x", "max_workgroup=0", "tier0,",    "shared_memory=1k"};
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    setenv("WISP_CAPS", bad[i], 1);
    wvk_witness witness;
    wvk_device *device;
    const wvk_device_params params = {.host = witness_host(&witness), .index = -1};
    cr_assert_eq(wvk_device_create(&device, &params), WVK_ERROR_NO_DEVICE, "%s", bad[i]);
    cr_assert_eq(witness.lines[WVK_LOG_ERROR], 1, "%s", bad[i]);
    cr_assert(strstr(witness.last[WVK_LOG_ERROR], "tier0") && strstr(witness.last[WVK_LOG_ERROR], "max_allocation"),
              "the line lists what is known: %s", witness.last[WVK_LOG_ERROR]);
    cr_assert_eq(witness.live, 0);
  }
}

Test(wvk_device, below_the_floor) {
  static const char *const weak[] = {"max_workgroup=255",        "shared_memory=16383",         "push_constants=127",
                                     "storage_buffers=7",        "max_storage_range=134217727", "storage_alignment=512",
                                     "dynamic_storage_buffers=3"};
  for (size_t i = 0; i < sizeof weak / sizeof *weak; i++) {
    setenv("WISP_CAPS", weak[i], 1);
    wvk_witness witness;
    wvk_device_params params = {.host = witness_host(&witness), .index = -1};
    wvk_caps caps;
    uint32_t count;
    cr_assert_eq(wvk_enumerate(&params.host, &caps, 1, &count), WVK_OK);
    cr_assert(!caps.usable && caps.why_not[0], "%s", weak[i]);
    cr_assert_str_eq(wvk_caps_tier(&caps), "-");
    wvk_device *device;
    cr_assert_eq(wvk_device_create(&device, &params), WVK_ERROR_NO_DEVICE, "%s", weak[i]);
    cr_assert_eq(witness.lines[WVK_LOG_ERROR], 1);
    cr_assert(strstr(witness.last[WVK_LOG_ERROR], caps.why_not), "%s", witness.last[WVK_LOG_ERROR]);
  }
}

Test(wvk_device, buffers) {
  wvk_witness witness;
  wvk_device *device = open_device(&witness, NULL, false);
  const wvk_caps *caps = wvk_device_caps(device);
  wvk_buffer *buffers[3];
  for (int kind = 0; kind < 3; kind++) {
    cr_assert_eq(wvk_buffer_create(&buffers[kind], device, "test", 5000, (wvk_memory)kind), WVK_OK);
    cr_assert_geq(wvk_buffer_size(buffers[kind]), 5000);
    cr_assert_eq(wvk_buffer_size(buffers[kind]) % caps->storage_alignment, 0);
    unsigned char *map = wvk_buffer_map(buffers[kind]);
    if (kind == WVK_MEMORY_DEVICE) {
      cr_assert_eq(map != NULL, caps->unified_memory);
      continue;
    }
    cr_assert_not_null(map);
    for (int i = 0; i < 5000; i++) cr_assert_eq(map[i], 0);
    memset(map, 1, 5000);
    wvk_buffer_flush(buffers[kind], 1, 4998);
    wvk_buffer_invalidate(buffers[kind], 4999, 1);
  }
  wvk_counters counters = wvk_device_counters(device);
  cr_assert_eq(counters.allocations, 3);
  cr_assert_eq(counters.maps, caps->unified_memory ? 3 : 2);
  cr_assert_geq(counters.allocated_bytes, 15000);
  for (int kind = 0; kind < 3; kind++) wvk_buffer_destroy(&buffers[kind]);
  counters = wvk_device_counters(device);
  cr_assert_eq(counters.allocated_bytes, 0);
  cr_assert_geq(counters.peak_allocated_bytes, 15000);

  wvk_buffer *huge;
  cr_assert_eq(wvk_buffer_create(&huge, device, "elephant", UINT64_C(1) << 60, WVK_MEMORY_DEVICE), WVK_ERROR_MEMORY);
  cr_assert_null(huge);
  cr_assert(strstr(witness.last[WVK_LOG_ERROR], "elephant"));
  cr_assert_eq(witness.lines[WVK_LOG_ERROR], 1);
  wvk_device_destroy(&device);
  cr_assert_eq(witness.live, 0);
}

enum { LANES = 3 };

/* Fills a device buffer in pieces of awkward sizes and reads it back. */
static void upload(const char *caps) {
  wvk_witness witness;
  wvk_device *device = open_device(&witness, caps, true);
  const uint64_t size = 3 * WVK_UPLOAD_CHUNK + 12345;
  static const uint64_t pieces[] = {1, 3, 4096, WVK_UPLOAD_CHUNK, 65537, WVK_UPLOAD_CHUNK - 1, 7, 0, WVK_UPLOAD_CHUNK};
  wvk_buffer *target, *readback;
  wvk_uploader *uploader;
  cr_assert_eq(wvk_buffer_create(&target, device, "target", size, WVK_MEMORY_DEVICE), WVK_OK);
  cr_assert_eq(wvk_buffer_create(&readback, device, "readback", size, WVK_MEMORY_READBACK), WVK_OK);
  cr_assert_eq(wvk_uploader_create(&uploader, device, LANES), WVK_OK);
  void *pointer;
  cr_assert_eq(wvk_uploader_map(uploader, 0, target, 0, WVK_UPLOAD_CHUNK + 1, &pointer), WVK_ERROR_MEMORY);
  cr_assert_eq(wvk_uploader_map(uploader, 0, target, wvk_buffer_size(target), 1, &pointer), WVK_ERROR_MEMORY);
  uint64_t done = 0;
  for (size_t p = 0; done < size; p++) {
    uint64_t piece = pieces[p % (sizeof pieces / sizeof *pieces)];
    if (piece > size - done) piece = size - done;
    cr_assert_eq(wvk_uploader_map(uploader, p % LANES, target, done, piece, &pointer), WVK_OK);
    unsigned char *bytes = pointer;
    for (uint64_t i = 0; i < piece; i++) bytes[i] = (unsigned char)((done + i) * 2654435761u >> 13);
    done += piece;
  }
  cr_assert_eq(wvk_uploader_finish(uploader), WVK_OK);
  cr_assert_eq(wvk_uploader_finish(uploader), WVK_OK); /* nothing to do */
  wvk_uploader_destroy(&uploader);

  wvk_commands *commands;
  cr_assert_eq(wvk_commands_create(&commands, device, 0), WVK_OK);
  cr_assert_eq(wvk_commands_begin(commands), WVK_OK);
  wvk_cmd_copy(commands, target, 0, readback, 0, size);
  cr_assert_eq(wvk_commands_end(commands), WVK_OK);
  cr_assert_eq(wvk_submit(device, &commands, 1), WVK_OK);
  cr_assert_eq(wvk_wait(commands, UINT64_MAX), WVK_OK);
  wvk_buffer_invalidate(readback, 0, size);
  const unsigned char *bytes = wvk_buffer_map(readback);
  for (uint64_t i = 0; i < size; i++)
    if (bytes[i] != (unsigned char)(i * 2654435761u >> 13)) cr_assert_fail("byte %llu", (unsigned long long)i);
  wvk_commands_destroy(&commands);
  wvk_buffer_destroy(&target);
  wvk_buffer_destroy(&readback);
  cr_assert_eq(wvk_device_counters(device).validation_messages, 0);
  wvk_device_destroy(&device);
  cr_assert_eq(witness.live, 0);
}

Test(wvk_device, upload_in_place) {
  upload(NULL);
}
Test(wvk_device, upload_staged) {
  upload("-unified_memory");
}

Test(wvk_device, allocation_failures) {
  for (unsigned fail_at = 1;; fail_at++) {
    wvk_witness witness;
    wvk_device_params params = {.host = witness_host(&witness), .index = -1};
    witness.fail_at = fail_at;
    wvk_device *device;
    wvk_status status = wvk_device_create(&device, &params);
    if (atomic_load(&witness.allocations) < fail_at) {
      cr_assert_eq(status, WVK_OK);
      cr_assert_gt(fail_at, 3);
      wvk_device_destroy(&device);
      cr_assert_eq(witness.live, 0);
      return;
    }
    /* Lists of layers and extensions are optional; anything else must be refused cleanly. */
    if (status != WVK_OK) {
      cr_assert_eq(status, WVK_ERROR_MEMORY);
      cr_assert_null(device);
      cr_assert_eq(witness.lines[WVK_LOG_ERROR], 1);
    }
    wvk_device_destroy(&device);
    cr_assert_eq(witness.live, 0);
  }
}
