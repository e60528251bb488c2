/* SPDX-License-Identifier: Apache-2.0
 * The engine object behind wisp.h. */
#ifndef WISP_SESSION_ENGINE_H
#define WISP_SESSION_ENGINE_H

#include "base/startup.h"
#include "model/model_file.h"
#include "session/executor.h"
#include "tokenizer/chat.h"
#include "tokenizer/tokenizer.h"

struct wisp_engine {
  wisp_host host;
  wisp_load load;
  wisp_model_file file;
  wisp_tokenizer *tokenizer;        /* NULL: the file has none */
  const wisp_chat_format_def *chat; /* NULL: no template that Wisp knows */
  wisp_model model;
  wisp_plan plan;
  wisp_executor *executor; /* NULL unless WISP_LOAD_ALL */
  char choice[256];        /* what "auto" chose and why; empty elsewhere */
  uint32_t max_context;
  double load_ms, init_ms;
  wisp_startup startup;
  _Atomic uint64_t fingerprint; /* of the model; 0 = not computed yet */
};

/* Whether the model's K and V can be kept so: UNSUPPORTED for q8_0 where heads are no multiple of its blocks. */
wisp_status wisp_engine_check_kv(const wisp_engine *engine, wisp_kv_type type);

#endif
