/* SPDX-License-Identifier: Apache-2.0
 * From text to ids: the chat format and the tokenizer against llama.cpp's. */
#include <stdlib.h>
#include <string.h>

#include "truth/checks.h"

static double unlike(const int32_t *a, size_t a_count, const int32_t *b, size_t b_count) {
  size_t i = 0;
  while (i < a_count && i < b_count && a[i] == b[i]) i++;
  return (double)((a_count > b_count ? a_count : b_count) - i);
}

static void check_ids(const truth *t, const truth_prompt *p) {
  const size_t size = strlen(p->formatted);
  int32_t *ids = malloc((size + 1) * sizeof *ids);
  size_t count;
  if (!ids) abort();
  truth_must(wisp_tokenize(t->engine, p->formatted, size, p->chat ? WISP_TOKENIZE_SPECIAL : WISP_TOKENIZE_PLAIN, ids, size + 1,
                           &count),
             p->id);
  findings_check(t->findings, p->id, "ids_unlike", unlike(ids, count, p->ids, p->count), 0);
  free(ids);
}

static void check_format(const truth *t, const truth_prompt *p) {
  const wisp_message message = {"user", p->text};
  size_t size, capacity = strlen(p->formatted) + 256;
  char *text = malloc(capacity);
  if (!text) abort();
  truth_must(wisp_chat_format(t->engine, &message, 1, true, text, capacity, &size), p->id);
  const bool same = size == strlen(p->formatted) && !memcmp(text, p->formatted, size);
  findings_check(t->findings, p->id, "format_unlike", same ? 0 : 1, 0);
  free(text);
}

void check_text(const truth *t) {
  for (uint32_t i = 0; i < t->vectors->prompt_count; i++) {
    check_ids(t, &t->vectors->prompts[i]);
    if (t->vectors->prompts[i].chat) check_format(t, &t->vectors->prompts[i]);
  }
}
