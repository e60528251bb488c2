/* SPDX-License-Identifier: Apache-2.0
 * A fuzzer's own main: mutations of built-in inputs, the same for the same seed. For -DWISP_FUZZ_STANDALONE programs. */
#ifndef WISP_TESTS_MUTATIONS_H
#define WISP_TESTS_MUTATIONS_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "unit/checkpoint_builder.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static inline uint64_t next_random(uint64_t *state) { /* xorshift64* */
  *state ^= *state >> 12;
  *state ^= *state << 25;
  *state ^= *state >> 27;
  return *state * 0x2545f4914f6cdd1d;
}

/* Changes 1 to 4 places; returns the new size. */
static inline size_t mutate(uint8_t *bytes, size_t size, uint64_t *random) {
  static const char words[] = "0123456789{}[],:\"(.)RQ\x80\xff";
  for (uint64_t changes = 1 + next_random(random) % 4; changes; changes--) {
    size_t at = next_random(random) % size, from = next_random(random) % size;
    size_t length = 1 + next_random(random) % 24;
    if (length > size - at) length = size - at;
    if (length > size - from) length = size - from;
    switch (next_random(random) % 5) {
    case 0:
      bytes[at] ^= (uint8_t)(1 << next_random(random) % 8);
      break;
    case 1:
      bytes[at] = (uint8_t)next_random(random);
      break;
    case 2:
      bytes[at] = (uint8_t)words[next_random(random) % (sizeof words - 1)];
      break;
    case 3:
      memset(bytes + at, next_random(random) % 2 ? 0xff : 0, length);
      break;
    case 4: /* the bytes of one place in another */
      memmove(bytes + at, bytes + from, length);
      break;
    }
  }
  return next_random(random) % 16 ? size : next_random(random) % size;
}

/* PROGRAM [iterations [seed]] */
static inline int run_mutations(const char *name, blob (*build)(void), int argc, char **argv) {
  uint64_t iterations = argc > 1 ? strtoull(argv[1], NULL, 10) : 20000;
  uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 10) : 1, random = seed * 2 + 1, read = 0;
  blob original = build();
  if (LLVMFuzzerTestOneInput(original.data, original.size) != 0) {
    fprintf(stderr, "%s: the built-in input is refused\n", name);
    return 1;
  }
  uint8_t *copy = malloc(original.size);
  for (uint64_t i = 0; i < iterations && copy; i++) {
    memcpy(copy, original.data, original.size);
    size_t size = mutate(copy, original.size, &random);
    uint8_t *exact = malloc(size ? size : 1); /* so that one byte too far is seen */
    if (!exact) abort();
    memcpy(exact, copy, size);
    read += LLVMFuzzerTestOneInput(exact, size) == 0;
    free(exact);
  }
  free(copy);
  blob_free(&original);
  printf("%s: %llu inputs from seed %llu, %llu read, the rest refused\n", name, (unsigned long long)iterations,
         (unsigned long long)seed, (unsigned long long)read);
  return 0;
}

#endif
