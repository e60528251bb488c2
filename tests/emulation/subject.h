/* SPDX-License-Identifier: Apache-2.0
 * What the persistent kernel would be given on a GPU, made by the engine's own code without one: constants, weights as they lie
 * on the device, a timeline's buffers; and what the CPU executor says of the same tokens. */
#ifndef WISP_EMULATION_SUBJECT_H
#define WISP_EMULATION_SUBJECT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shared/kernel.h"
#include "shared/persistent.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct subject_params {
  const char *model, *type;    /* as wisp_model_synthesize */
  uint32_t blocks, vocabulary; /* so many of them only; 0 = all */
  bool bias, gelu, kv_f32;
  uint32_t groups, local, split; /* as WISP_PERSISTENT has them; local, split: 0 = the engine's choice */
  uint32_t subgroup_size;        /* 0 = 32 */
  uint32_t held, tokens;         /* in the KV cache at first; to be made: room for them */
} subject_params;

typedef struct subject_buffer {
  void *memory;
  size_t bytes;
} subject_buffer;

typedef struct subject {
  uint32_t constants[WISP_P_COUNT];
  uint32_t kv_stride;                               /* push constant */
  subject_buffer buffers[WISP_PERSISTENT_BINDINGS]; /* by binding; those of the same memory are equal */
  uint32_t vocabulary;
  float *logits;                 /* [vocabulary]: of subject_append */
  struct subject_engine *engine; /* private */
} subject;

/* What was never written is NaN; mail is 0; the step buffer is set for the first token, behind those held. False: a line on
 * stderr says why. */
bool subject_open(subject *s, const subject_params *params);
bool subject_append(subject *s, int32_t token); /* the CPU's logits of it */
void subject_close(subject *s);

#ifdef __cplusplus
}
#endif

#endif
