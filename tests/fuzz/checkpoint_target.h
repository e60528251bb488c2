/* SPDX-License-Identifier: Apache-2.0
 * What the fuzzers of both weight containers ask of a reader. */
#ifndef WISP_TESTS_CHECKPOINT_TARGET_H
#define WISP_TESTS_CHECKPOINT_TARGET_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/checkpoint.h"
#include "unit/capture.h"

static inline void require(bool ok, const char *what) {
  if (ok) return;
  fprintf(stderr, "fuzz: violated: %s\n", what);
  abort();
}

/* One line and nothing left, or tensors whose bytes are all there. Returns 0 if the input was read. */
static inline int check_reader(wisp_status (*read)(wisp_checkpoint *checkpoint, const wisp_bytes *file), const uint8_t *data,
                               size_t size) {
  static char name[] = "fuzz";
  static volatile uint64_t touched; /* so that no read is optimised away */
  capture said;
  wisp_host host = capture_host(&said);
  wisp_checkpoint c = {.host = &host, .arena = {.host = &host}};
  wisp_status status = read(&c, &(wisp_bytes){.data = data, .size = size, .name = name});
  if (status == WISP_OK) status = wisp_checkpoint_index(&c);
  require(said.errors == (status == WISP_OK ? 0 : 1), "one line for a failure, none otherwise");
  require(said.largest <= 64 * size + 131072, "memory is bounded by the size of the file");
  uint64_t sum = 0;
  for (size_t i = 0; i < c.count && status == WISP_OK; i++) {
    require(c.tensors[i].data >= data && c.tensors[i].bytes <= size - (size_t)(c.tensors[i].data - data),
            "data is in the file");
    for (uint64_t k = 0; k < c.tensors[i].bytes; k++) sum += c.tensors[i].data[k];
  }
  touched = sum;
  (void)touched;
  wisp_checkpoint_close(&c);
  require(said.live == 0, "nothing stays allocated");
  return status == WISP_OK ? 0 : -1;
}

#endif
