/* SPDX-License-Identifier: Apache-2.0 */
#include "tokens.h"

#include <stdlib.h>

#include "common/file.h"
#include "common/report.h"

int tokens_from_text(const wisp_engine *engine, const char *text, size_t size, unsigned flags, tokens *result) {
  *result = (tokens){0};
  size_t room = size / 2 + 16, count = 0;
  for (;;) {
    int32_t *ids = realloc(result->ids, room * sizeof *ids);
    if (!ids) {
      free(result->ids);
      result->ids = NULL;
      return report_error("out of memory for %zu token ids", room);
    }
    result->ids = ids;
    wisp_status status = wisp_tokenize(engine, text, size, flags, ids, room, &count);
    if (status != WISP_OK) {
      free(result->ids);
      result->ids = NULL;
      return report_status(status);
    }
    if (count <= room) break;
    room = count;
  }
  result->count = count;
  return REPORT_DONE;
}

int tokens_from_file(const wisp_engine *engine, const char *path, size_t least, tokens *result) {
  char *text;
  size_t size;
  *result = (tokens){0};
  if (!file_read(path, &text, &size)) return REPORT_FAILED;
  const int code = tokens_from_text(engine, text, size, WISP_TOKENIZE_PLAIN, result);
  free(text);
  if (code != REPORT_DONE || result->count >= least) return code;
  free(result->ids);
  result->ids = NULL;
  return report_error("%s: has %zu tokens, at least %zu are needed", path, result->count, least);
}

int tokens_from_chat(const wisp_engine *engine, const wisp_message *messages, size_t count, tokens *result) {
  *result = (tokens){0};
  size_t size = 0;
  wisp_status status = wisp_chat_format(engine, messages, count, true, NULL, 0, &size);
  if (status != WISP_OK) return report_status(status);
  char *text = malloc(size + 1);
  if (!text) return report_error("out of memory for a conversation of %zu bytes", size);
  status = wisp_chat_format(engine, messages, count, true, text, size + 1, &size);
  int code = status == WISP_OK ? tokens_from_text(engine, text, size, WISP_TOKENIZE_SPECIAL, result) : report_status(status);
  free(text);
  return code;
}
