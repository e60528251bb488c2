/* SPDX-License-Identifier: Apache-2.0
 * The tokenizer of a Hugging Face folder under GGUF's keys: tokenizer.model or tokenizer.json; special ids, flags and the chat
 * template from tokenizer_config.json, generation_config.json and config.json. */
#ifndef WISP_MODEL_HF_TOKENIZER_H
#define WISP_MODEL_HF_TOKENIZER_H

#include "base/json.h"
#include "model/gguf_fields.h"

/* Writes tokenizer.* to fields; vocabulary: rows of the embedding, up to which tokens are filled up. A folder without
 * tokenizer, or with one whose words Wisp cannot cut: nothing is written, it is said in one line, and OK is returned. */
wisp_status wisp_hf_tokenizer_read(const char *folder, const wisp_json *config, uint32_t vocabulary, wisp_gguf_fields *fields);

#endif
