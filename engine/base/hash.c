/* SPDX-License-Identifier: Apache-2.0 */
#include "base/hash.h"

#include <string.h>

#include "base/little_endian.h"

enum { ROUND = 8 * WISP_HASH_LANES }; /* bytes that all lanes take together */

/* Odd, so that a step loses nothing: streams that differ in one word never have the same hash. The fraction of the golden
 * ratio. */
#define FACTOR 0x9E3779B97F4A7C15u

static uint64_t step(uint64_t lane, uint64_t word) {
  const uint64_t x = (lane ^ word) * FACTOR;
  return x ^ x >> 32;
}

static void take_round(wisp_hash *hash, const uint8_t *bytes) {
  for (uint32_t i = 0; i < WISP_HASH_LANES; i++) hash->lanes[i] = step(hash->lanes[i], wisp_load_u64(bytes + 8 * i));
}

void wisp_hash_begin(wisp_hash *hash) {
  *hash = (wisp_hash){.lanes = {1, 2, 3, 4}};
}

void wisp_hash_add(wisp_hash *hash, const void *data, size_t size) {
  const uint8_t *bytes = data;
  const size_t held = hash->size % ROUND;
  if (!size) return;
  hash->size += size;
  if (held) {
    const size_t part = size < ROUND - held ? size : ROUND - held;
    memcpy(hash->tail + held, bytes, part);
    if (held + part < ROUND) return;
    take_round(hash, hash->tail);
    bytes += part;
    size -= part;
  }
  for (; size >= ROUND; bytes += ROUND, size -= ROUND) take_round(hash, bytes);
  if (size) memcpy(hash->tail, bytes, size);
}

void wisp_hash_add_u32(wisp_hash *hash, uint32_t value) {
  uint8_t bytes[4];
  wisp_store_u32(bytes, value);
  wisp_hash_add(hash, bytes, sizeof bytes);
}

uint64_t wisp_hash_end(const wisp_hash *hash) {
  wisp_hash last = *hash;
  const size_t held = last.size % ROUND;
  if (held) {
    memset(last.tail + held, 0, ROUND - held);
    take_round(&last, last.tail);
  }
  uint64_t sum = step(FACTOR, last.size);
  for (uint32_t i = 0; i < WISP_HASH_LANES; i++) sum = step(sum, last.lanes[i]);
  return sum;
}

uint64_t wisp_hash_bytes(const void *data, size_t size) {
  wisp_hash hash;
  wisp_hash_begin(&hash);
  wisp_hash_add(&hash, data, size);
  return wisp_hash_end(&hash);
}
