/* SPDX-License-Identifier: Apache-2.0 */
#include "tokenizer/merge.h"

wisp_status wisp_merger_reserve(wisp_merger *merger, const wisp_host *host, size_t count) {
  if (count <= merger->capacity) return WISP_OK;
  size_t capacity = count + count / 2 + 64;
  wisp_merger_free(merger, host);
  merger->symbols = wisp_host_alloc(host, capacity, sizeof *merger->symbols);
  merger->heap = wisp_host_alloc(host, capacity, 2 * sizeof *merger->heap);
  if (!merger->symbols || !merger->heap) {
    wisp_merger_free(merger, host);
    return wisp_fail_memory(host, "a word to tokenize",
                            (uint64_t)capacity * (sizeof(wisp_symbol) + 2 * sizeof(wisp_candidate)));
  }
  merger->capacity = capacity;
  return WISP_OK;
}

void wisp_merger_free(wisp_merger *merger, const wisp_host *host) {
  wisp_host_free(host, merger->symbols);
  wisp_host_free(host, merger->heap);
  *merger = (wisp_merger){0};
}

static void push(wisp_merger *merger, wisp_candidate candidate) {
  wisp_candidate *heap = merger->heap;
  size_t i = merger->heap_count++;
  for (size_t parent; i > 0 && heap[parent = (i - 1) / 2].order > candidate.order; i = parent) heap[i] = heap[parent];
  heap[i] = candidate;
}

static wisp_candidate pop(wisp_merger *merger) {
  wisp_candidate *heap = merger->heap, top = heap[0], last = heap[--merger->heap_count];
  size_t count = merger->heap_count, i = 0;
  for (size_t child; (child = 2 * i + 1) < count; i = child) {
    if (child + 1 < count && heap[child + 1].order < heap[child].order) child++;
    if (last.order <= heap[child].order) break;
    heap[i] = heap[child];
  }
  heap[i] = last;
  return top;
}

static void consider(wisp_merger *merger, uint32_t left, uint32_t right, wisp_pair_fn pair, const void *context) {
  if (left == WISP_SYMBOL_NONE || right == WISP_SYMBOL_NONE) return;
  const wisp_symbol *a = &merger->symbols[left], *b = &merger->symbols[right];
  uint32_t priority;
  wisp_candidate candidate = {.right = right, .length = a->length + b->length};
  if (!pair(context, a, b, &priority, &candidate.id)) return;
  candidate.order = (uint64_t)priority << 32 | left;
  push(merger, candidate);
}

void wisp_merger_run(wisp_merger *merger, size_t count, wisp_pair_fn pair, const void *context) {
  wisp_symbol *symbols = merger->symbols;
  for (size_t i = 0; i < count; i++) {
    symbols[i].previous = i > 0 ? (uint32_t)(i - 1) : WISP_SYMBOL_NONE;
    symbols[i].next = i + 1 < count ? (uint32_t)(i + 1) : WISP_SYMBOL_NONE;
  }
  /* At most count - 1 candidates at first, and a merge takes one out and puts two in: twice count is room enough. */
  merger->heap_count = 0;
  for (size_t i = 1; i < count; i++) consider(merger, (uint32_t)(i - 1), (uint32_t)i, pair, context);

  while (merger->heap_count > 0) {
    wisp_candidate best = pop(merger);
    uint32_t index = (uint32_t)best.order;
    wisp_symbol *left = &symbols[index], *right = &symbols[best.right];
    /* Either may have been merged with another since. */
    if (left->length == 0 || right->length == 0 || left->length + right->length != best.length) continue;
    left->length = best.length;
    left->id = best.id;
    left->next = right->next;
    right->length = 0;
    if (left->next != WISP_SYMBOL_NONE) symbols[left->next].previous = index;
    consider(merger, left->previous, index, pair, context);
    consider(merger, index, left->next, pair, context);
  }
}
