/* SPDX-License-Identifier: Apache-2.0
 * Reads what the user types: with editing and history on a terminal, plainly otherwise. */
#ifndef WISP_TOOLS_LINE_H
#define WISP_TOOLS_LINE_H

/* The next line without its newline, which the caller frees; NULL at the end of input. */
char *line_read(const char *prompt);

#endif
