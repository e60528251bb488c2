/* SPDX-License-Identifier: Apache-2.0 */
#include "output.h"

#include <errno.h>
#include <signal.h>
#include <string.h>

#include "platform.h"
#include "report.h"

enum { NAMES = 100 }; /* temporary names that are tried: runs that were killed leave theirs */

static volatile sig_atomic_t interrupted;

static void note_interrupt(void) {
  interrupted = 1;
}

int output_open(output *out, const char *path) {
  *out = (output){.path = path};
  const platform_file kind = platform_file_kind(path);
  if (kind == PLATFORM_FOLDER) return report_error("%s: is a folder; name the file to write", path);
  if (kind == PLATFORM_OTHER) return report_error("%s: is no regular file; the output has to be one", path);
  errno = EEXIST;
  for (unsigned i = 0; i < NAMES && !out->file && errno == EEXIST; i++) {
    const int length = snprintf(out->temporary, sizeof out->temporary, "%s.%u.tmp", path, i);
    if (length < 0 || (size_t)length >= sizeof out->temporary) return report_error("%s: the name is too long", path);
    out->file = fopen(out->temporary, "wbx");
  }
  if (!out->file) return report_error("cannot write %s: %s", out->temporary, strerror(errno));
  interrupted = 0;
  platform_on_interrupt(note_interrupt);
  return REPORT_DONE;
}

bool output_write(void *user, const void *data, size_t size) {
  output *out = user;
  errno = 0;
  if (fwrite(data, 1, size, out->file) == size) return true;
  out->problem = errno ? errno : EIO;
  return false;
}

bool output_continue(void *user, float fraction) {
  report_progress(NULL, user, fraction);
  return !interrupted;
}

/* All that can still fail before the file has its name. */
static bool complete(output *out) {
  errno = 0;
  bool good = fflush(out->file) == 0 && platform_sync(out->file);
  if (!good) out->problem = errno ? errno : EIO;
  if (fclose(out->file) && good) good = false, out->problem = errno;
  out->file = NULL;
  if (good && !platform_rename(out->temporary, out->path)) good = false, out->problem = errno;
  return good;
}

int output_close(output *out, wisp_status status) {
  report_progress(NULL, NULL, 0);
  const bool done = status == WISP_OK && complete(out);
  if (out->file) fclose(out->file);
  if (!done) remove(out->temporary);
  platform_on_interrupt(NULL);
  if (done) return REPORT_DONE;
  if (out->problem)
    return report_error("cannot write %s: %s; %s", out->path, strerror(out->problem),
                        platform_file_kind(out->path) == PLATFORM_ABSENT ? "nothing is left of it"
                                                                         : "the old file is unchanged");
  if (status == WISP_ERROR_CANCELLED) return report_error("interrupted: %s is not written", out->path);
  return report_status(status);
}
