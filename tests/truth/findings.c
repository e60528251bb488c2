/* SPDX-License-Identifier: Apache-2.0 */
#include "truth/findings.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/json.h"

static bool passes(const finding *item) {
  return item->value <= item->limit;
}

static void add(findings *f, const char *subject, const char *name, double value, double limit) {
  if (f->count == f->capacity) {
    f->capacity = 2 * f->capacity + 64;
    f->items = realloc(f->items, f->capacity * sizeof *f->items);
    if (!f->items) abort();
  }
  finding *item = &f->items[f->count++];
  *item = (finding){.value = value, .limit = limit};
  snprintf(item->subject, sizeof item->subject, "%s", subject);
  snprintf(item->name, sizeof item->name, "%s", name);
}

void findings_check(findings *f, const char *subject, const char *name, double value, double limit) {
  add(f, subject, name, value, limit);
  if (passes(&f->items[f->count - 1])) {
    f->passed++;
  } else {
    f->failed++;
    findings_note(f, "FAIL  %s: %s is %.4g, at most %.4g is allowed", subject, name, value, limit);
  }
}

void findings_figure(findings *f, const char *subject, const char *name, double value) {
  add(f, subject, name, value, INFINITY);
}

void findings_note(findings *f, const char *format, ...) {
  char text[512];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  puts(text);
  fflush(stdout);
  f->notes = realloc(f->notes, (f->note_count + 1) * sizeof *f->notes);
  if (!f->notes || !(f->notes[f->note_count++] = strdup(text))) abort();
}

void findings_show(findings *f) {
  for (size_t i = f->shown; i < f->count; i++) {
    const finding *item = &f->items[i];
    if (i == f->shown || strcmp(item->subject, item[-1].subject)) printf("%s%-16s", i == f->shown ? "" : "\n", item->subject);
    printf("  %s %.3g", item->name, item->value);
  }
  if (f->shown < f->count) putchar('\n');
  fflush(stdout);
  f->shown = f->count;
}

void findings_show_worst(const findings *f) {
  puts("largest values:");
  for (size_t i = 0; i < f->count; i++) {
    const finding *worst = &f->items[i];
    bool seen = false;
    double sum = 0;
    for (size_t k = 0; k < i; k++) seen = seen || !strcmp(f->items[k].name, worst->name);
    if (seen) continue;
    for (size_t k = i; k < f->count; k++) {
      if (strcmp(f->items[k].name, f->items[i].name)) continue;
      sum += f->items[k].value;
      if (!(f->items[k].value <= worst->value)) worst = &f->items[k];
    }
    printf("  %-24s %.3g (%s)", worst->name, worst->value, worst->subject);
    if (isfinite(worst->limit)) {
      printf(", limit %.3g\n", worst->limit);
    } else {
      printf(", all together %.6g\n", sum);
    }
  }
}

bool findings_write_json(const findings *f, const char *path, const char *const *title) {
  FILE *file = fopen(path, "w");
  if (!file) return false;
  json out;
  json_begin(&out, file);
  json_open_object(&out, NULL);
  for (size_t i = 0; title[i]; i += 2) json_text(&out, title[i], title[i + 1]);
  json_integer(&out, "passed", f->passed);
  json_integer(&out, "failed", f->failed);
  json_open_array(&out, "notes");
  for (size_t i = 0; i < f->note_count; i++) json_text(&out, NULL, f->notes[i]);
  json_close_array(&out);
  json_open_array(&out, "findings");
  for (size_t i = 0; i < f->count; i++) {
    const finding *item = &f->items[i];
    json_open_object(&out, NULL);
    json_text(&out, "subject", item->subject);
    json_text(&out, "name", item->name);
    json_number(&out, "value", item->value);
    json_number(&out, "limit", item->limit);
    json_close_object(&out);
  }
  json_close_array(&out);
  json_close_object(&out);
  json_end(&out);
  return !fclose(file);
}

void findings_free(findings *f) {
  for (size_t i = 0; i < f->note_count; i++) free(f->notes[i]);
  free(f->notes);
  free(f->items);
  *f = (findings){0};
}
