/* SPDX-License-Identifier: Apache-2.0
 * tokenizer.model: SentencePiece's ModelProto, a protobuf message. Of it: the pieces, their scores and types, special ids, and
 * how text is normalised. Field numbers: sentencepiece_model.proto. */
#ifndef WISP_MODEL_SPM_MODEL_H
#define WISP_MODEL_SPM_MODEL_H

#include "model/gguf.h"

typedef struct wisp_spm_piece {
  wisp_text text; /* points into the file */
  float score;
  uint8_t type; /* 1 to 6: the numbers of wisp_token_type */
} wisp_spm_piece;

typedef enum wisp_spm_kind { WISP_SPM_UNIGRAM = 1, WISP_SPM_BPE = 2, WISP_SPM_WORD = 3, WISP_SPM_CHAR = 4 } wisp_spm_kind;

typedef struct wisp_spm_model {
  wisp_spm_piece *pieces; /* [count] */
  uint32_t count;
  wisp_spm_kind kind;
  bool space_prefix; /* a space before the first word */
  bool normalizes;   /* text is changed (NFKC, white space) before it is cut */
} wisp_spm_model;

/* bytes must outlive the model. FORMAT if damaged. */
wisp_status wisp_spm_model_read(wisp_spm_model *model, const wisp_host *host, const char *file, const uint8_t *bytes,
                                size_t size);
void wisp_spm_model_free(wisp_spm_model *model, const wisp_host *host); /* accepts a zeroed struct */

#endif
