/* SPDX-License-Identifier: Apache-2.0
 * The tensors of a checkpoint under GGUF's names and in its conventions. */
#ifndef WISP_MODEL_HF_TENSORS_H
#define WISP_MODEL_HF_TENSORS_H

#include "model/checkpoint.h"
#include "model/hf_config.h"

/* A table of *count tensors from the host's allocator, for wisp_gguf_set_tensors; names and copies are in the arena. */
wisp_status wisp_hf_tensors(const wisp_checkpoint *checkpoint, const wisp_hf_config *config, wisp_arena *arena,
                            wisp_gguf_tensor **tensors, uint64_t *count);

#endif
