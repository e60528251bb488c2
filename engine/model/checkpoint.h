/* SPDX-License-Identifier: Apache-2.0
 * The weights of a Hugging Face folder, as they are stored: safetensors or torch.save files, one or several with an index. The
 * files stay mapped, and are not trusted: whatever is said of a tensor is checked before it is used. */
#ifndef WISP_MODEL_CHECKPOINT_H
#define WISP_MODEL_CHECKPOINT_H

#include "base/arena.h"
#include "base/source.h"
#include "model/gguf.h"

typedef struct wisp_stored {
  wisp_text name;
  const wisp_dtype_info *type; /* f32, f16 or bf16 */
  uint32_t dimensions;         /* 0 to 4 */
  uint64_t shape[4];           /* shape[dimensions - 1] is contiguous; none is 0, unused ones are 1 */
  const uint8_t *data;         /* row-major, inside a mapped file; not aligned */
  uint64_t bytes;
  const char *file; /* for messages */
} wisp_stored;

enum { WISP_STORED_DIMENSIONS = 4 };

typedef struct wisp_checkpoint {
  const wisp_host *host;
  wisp_stored *tensors; /* sorted by name once open */
  size_t count, capacity;
  wisp_bytes *files;
  size_t file_count;
  wisp_arena arena; /* names */
} wisp_checkpoint;

/* The first of model.safetensors, model.safetensors.index.json, pytorch_model.bin, pytorch_model.bin.index.json that is there.
 * Errors: IO (no weights, a shard is missing), FORMAT (damaged; a name twice), UNSUPPORTED (dtypes, pickles that want more than
 * tensors); the line names file and tensor. */
wisp_status wisp_checkpoint_open(wisp_checkpoint *checkpoint, const wisp_host *host, const char *folder);
void wisp_checkpoint_close(wisp_checkpoint *checkpoint); /* accepts a zeroed struct */

const wisp_stored *wisp_checkpoint_find(const wisp_checkpoint *checkpoint, const char *name); /* NULL if absent */

/* ---- For the readers of the containers ---- */

/* Adds the tensors of one file. The bytes must outlive the checkpoint. */
wisp_status wisp_safetensors_read(wisp_checkpoint *checkpoint, const wisp_bytes *file);
wisp_status wisp_torch_read(wisp_checkpoint *checkpoint, const wisp_bytes *file);

/* Takes a copy of tensor and of its name; bytes is set from shape and type. FORMAT if shape is empty or too large. */
wisp_status wisp_checkpoint_add(wisp_checkpoint *checkpoint, const wisp_stored *tensor);

/* Weights of a shape, 1 without dimensions; false if one is 0 or the product passes 2^48. */
bool wisp_stored_weights(const uint64_t *shape, uint32_t dimensions, uint64_t *weights);

/* Sorts tensors by name, and refuses a name that comes twice. */
wisp_status wisp_checkpoint_index(wisp_checkpoint *checkpoint);

#endif
