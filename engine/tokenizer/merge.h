/* SPDX-License-Identifier: Apache-2.0
 * The loop that both kinds of tokenizer share: neighbouring symbols are merged, the best pair first, until none is left. */
#ifndef WISP_TOKENIZER_MERGE_H
#define WISP_TOKENIZER_MERGE_H

#include "base/host.h"

#define WISP_SYMBOL_NONE UINT32_MAX

typedef struct wisp_symbol {
  uint32_t start, length;  /* in the text; length 0 = merged into the symbol before */
  uint32_t previous, next; /* indices, or WISP_SYMBOL_NONE */
  int32_t id;              /* token, or -1 */
} wisp_symbol;

typedef struct wisp_candidate {
  uint64_t order; /* priority, then the left symbol's index: the smallest is merged first */
  uint32_t right, length;
  int32_t id;
} wisp_candidate;

/* Scratch memory, reused from word to word. */
typedef struct wisp_merger {
  wisp_symbol *symbols;
  wisp_candidate *heap;
  size_t capacity; /* symbols; the heap has room for twice as many */
  size_t heap_count;
} wisp_merger;

/* Whether two symbols make a token; if so its id, and a priority: smaller first. */
typedef bool (*wisp_pair_fn)(const void *context, const wisp_symbol *left, const wisp_symbol *right, uint32_t *priority,
                             int32_t *id);

/* Makes room for count symbols, what is there being lost. count < UINT32_MAX. */
wisp_status wisp_merger_reserve(wisp_merger *merger, const wisp_host *host, size_t count);
void wisp_merger_free(wisp_merger *merger, const wisp_host *host);

/* symbols[0, count): start, length and id are set. Afterwards walk them from 0 along next. */
void wisp_merger_run(wisp_merger *merger, size_t count, wisp_pair_fn pair, const void *context);

#endif
