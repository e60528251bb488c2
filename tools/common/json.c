/* SPDX-License-Identifier: Apache-2.0 */
#include "json.h"

#include <math.h>
#include <string.h>

#include "utf8.h"

void json_quote(FILE *file, const char *text, size_t size) {
  putc('"', file);
  for (size_t i = 0; i < size;) {
    unsigned char byte = (unsigned char)text[i];
    size_t length = utf8_sequence(text + i, size - i);
    if (byte == '"' || byte == '\\') {
      fprintf(file, "\\%c", byte);
    } else if (byte == '\n') {
      fputs("\\n", file);
    } else if (byte == '\t') {
      fputs("\\t", file);
    } else if (byte < 0x20 || byte == 0x7F) {
      fprintf(file, "\\u%04x", byte);
    } else if (length == 0) {
      fputs("\xEF\xBF\xBD", file);
    } else {
      fwrite(text + i, 1, length, file);
    }
    i += length ? length : 1;
  }
  putc('"', file);
}

static void indent(json *out) {
  putc('\n', out->file);
  for (unsigned i = 0; i < out->depth; i++) fputs("  ", out->file);
}

/* The comma, line break and key that come before an item. */
static void item(json *out, const char *key, bool container) {
  if (out->depth) {
    unsigned level = out->depth - 1;
    if (out->filled[level]) putc(',', out->file);
    if (container) out->lines[level] = true;
    if (out->lines[level]) {
      indent(out);
    } else if (out->filled[level]) {
      putc(' ', out->file);
    }
    out->filled[level] = true;
  }
  if (key) {
    json_quote(out->file, key, strlen(key));
    fputs(": ", out->file);
  }
}

static void open_container(json *out, const char *key, char bracket, bool lines) {
  item(out, key, true);
  putc(bracket, out->file);
  out->filled[out->depth] = false;
  out->lines[out->depth] = lines;
  out->depth++;
}

static void close_container(json *out, char bracket) {
  out->depth--;
  if (out->lines[out->depth] && out->filled[out->depth]) indent(out);
  putc(bracket, out->file);
}

void json_begin(json *out, FILE *file) {
  *out = (json){.file = file};
}
void json_end(json *out) {
  putc('\n', out->file);
}

void json_open_object(json *out, const char *key) {
  open_container(out, key, '{', true);
}
void json_close_object(json *out) {
  close_container(out, '}');
}
void json_open_array(json *out, const char *key) {
  open_container(out, key, '[', false);
}
void json_close_array(json *out) {
  close_container(out, ']');
}

void json_bytes(json *out, const char *key, const char *text, size_t size) {
  item(out, key, false);
  json_quote(out->file, text, size);
}

void json_text(json *out, const char *key, const char *text) {
  item(out, key, false);
  if (text) {
    json_quote(out->file, text, strlen(text));
  } else {
    fputs("null", out->file);
  }
}

void json_integer(json *out, const char *key, int64_t value) {
  item(out, key, false);
  fprintf(out->file, "%lld", (long long)value);
}

void json_number(json *out, const char *key, double value) {
  item(out, key, false);
  if (isfinite(value)) {
    fprintf(out->file, "%.9g", value);
  } else {
    fputs("null", out->file);
  }
}

void json_bool(json *out, const char *key, bool value) {
  item(out, key, false);
  fputs(value ? "true" : "false", out->file);
}
