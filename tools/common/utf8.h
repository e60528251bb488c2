/* SPDX-License-Identifier: Apache-2.0
 * Where UTF-8 sequences begin and end. */
#ifndef WISP_TOOLS_UTF8_H
#define WISP_TOOLS_UTF8_H

#include <stddef.h>

/* Bytes of the valid sequence at text, 0 if there is none (invalid or cut short). size > 0. */
size_t utf8_sequence(const char *text, size_t size);

/* Bytes at the end of text that begin a sequence which more bytes could complete; 0 to 3. */
size_t utf8_unfinished(const char *text, size_t size);

#endif
