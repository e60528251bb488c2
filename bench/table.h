/* SPDX-License-Identifier: Apache-2.0
 * The table that people read: one line a test, the devices side by side. */
#ifndef WISP_BENCH_TABLE_H
#define WISP_BENCH_TABLE_H

#include <stdio.h>

#include "measure.h"

/* One device's rows of a model, all devices' tests in the same order. */
typedef struct table_column {
  const char *device; /* as asked for: "vulkan:0" */
  const row *rows;    /* [row_count] */
  measure_limits limits;
} table_column;

void table_print(FILE *file, const table_column *columns, size_t column_count, size_t row_count);

#endif
