/* SPDX-License-Identifier: Apache-2.0
 * Which checks a device has passed at earlier starts: a list of hashes in the host's cache, by driver and device. What the hash
 * is of decides what is taken on trust: all that the result depends on, save the weights' values. */
#ifndef WISP_GPU_TRUST_H
#define WISP_GPU_TRUST_H

#include "base/hash.h"
#include "base/host.h"
#include "gpu/kernels.h"

enum { WISP_TRUST_MAX = 64 }; /* checks; the oldest make room */

typedef struct wisp_trust {
  uint64_t passed[WISP_TRUST_MAX]; /* the latest first */
  uint32_t count;
  bool changed; /* since it was loaded or saved */
} wisp_trust;

/* Nothing where the cache has nothing, or what is damaged. */
void wisp_trust_load(wisp_trust *trust, const wisp_cache *cache, const wvk_device *device);
/* Only where something changed. */
void wisp_trust_save(wisp_trust *trust, const wisp_cache *cache, const wvk_device *device);

bool wisp_trust_has(const wisp_trust *trust, uint64_t check);
void wisp_trust_add(wisp_trust *trust, uint64_t check);

/* Adds what the results of a kernel depend on: code, constants, subgroup size. */
void wisp_trust_hash_kernel(wisp_hash *hash, const wisp_shader *shader, const uint32_t *constants, uint32_t count,
                            uint32_t subgroup_size);

#endif
