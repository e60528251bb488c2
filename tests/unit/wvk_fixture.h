/* SPDX-License-Identifier: Apache-2.0
 * A device to test with, a host that counts, and one small kernel. Every test has a process of its own (Criterion), so the
 * environment may be set; a machine without a Vulkan driver fails. */
#ifndef WISP_TESTS_WVK_FIXTURE_H
#define WISP_TESTS_WVK_FIXTURE_H

#include "wvk.h"

#include <stdatomic.h>

typedef struct wvk_witness {
  char last[WVK_LOG_DEBUG + 1][1024]; /* the last line of each level */
  atomic_uint lines[WVK_LOG_DEBUG + 1];
  atomic_uint allocations; /* asked for */
  unsigned fail_at;        /* the allocation that fails, from 1 on; 0 = none */
  atomic_int live;         /* blocks not freed */
} wvk_witness;

wvk_host witness_host(wvk_witness *witness); /* zeroes it */

/* Opens the best device under WISP_CAPS = caps (NULL: unset); the test fails where there is none. */
wvk_device *open_device(wvk_witness *witness, const char *caps, bool validate);

/* chain.comp on a window buffer (dynamic binding 0) and a sums buffer, both host-visible. */
typedef struct chain {
  wvk_device *device;
  wvk_buffer *window, *sums;
  wvk_layout *layout;
  wvk_set *set;
  wvk_pipeline *pipeline;
} chain;

#define CHAIN_COUNT 1000u /* sums */
#define CHAIN_WINDOWS 3u  /* windows of CHAIN_WINDOW bytes; window w holds (w + 1) * 7 + i */
#define CHAIN_WINDOW 4096u
#define CHAIN_FACTOR 3u
#define CHAIN_ADDEND 5u

wvk_pipeline_params chain_params(const char *name, const uint32_t constants[3]);
chain chain_open(wvk_device *device);
void chain_close(chain *c);
void chain_dispatch(chain *c, wvk_commands *commands, uint32_t window, uint32_t rounds);
uint32_t chain_next(uint32_t sum, uint32_t window, uint32_t i); /* what a dispatch of one round makes of sums[i] */

extern const uint32_t *const subgroup_size_spirv;
extern const size_t subgroup_size_bytes;

#endif
