/* SPDX-License-Identifier: Apache-2.0 */
#include "file.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "report.h"

bool file_read(const char *path, char **data, size_t *size) {
  bool input = !strcmp(path, "-");
  const char *name = input ? "standard input" : path;
  *data = NULL;
  *size = 0;
  FILE *file = input ? stdin : fopen(path, "rb");
  if (!file) {
    report_error("cannot open %s: %s", name, strerror(errno));
    return false;
  }
  char *buffer = NULL;
  size_t used = 0, room = 0;
  int problem = 0;
  do {
    if (room - used < 4096) {
      room = room ? 2 * room : 16 << 10;
      char *larger = realloc(buffer, room);
      if (!larger) {
        problem = ENOMEM;
        break;
      }
      buffer = larger;
    }
    errno = 0;
    used += fread(buffer + used, 1, room - used - 1, file);
    if (ferror(file)) problem = errno ? errno : EIO;
  } while (!problem && !feof(file));
  if (!input) fclose(file);
  if (problem) {
    free(buffer);
    report_error("cannot read %s: %s", name, strerror(problem));
    return false;
  }
  buffer[used] = '\0';
  *data = buffer;
  *size = used;
  return true;
}
