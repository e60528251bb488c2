/* SPDX-License-Identifier: Apache-2.0
 * A reply as it is made: tokens become text, text is printed as soon as its UTF-8 sequences are whole, Ctrl-C stops it. */
#ifndef WISP_TOOLS_REPLY_H
#define WISP_TOOLS_REPLY_H

#include <stdio.h>

#include <wisp/wisp.h>

typedef struct reply {
  FILE *out;  /* NULL = only collect */
  char *text; /* [size] and a NUL, owned: reply_free; NULL while empty */
  size_t size, room, printed;
  int32_t *ids; /* [count], owned */
  uint32_t count;
  uint32_t reused;    /* tokens of the prompt that the session held already */
  uint32_t evaluated; /* the others, as far as it came before an interrupt */
  double prompt_ms;   /* evaluating them */
  double decode_ms;   /* generating */
  double first_ms;    /* from the start of the append to the first token; 0 = none came */
  bool interrupted;   /* Ctrl-C */
  /* inside */
  const wisp_engine *engine;
  double start_ms;
  bool out_of_memory;
} reply;

/* Makes the session hold the prompt's count ids, and generates up to max_tokens behind them. CANCELLED is reported as WISP_OK
 * with interrupted set. */
wisp_status reply_make(reply *made, const wisp_engine *engine, wisp_session *session, const int32_t *ids, size_t count,
                       uint32_t max_tokens, bool ignore_end);

/* "end" of text or turn, max_tokens ("length"), "context" full, or "stopped". */
const char *reply_finish(const reply *made, wisp_status status);

/* Prompt and decode speed on stderr. */
void reply_print_stats(const reply *made);

double reply_rate(double count, double ms); /* tokens per second, 0 for none */
void reply_free(reply *made);

#endif
