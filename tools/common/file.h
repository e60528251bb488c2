/* SPDX-License-Identifier: Apache-2.0
 * Whole files in memory. */
#ifndef WISP_TOOLS_FILE_H
#define WISP_TOOLS_FILE_H

#include <stdbool.h>
#include <stddef.h>

/* Reads all of path ("-" = standard input) into *data, which the caller frees; a NUL stands behind its size bytes. False after
 * an error line. */
bool file_read(const char *path, char **data, size_t *size);

#endif
