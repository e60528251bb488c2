/* SPDX-License-Identifier: Apache-2.0 */
#include "gpu/trust.h"

#include <stdio.h>
#include <string.h>

enum { VERSION = 2 }; /* goes up where the self-test comes to judge more */

typedef struct entry { /* in the cache */
  uint64_t version, count;
  uint64_t passed[WISP_TRUST_MAX];
  uint64_t sum; /* of all before it */
} entry;

static uint64_t sum_of(const entry *e) {
  return wisp_hash_bytes(e, offsetof(entry, sum));
}

static void key_of(const wvk_device *device, char key[80]) {
  char pipelines[64];
  wvk_cache_key(device, pipelines);
  snprintf(key, 80, "checked-%s", pipelines);
}

void wisp_trust_load(wisp_trust *trust, const wisp_cache *cache, const wvk_device *device) {
  char key[80];
  entry e;
  *trust = (wisp_trust){0};
  key_of(device, key);
  if (!cache->get || cache->get(cache->user, key, &e, sizeof e) != sizeof e) return;
  if (e.version != VERSION || e.count > WISP_TRUST_MAX || e.sum != sum_of(&e)) return;
  memcpy(trust->passed, e.passed, sizeof e.passed);
  trust->count = (uint32_t)e.count;
}

void wisp_trust_save(wisp_trust *trust, const wisp_cache *cache, const wvk_device *device) {
  char key[80];
  if (!cache->put || !trust->changed) return;
  entry e = {.version = VERSION, .count = trust->count};
  memcpy(e.passed, trust->passed, sizeof e.passed);
  e.sum = sum_of(&e);
  key_of(device, key);
  cache->put(cache->user, key, &e, sizeof e);
  trust->changed = false;
}

bool wisp_trust_has(const wisp_trust *trust, uint64_t check) {
  for (uint32_t i = 0; i < trust->count; i++)
    if (trust->passed[i] == check) return true;
  return false;
}

void wisp_trust_add(wisp_trust *trust, uint64_t check) {
  if (wisp_trust_has(trust, check)) return;
  if (trust->count < WISP_TRUST_MAX) trust->count++;
  memmove(trust->passed + 1, trust->passed, (trust->count - 1) * sizeof *trust->passed);
  trust->passed[0] = check;
  trust->changed = true;
}

void wisp_trust_hash_kernel(wisp_hash *hash, const wisp_shader *shader, const uint32_t *constants, uint32_t count,
                            uint32_t subgroup_size) {
  wisp_hash_add(hash, shader->name, strlen(shader->name) + 1);
  wisp_hash_add(hash, shader->spirv, shader->bytes);
  wisp_hash_add(hash, constants, count * sizeof *constants);
  wisp_hash_add_u32(hash, subgroup_size);
}
