/* SPDX-License-Identifier: Apache-2.0
 * Binding a GGUF file's tensors to their roles in a model whose hyper-parameters are set. */
#ifndef WISP_MODEL_BIND_H
#define WISP_MODEL_BIND_H

#include "model/architecture.h"
#include "model/model.h"

wisp_status wisp_model_bind(wisp_model *model, const wisp_gguf *gguf, const wisp_architecture *architecture);

#endif
