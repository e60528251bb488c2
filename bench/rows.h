/* SPDX-License-Identifier: Apache-2.0
 * One measured test on one device: the row of the JSON and CSV files. */
#ifndef WISP_BENCH_ROWS_H
#define WISP_BENCH_ROWS_H

#include <stdio.h>

/* Numbers are NAN where unknown: null in JSON, empty in CSV. The comments of rows.c's table say what each means. */
typedef struct row {
  char model[128], type[16], device[256], backend[8], test[24];
  double threads, depth;
  double tok_per_s, tok_per_s_stddev;
  double ms_p50, ms_p90, ms_p99;
  double bytes_per_token, gb_per_s;
  double dispatches_per_token, submits_per_token, host_us_per_token;
  double load_ms, init_ms, first_token_ms;
  double peak_device_bytes, peak_rss_bytes, joules_per_token;
} row;

typedef struct rows {
  row *items; /* [count], owned */
  size_t count, room;
} rows;

row row_unknown(void); /* empty texts, NAN numbers */

/* Copies item; false when out of memory. */
int rows_add(rows *list, const row *item);
void rows_free(rows *list);

void rows_write_json(const rows *list, FILE *file);
void rows_write_csv(const rows *list, FILE *file);

#endif
