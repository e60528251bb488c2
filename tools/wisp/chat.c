/* SPDX-License-Identifier: Apache-2.0
 * wisp chat: a conversation. Replies go to stdout, everything else to stderr. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "commands.h"
#include "common/model.h"
#include "common/platform.h"
#include "common/report.h"
#include "line.h"
#include "reply.h"
#include "sampling.h"
#include "tokens.h"

typedef struct chat {
  const wisp_engine *engine;
  wisp_session *session;
  uint32_t max_tokens;
  const char *system;     /* or NULL */
  wisp_message *messages; /* [count]; contents are owned */
  size_t count, room;
  bool stats;
} chat;

static bool add_message(chat *talk, const char *role, const char *content) {
  if (talk->count == talk->room) {
    size_t room = talk->room ? 2 * talk->room : 16;
    wisp_message *messages = realloc(talk->messages, room * sizeof *messages);
    if (!messages) return false;
    talk->messages = messages;
    talk->room = room;
  }
  char *copy = malloc(strlen(content) + 1);
  if (!copy) return false;
  strcpy(copy, content);
  talk->messages[talk->count++] = (wisp_message){role, copy};
  return true;
}

static void drop_messages(chat *talk, size_t count) {
  while (talk->count > count) free((char *)talk->messages[--talk->count].content);
}

static bool reset(chat *talk) {
  drop_messages(talk, 0);
  return !talk->system || add_message(talk, "system", talk->system);
}

/* Takes one turn; returns an exit code, REPORT_DONE to go on. */
static int turn(chat *talk, const char *text) {
  size_t before = talk->count;
  tokens ids = {0};
  if (!add_message(talk, "user", text)) return report_error("out of memory for the conversation");
  int code = tokens_from_chat(talk->engine, talk->messages, talk->count, &ids);
  if (code != REPORT_DONE) return code;
  uint32_t context = wisp_session_context(talk->session);
  if (ids.count > context) {
    fprintf(stderr, "The conversation has %zu tokens, the context holds %u: /reset begins a new one.\n", ids.count, context);
    drop_messages(talk, before);
    free(ids.ids);
    return REPORT_DONE;
  }
  reply made = {.out = stdout};
  wisp_status status = reply_make(&made, talk->engine, talk->session, ids.ids, ids.count, talk->max_tokens, false);
  putchar('\n');
  fflush(stdout);
  if (!add_message(talk, "assistant", made.text ? made.text : "")) status = WISP_ERROR_MEMORY;
  if (status == WISP_ERROR_CONTEXT_FULL) {
    report_forget();
    fprintf(stderr, "The context of %u tokens is full: /reset begins a new conversation.\n", context);
    status = WISP_OK;
  }
  if (status == WISP_OK && talk->stats) reply_print_stats(&made);
  reply_free(&made);
  free(ids.ids);
  return status == WISP_OK ? REPORT_DONE : report_status(status);
}

static int talk_until_end(chat *talk) {
  if (platform_is_terminal(stdin)) fputs("/help lists the commands; Ctrl-C stops a reply, Ctrl-D leaves.\n", stderr);
  report_settle();
  if (!reset(talk)) return report_error("out of memory for the conversation");
  int code = REPORT_DONE;
  bool more = true;
  while (code == REPORT_DONE && more) {
    char *line = line_read("> ");
    if (!line) {
      more = false;
    } else if (!strcmp(line, "/quit")) {
      more = false;
    } else if (!strcmp(line, "/help")) {
      fputs("/reset  begin a new conversation\n/stats  speed after each reply, on or off\n/quit   leave\n", stderr);
    } else if (!strcmp(line, "/stats")) {
      talk->stats = !talk->stats;
      fprintf(stderr, "Statistics are %s; the context holds %u of %u tokens.\n", talk->stats ? "on" : "off",
              wisp_session_length(talk->session), wisp_session_context(talk->session));
    } else if (!strcmp(line, "/reset")) {
      if (!reset(talk)) code = report_error("out of memory for the conversation");
      fputs("A new conversation.\n", stderr);
    } else if (line[0] == '/') {
      fprintf(stderr, "Unknown command %s: /help lists them.\n", line);
    } else if (line[0]) {
      code = turn(talk, line);
    }
    free(line);
  }
  return code;
}

static int run_chat(const model_options *model, const wisp_session_params *params, chat *talk) {
  wisp_engine *engine = NULL;
  int code = model_open(model, WISP_LOAD_ALL, &engine);
  if (code == REPORT_DONE && !wisp_chat_template(engine)) {
    code = report_error("%s: has no chat template known to Wisp; continue text with 'wisp run --raw'", model->path);
  }
  if (code == REPORT_DONE) {
    wisp_status status = wisp_session_create(&talk->session, engine, params);
    if (status != WISP_OK) code = report_status(status);
  }
  if (code == REPORT_DONE) {
    talk->engine = engine;
    code = talk_until_end(talk);
  }
  drop_messages(talk, 0);
  free(talk->messages);
  wisp_session_destroy(&talk->session);
  wisp_engine_destroy(&engine);
  return code;
}

int command_chat(int argc, char **argv) {
  model_options model = {0};
  wisp_session_params session = wisp_session_params_defaults();
  chat talk = {.max_tokens = 1024};
  const args_option options[] = {
      MODEL_OPTION_FILE(model),
      ARG_TEXT("--system", NULL, &talk.system, "TEXT", "system message"),
      ARG_U32("-n", "--tokens", &talk.max_tokens, 1, UINT32_MAX, "at most N tokens a reply; default 1024"),
      MODEL_OPTIONS_DEVICE(model),
      SAMPLING_OPTIONS(session),
      MODEL_OPTION_KV(model),
      MODEL_OPTION_VERBOSE(model),
  };
  const args_command command = {.name = "wisp chat",
                                .operands = "",
                                .summary = "Talks with a model, line by line; /help lists what else it understands.",
                                .options = options,
                                .option_count = sizeof options / sizeof options[0]};
  int code = args_parse(&command, argc, argv);
  if (code == ARGS_OK) code = model_check(&model, &command);
  if (code != ARGS_OK) return code;
  session.context = model.context;
  session.kv_type = (wisp_kv_type)model.kv;
  return run_chat(&model, &session, &talk);
}
