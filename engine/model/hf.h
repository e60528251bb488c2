/* SPDX-License-Identifier: Apache-2.0
 * A Hugging Face folder as if it were a GGUF file: config.json, weights (safetensors or torch.save) and tokenizer under the
 * keys and names that llama.cpp's converter would write. Matrices stay in the mapped files; what GGUF stores differently is
 * copied: q and k with rows in RoPE pairs, vectors as f32, Gemma's norm weights plus one, ParetoQ's matrices in their bits. */
#ifndef WISP_MODEL_HF_H
#define WISP_MODEL_HF_H

#include "base/arena.h"
#include "model/checkpoint.h"
#include "model/gguf.h"
#include "model/gguf_fields.h"

typedef struct wisp_hf {
  wisp_gguf gguf; /* without tokenizer keys if the folder has no tokenizer */
  const wisp_host *host;
  wisp_checkpoint checkpoint;
  wisp_gguf_fields fields; /* private: backing of the metadata */
  wisp_arena arena;        /* private: copies, names */
} wisp_hf;

/* vocabulary_only: metadata and tokenizer; no weights are needed. Otherwise every tensor of the folder must be known to the
 * model's family. One line for a failure, naming file, key or tensor. Afterwards hf->gguf is only read: any thread. */
wisp_status wisp_hf_open(wisp_hf *hf, const wisp_host *host, const char *folder, bool vocabulary_only);
void wisp_hf_close(wisp_hf *hf); /* accepts a zeroed struct */

#endif
