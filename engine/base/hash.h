/* SPDX-License-Identifier: Apache-2.0
 * A 64-bit hash of a stream of bytes, as fast as memory: finds damage and tells contents apart, but is no protection against
 * someone who forges on purpose. However the stream is cut into pieces, the hash is the same. */
#ifndef WISP_BASE_HASH_H
#define WISP_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

enum { WISP_HASH_LANES = 4 };

typedef struct wisp_hash {
  uint64_t lanes[WISP_HASH_LANES]; /* words 0, 4, 8, ... of the stream, words 1, 5, 9, ..., and so on */
  uint64_t size;                   /* bytes taken */
  uint8_t tail[8 * WISP_HASH_LANES];
} wisp_hash;

void wisp_hash_begin(wisp_hash *hash);
void wisp_hash_add(wisp_hash *hash, const void *data, size_t size);
void wisp_hash_add_u32(wisp_hash *hash, uint32_t value); /* its bytes, little-endian */
uint64_t wisp_hash_end(const wisp_hash *hash);           /* hash may go on taking bytes */
uint64_t wisp_hash_bytes(const void *data, size_t size); /* of a whole block */

#endif
