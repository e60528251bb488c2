/* SPDX-License-Identifier: Apache-2.0 */
#include "model/architecture.h"

#include <string.h>

/* Sources: the models' published code and llama.cpp's GGUF conventions (tensor and key names, which of them permute q and k).
 */
static const wisp_architecture architectures[] = {
    {"llama", 0, 0},
    {"mobilellm", WISP_TRAIT_REPEAT, 0},
    {"llama4", WISP_TRAIT_QK_NORM_PLAIN, 0}, /* MobileLLM-R1 */
    {"mobilellm-pro", WISP_TRAIT_QK_NORM_PLAIN | WISP_TRAIT_WINDOWS, 0},
    {"qwen2", WISP_TRAIT_HALF_PAIRS | WISP_TRAIT_QKV_BIAS, 0},
    {"qwen3", WISP_TRAIT_HALF_PAIRS | WISP_TRAIT_QK_NORM, 0},
    {"gemma3",
     WISP_TRAIT_HALF_PAIRS | WISP_TRAIT_QK_NORM | WISP_TRAIT_POST_NORMS | WISP_TRAIT_GELU | WISP_TRAIT_SCALED_EMBEDDING |
         WISP_TRAIT_WINDOWS,
     6},
};

const wisp_architecture *wisp_architecture_find(wisp_text name) {
  for (size_t i = 0; i < sizeof architectures / sizeof *architectures; i++)
    if (strlen(architectures[i].name) == name.size && !memcmp(architectures[i].name, name.bytes, name.size))
      return &architectures[i];
  return NULL;
}

const char *wisp_architecture_list(void) {
  return "llama, mobilellm, mobilellm-pro, llama4 (dense), qwen2, qwen3, gemma3";
}
