/* SPDX-License-Identifier: Apache-2.0
 * The pickle of a state dict as torch.save writes it. A pickle is a program; this machine knows the instructions that build
 * dicts, tuples, strings and numbers, and of all the functions in the world two: rebuilding a tensor, and an empty OrderedDict.
 * It imports and executes nothing. */
#ifndef WISP_MODEL_PICKLE_H
#define WISP_MODEL_PICKLE_H

#include "base/arena.h"
#include "model/gguf.h"

typedef struct wisp_pickled {
  wisp_text name;
  wisp_text storage; /* key of the storage: the file "data/KEY" of the archive */
  const wisp_dtype_info *type;
  uint64_t storage_weights, offset; /* of the storage; where the tensor begins in it, in weights */
  uint32_t dimensions;              /* 0 to 4 */
  uint64_t shape[4];                /* row-major without gaps; may be 0; not yet checked against the storage */
} wisp_pickled;

typedef struct wisp_pickled_dict {
  wisp_pickled *tensors; /* in the arena */
  size_t count;
} wisp_pickled_dict;

/* file: for messages. Texts point into bytes; memory is bounded by a multiple of size. A pickle that names any other function
 * or class: UNSUPPORTED, and the line says which. */
wisp_status wisp_pickle_read(wisp_pickled_dict *dict, wisp_arena *arena, const char *file, const uint8_t *bytes, size_t size);

#endif
