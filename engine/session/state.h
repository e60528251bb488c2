/* SPDX-License-Identifier: Apache-2.0
 * The state of a session as a file: docs/formats.md. */
#ifndef WISP_SESSION_STATE_H
#define WISP_SESSION_STATE_H

#include "base/source.h"
#include "session/engine.h"

/* A state that was found good for a timeline: whole, undamaged, of its model and KV type, not too long. */
typedef struct wisp_state {
  wisp_bytes bytes;
  uint32_t length;     /* tokens */
  const uint8_t *ids;  /* [length] u32, inside the vocabulary */
  const uint8_t *rows; /* as wisp_executor_api.kv_write takes them */
} wisp_state;

/* As wisp_session_save, of the tokens ids[timeline->length]. */
wisp_status wisp_state_save(wisp_engine *engine, wisp_timeline *timeline, const int32_t *ids, wisp_output_fn write, void *user);

/* As wisp_session_load says of what is refused; nothing has happened to the timeline. On failure nothing is to be closed. */
wisp_status wisp_state_open(wisp_state *state, wisp_engine *engine, const wisp_timeline *timeline,
                            const wisp_model_source *source);
int32_t wisp_state_id(const wisp_state *state, uint32_t position);
void wisp_state_close(wisp_state *state, const wisp_host *host);

#endif
