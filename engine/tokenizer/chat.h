/* SPDX-License-Identifier: Apache-2.0
 * Chat templates that Wisp knows, chosen by what the model file's own template contains. */
#ifndef WISP_TOKENIZER_CHAT_H
#define WISP_TOKENIZER_CHAT_H

#include "model/gguf.h"

typedef struct wisp_chat_format_def wisp_chat_format_def;

/* NULL if the file has no template or none that Wisp knows. Static storage. */
const wisp_chat_format_def *wisp_chat_choose(const wisp_gguf *gguf);
const char *wisp_chat_name(const wisp_chat_format_def *def); /* "chatml", "llama2", "llama3" */

/* As wisp_chat_format in wisp.h. */
wisp_status wisp_chat_write(const wisp_chat_format_def *def, const wisp_host *host, const wisp_message *messages, size_t count,
                            bool open_reply, char *text, size_t capacity, size_t *size);

#endif
