/* SPDX-License-Identifier: Apache-2.0
 * wisp tokenize: text to ids; only the file's metadata is read. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "commands.h"
#include "common/file.h"
#include "common/json.h"
#include "common/model.h"
#include "common/report.h"
#include "common/utf8.h"
#include "tokens.h"

/* Parts of a UTF-8 sequence are shown as bytes, <0xE2>, so that pieces stay distinct. */
static void print_piece(const char *bytes, size_t size) {
  char text[4096];
  size_t used = 0;
  for (size_t i = 0; i < size && used + 8 < sizeof text;) {
    size_t length = utf8_sequence(bytes + i, size - i);
    if (length) {
      memcpy(text + used, bytes + i, length);
      used += length;
    } else {
      used += (size_t)snprintf(text + used, sizeof text - used, "<0x%02X>", (unsigned char)bytes[i]);
    }
    i += length ? length : 1;
  }
  json_quote(stdout, text, used);
}

static void print_tokens(const wisp_engine *engine, const tokens *ids, bool pieces) {
  for (size_t i = 0; i < ids->count; i++) {
    if (pieces) {
      char bytes[1024];
      size_t size = wisp_token_bytes(engine, ids->ids[i], true, bytes, sizeof bytes);
      printf("%d\t", ids->ids[i]);
      print_piece(bytes, size < sizeof bytes ? size : sizeof bytes);
      putchar('\n');
    } else {
      printf("%s%d", i ? " " : "", ids->ids[i]);
    }
  }
  if (!pieces) putchar('\n');
}

int command_tokenize(int argc, char **argv) {
  model_options model = {0};
  const char *text = NULL, *file = NULL;
  bool pieces = false, special = false;
  const args_option options[] = {
      MODEL_OPTION_FILE(model),
      ARG_TEXT("-f", "--file", &file, "FILE", "read the text from a file, - = standard input"),
      ARG_FLAG("--pieces", NULL, &pieces, "one token a line: id, tab, its text as a JSON string"),
      ARG_FLAG("--special", NULL, &special, "special tokens written in the text become their ids"),
      MODEL_OPTION_VERBOSE(model),
  };
  const args_command command = {.name = "wisp tokenize",
                                .operands = "[TEXT | -]",
                                .summary = "Prints the token ids of a text on one line. - reads standard input.",
                                .options = options,
                                .option_count = sizeof options / sizeof options[0],
                                .operands_to = &text,
                                .operand_count = 1};
  int code = args_parse(&command, argc, argv);
  if (code == ARGS_OK) code = model_check(&model, &command);
  if (code != ARGS_OK) return code;
  if (!text == !file) return args_mistake(&command, "give the text as either TEXT, -f FILE or -");
  if (text && !strcmp(text, "-")) file = text;

  char *data = NULL;
  size_t size = text ? strlen(text) : 0;
  if (file && !file_read(file, &data, &size)) return REPORT_FAILED;
  wisp_engine *engine = NULL;
  tokens ids = {0};
  code = model_open(&model, WISP_LOAD_VOCABULARY, &engine);
  if (code == REPORT_DONE) {
    code = tokens_from_text(engine, file ? data : text, size, special ? WISP_TOKENIZE_SPECIAL : WISP_TOKENIZE_PLAIN, &ids);
  }
  if (code == REPORT_DONE) print_tokens(engine, &ids, pieces);
  free(ids.ids);
  free(data);
  wisp_engine_destroy(&engine);
  return code;
}
