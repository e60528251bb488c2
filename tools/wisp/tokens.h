/* SPDX-License-Identifier: Apache-2.0
 * Text to ids, with the memory for them. */
#ifndef WISP_TOOLS_TOKENS_H
#define WISP_TOOLS_TOKENS_H

#include <wisp/wisp.h>

typedef struct tokens {
  int32_t *ids; /* [count], freed by the caller */
  size_t count;
} tokens;

/* flags: wisp_tokenize_flags. REPORT_DONE, or the exit code after an error line. */
int tokens_from_text(const wisp_engine *engine, const char *text, size_t size, unsigned flags, tokens *result);

/* Of a text file, - = standard input, as plain text; fewer than `least` are an error. */
int tokens_from_file(const wisp_engine *engine, const char *path, size_t least, tokens *result);

/* The conversation as the model's template writes it, with the reply opened. */
int tokens_from_chat(const wisp_engine *engine, const wisp_message *messages, size_t count, tokens *result);

#endif
