/* SPDX-License-Identifier: Apache-2.0 */
#include "rows.h"

#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "common/json.h"

typedef enum field_kind { TEXT, COUNT, NUMBER } field_kind;

#define FIELD(name, kind)                                                                                                      \
  { #name, kind, offsetof(row, name) }

static const struct {
  const char *name;
  field_kind kind;
  size_t offset;
} fields[] = {
    FIELD(model, TEXT),
    FIELD(type, TEXT),               /* most frequent weight type */
    FIELD(device, TEXT),             /* its name */
    FIELD(backend, TEXT),            /* "cpu", "vulkan" */
    FIELD(threads, COUNT),           /* of the CPU executor; 0 on Vulkan */
    FIELD(test, TEXT),               /* "pp512": 512 tokens in one batch; "tg128": 128 tokens one after the other */
    FIELD(depth, COUNT),             /* tokens in the cache before the test */
    FIELD(tok_per_s, NUMBER),        /* mean over repetitions */
    FIELD(tok_per_s_stddev, NUMBER), /* over repetitions; unknown for one */
    FIELD(ms_p50, NUMBER),           /* tg: between tokens, all repetitions; pp: one whole batch */
    FIELD(ms_p90, NUMBER),           /* nearest rank */
    FIELD(ms_p99, NUMBER),
    FIELD(bytes_per_token, COUNT),       /* tg: weights and the KV cache at the mean context; unknown for pp */
    FIELD(gb_per_s, NUMBER),             /* bytes_per_token x tok_per_s / 1e9 */
    FIELD(dispatches_per_token, NUMBER), /* Vulkan: counted while measuring */
    FIELD(submits_per_token, NUMBER),
    FIELD(host_us_per_token, NUMBER), /* Vulkan, tg: processor time of the process */
    FIELD(load_ms, NUMBER),           /* opening and checking the file */
    FIELD(init_ms, NUMBER),           /* device, upload, pipelines */
    FIELD(first_token_ms, NUMBER),    /* cold: new session, first prompt of the -p list, one token */
    FIELD(peak_device_bytes, COUNT),  /* weights in the layout of the device, caches, scratch */
    FIELD(peak_rss_bytes, COUNT),     /* of the process while this device was measured */
    FIELD(joules_per_token, NUMBER),
};
enum { FIELD_COUNT = sizeof fields / sizeof fields[0] };

static const char *text_of(const row *item, size_t field) {
  return (const char *)item + fields[field].offset;
}

static double number_of(const row *item, size_t field) {
  double value;
  memcpy(&value, (const char *)item + fields[field].offset, sizeof value);
  return value;
}

row row_unknown(void) {
  row item;
  memset(&item, 0, sizeof item);
  for (size_t i = 0; i < FIELD_COUNT; i++) {
    if (fields[i].kind != TEXT) memcpy((char *)&item + fields[i].offset, &(double){NAN}, sizeof(double));
  }
  return item;
}

int rows_add(rows *list, const row *item) {
  if (list->count == list->room) {
    size_t room = list->room ? 2 * list->room : 16;
    row *items = realloc(list->items, room * sizeof *items);
    if (!items) return 0;
    list->items = items;
    list->room = room;
  }
  list->items[list->count++] = *item;
  return 1;
}

void rows_free(rows *list) {
  free(list->items);
  *list = (rows){0};
}

void rows_write_json(const rows *list, FILE *file) {
  json out;
  json_begin(&out, file);
  json_open_array(&out, NULL);
  for (size_t i = 0; i < list->count; i++) {
    const row *item = &list->items[i];
    json_open_object(&out, NULL);
    for (size_t j = 0; j < FIELD_COUNT; j++) {
      if (fields[j].kind == TEXT) {
        json_text(&out, fields[j].name, text_of(item, j));
      } else if (fields[j].kind == COUNT && isfinite(number_of(item, j))) {
        json_integer(&out, fields[j].name, llround(number_of(item, j)));
      } else {
        json_number(&out, fields[j].name, number_of(item, j));
      }
    }
    json_close_object(&out);
  }
  json_close_array(&out);
  json_end(&out);
}

static void csv_text(FILE *file, const char *text) {
  if (!strpbrk(text, ",\"\n")) {
    fputs(text, file);
    return;
  }
  putc('"', file);
  for (; *text; text++) {
    if (*text == '"') putc('"', file);
    putc(*text, file);
  }
  putc('"', file);
}

void rows_write_csv(const rows *list, FILE *file) {
  for (size_t j = 0; j < FIELD_COUNT; j++) fprintf(file, "%s%s", j ? "," : "", fields[j].name);
  putc('\n', file);
  for (size_t i = 0; i < list->count; i++) {
    for (size_t j = 0; j < FIELD_COUNT; j++) {
      if (j) putc(',', file);
      if (fields[j].kind == TEXT) {
        csv_text(file, text_of(&list->items[i], j));
      } else if (isfinite(number_of(&list->items[i], j))) {
        fprintf(file, fields[j].kind == COUNT ? "%.0f" : "%.9g", number_of(&list->items[i], j));
      }
    }
    putc('\n', file);
  }
}
