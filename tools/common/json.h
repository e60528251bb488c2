/* SPDX-License-Identifier: Apache-2.0
 * Writes JSON as it goes, so that millions of logits need no tree. key is NULL inside arrays. */
#ifndef WISP_TOOLS_JSON_H
#define WISP_TOOLS_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum { JSON_DEPTH = 8 };

typedef struct json {
  FILE *file;
  unsigned depth;          /* open containers */
  bool filled[JSON_DEPTH]; /* has a first item */
  bool lines[JSON_DEPTH];  /* items stand on lines of their own */
} json;

void json_begin(json *out, FILE *file);
void json_end(json *out); /* writes the last newline */

void json_open_object(json *out, const char *key);
void json_close_object(json *out);
void json_open_array(json *out, const char *key);
void json_close_array(json *out);

void json_text(json *out, const char *key, const char *text); /* NULL text = null */
void json_bytes(json *out, const char *key, const char *text, size_t size);
void json_integer(json *out, const char *key, int64_t value);
void json_number(json *out, const char *key, double value); /* 9 significant digits: exact for floats; not finite = null */
void json_bool(json *out, const char *key, bool value);

/* A quoted JSON string; bytes that are not UTF-8 become U+FFFD. */
void json_quote(FILE *file, const char *text, size_t size);

#endif
