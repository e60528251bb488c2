/* SPDX-License-Identifier: Apache-2.0
 * Names of statuses, and the library's version. */
#include "wisp/wisp.h"

#define TEXT(x) #x
#define VERSION_TEXT(major, minor, patch) TEXT(major) "." TEXT(minor) "." TEXT(patch)

const char *wisp_status_name(wisp_status status) {
  switch (status) {
  case WISP_OK:
    return "ok";
  case WISP_ERROR_ARGUMENT:
    return "invalid argument";
  case WISP_ERROR_IO:
    return "input/output error";
  case WISP_ERROR_FORMAT:
    return "invalid file";
  case WISP_ERROR_UNSUPPORTED:
    return "unsupported";
  case WISP_ERROR_MEMORY:
    return "out of memory";
  case WISP_ERROR_DEVICE:
    return "device error";
  case WISP_ERROR_CONTEXT_FULL:
    return "context full";
  case WISP_ERROR_CANCELLED:
    return "cancelled";
  }
  return "unknown status";
}

const char *wisp_version(void) {
  return VERSION_TEXT(WISP_VERSION_MAJOR, WISP_VERSION_MINOR, WISP_VERSION_PATCH);
}
