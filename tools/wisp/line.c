/* SPDX-License-Identifier: Apache-2.0 */
#include "line.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef WISP_HAVE_LIBEDIT
#include <editline/readline.h>
#endif

#include "common/platform.h"

static char *read_plain(void) {
  size_t room = 256, used = 0;
  char *line = malloc(room);
  int c = EOF;
  while (line && (c = getchar()) != EOF && c != '\n') {
    if (used + 1 == room) {
      char *larger = realloc(line, room *= 2);
      if (!larger) free(line);
      line = larger;
      if (!line) return NULL;
    }
    line[used++] = (char)c;
  }
  if (line && c == EOF && used == 0) {
    free(line);
    return NULL;
  }
  if (line) line[used] = '\0';
  return line;
}

char *line_read(const char *prompt) {
  if (!platform_is_terminal(stdin)) return read_plain();
#ifdef WISP_HAVE_LIBEDIT
  char *line = readline(prompt);
  if (line && *line) add_history(line);
  return line;
#else
  fputs(prompt, stderr);
  fflush(stderr);
  return read_plain();
#endif
}
