/* SPDX-License-Identifier: Apache-2.0 */
#include "reply.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "common/platform.h"
#include "common/report.h"
#include "common/utf8.h"

/* What a signal handler can reach: the session that is running, if any. */
static wisp_session *volatile running;
static volatile sig_atomic_t interrupted;

static void interrupt(void) {
  interrupted = 1;
  if (running) wisp_session_cancel(running);
}

static bool add_text(reply *made, int32_t id) {
  char bytes[256];
  char *piece = bytes;
  size_t size = wisp_token_bytes(made->engine, id, false, bytes, sizeof bytes);
  size_t needed = made->size + size + 1;
  if (needed > made->room) {
    size_t room = 2 * needed + 256;
    char *text = realloc(made->text, room);
    if (!text) return false;
    made->text = text;
    made->room = room;
  }
  if (size > sizeof bytes) {
    piece = made->text + made->size;
    wisp_token_bytes(made->engine, id, false, piece, size);
  } else {
    memcpy(made->text + made->size, piece, size);
  }
  made->size += size;
  made->text[made->size] = '\0';
  return true;
}

static void print_text(reply *made) {
  size_t end = made->size - (made->text ? utf8_unfinished(made->text, made->size) : 0);
  if (!made->out || end <= made->printed) return;
  fwrite(made->text + made->printed, 1, end - made->printed, made->out);
  fflush(made->out);
  made->printed = end;
}

static bool on_token(void *user, int32_t id) {
  reply *made = user;
  if (made->first_ms == 0) made->first_ms = platform_now_ms() - made->start_ms;
  made->out_of_memory = !wisp_token_is_end(made->engine, id) && !add_text(made, id);
  print_text(made);
  /* A cancel between append and generate would be lost without the flag. */
  return !made->out_of_memory && !interrupted;
}

wisp_status reply_make(reply *made, const wisp_engine *engine, wisp_session *session, const int32_t *ids, size_t count,
                       uint32_t max_tokens, bool ignore_end) {
  *made = (reply){.out = made->out, .engine = engine};
  /* One more than there is room for, so that a full context is told from a finished reply. */
  uint32_t room = wisp_session_context(session) - (uint32_t)count + 1;
  if (max_tokens > room) max_tokens = room;
  made->ids = malloc(max_tokens * sizeof *made->ids);
  if (!made->ids) return WISP_ERROR_MEMORY;

  interrupted = 0;
  running = session;
  platform_on_interrupt(interrupt);
  made->start_ms = platform_now_ms();
  wisp_status status = wisp_session_prompt(session, ids, count, NULL, &made->reused);
  double prompt_end = platform_now_ms();
  made->prompt_ms = prompt_end - made->start_ms;
  made->evaluated = wisp_session_length(session) - made->reused;
  if (status == WISP_OK && !interrupted) {
    wisp_generate_params params = {.max_tokens = max_tokens, .ignore_end = ignore_end, .on_token = on_token, .user = made};
    status = wisp_session_generate(session, &params, made->ids, &made->count);
    made->decode_ms = platform_now_ms() - prompt_end;
  }
  platform_on_interrupt(NULL);
  running = NULL;
  if (made->text) { /* a sequence that the reply's end cut short is no text */
    made->size -= utf8_unfinished(made->text, made->size);
    made->text[made->size] = '\0';
  }
  made->interrupted = interrupted;
  if (status == WISP_ERROR_CANCELLED && interrupted) {
    report_forget();
    status = WISP_OK;
  }
  if (status == WISP_OK && made->out_of_memory) status = WISP_ERROR_MEMORY;
  return status;
}

const char *reply_finish(const reply *made, wisp_status status) {
  if (status == WISP_ERROR_CONTEXT_FULL) return "context";
  if (made->interrupted) return "stopped";
  return made->count && wisp_token_is_end(made->engine, made->ids[made->count - 1]) ? "end" : "length";
}

double reply_rate(double count, double ms) {
  return ms > 0 ? count * 1e3 / ms : 0;
}

void reply_print_stats(const reply *made) {
  wisp_engine_stats stats;
  wisp_engine_get_stats(made->engine, &stats);
  char known[48] = "", first[48] = "no token came";
  if (made->reused) snprintf(known, sizeof known, " (%u more were known)", made->reused);
  if (made->first_ms > 0) snprintf(first, sizeof first, "first token after %.0f ms", made->first_ms);
  fprintf(stderr, "prompt %u tokens%s, %.1f tok/s; reply %u tokens, %.1f tok/s; %s; on %s\n", made->evaluated, known,
          reply_rate(made->evaluated, made->prompt_ms), made->count, reply_rate(made->count, made->decode_ms), first,
          stats.device.name);
  if (*stats.choice) fprintf(stderr, "auto: %s\n", stats.choice);
}

void reply_free(reply *made) {
  free(made->text);
  free(made->ids);
  made->text = NULL;
  made->ids = NULL;
}
