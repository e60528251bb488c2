/* SPDX-License-Identifier: Apache-2.0 */
#include "table.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "common/platform.h"

/* The first GPU and the first CPU among the columns; -1 = none. */
static int column_of(const table_column *columns, size_t count, const char *backend) {
  for (size_t i = 0; i < count; i++) {
    if (!strcmp(columns[i].rows[0].backend, backend)) return (int)i;
  }
  return -1;
}

/* "12.3", or "-" where unknown. */
static const char *number(double value, int decimals, char text[32]) {
  if (!isfinite(value)) return "-";
  snprintf(text, 32, "%.*f", decimals, value);
  return text;
}

static void print_cells(FILE *file, const table_column *column, size_t i) {
  const row *item = &column->rows[i];
  char rate[32], spread[32], ms[32], bandwidth[32], share[32] = "-";
  double part = 100 * item->gb_per_s / column->limits.copy_gb_per_s;
  if (isfinite(part)) snprintf(share, sizeof share, "%.0f %%", part);
  fprintf(file, " | %9s %7s %8s %7s %6s", number(item->tok_per_s, 1, rate), number(item->tok_per_s_stddev, 1, spread),
          number(item->ms_p50, 2, ms), number(item->gb_per_s, 2, bandwidth), share);
}

static void print_start(FILE *file, const table_column *column) {
  const row *item = &column->rows[0];
  char load[32], init[32], first[32], copy[32];
  fprintf(file, "%-9s load %s ms, init %s ms, first token %s ms; copies %s GB/s; %s", column->device,
          number(item->load_ms, 0, load), number(item->init_ms, 0, init), number(item->first_token_ms, 0, first),
          number(column->limits.copy_gb_per_s, 1, copy), item->device);
  putc('\n', file);
  if (*column->limits.decode) fprintf(file, "%-9s decode in %s\n", "", column->limits.decode);
}

/* What the CPU runs on, and what no kernel could beat here: reading all weights, multiplying with all of them. */
static void print_floors(FILE *file, const table_column *column) {
  const measure_limits *l = &column->limits;
  if (strcmp(column->rows[0].backend, "cpu")) return;
  fprintf(file, "%-9s kernels %s, %.0f threads, %u cores\n", "", l->kernels, column->rows[0].threads, platform_cores());
  if (!(l->cpu.read_gb_per_s > 0 && l->cpu.token_gflops > 0 && l->cpu.batch_gflops > 0)) return;
  const double read_ms = l->token_bytes / l->cpu.read_gb_per_s / 1e6, token_ms = l->token_gflop / l->cpu.token_gflops * 1e3;
  const double prompt_ms = l->prompt_gflop / l->cpu.batch_gflops * 1e3, floor_ms = read_ms > token_ms ? read_ms : token_ms;
  fprintf(file, "%-9s floors: reply %.2f ms to read %.1f MB at %.1f GB/s, %.2f ms to multiply at %.0f GFLOP/s: %.0f tok/s;\n",
          "", read_ms, l->token_bytes / 1e6, l->cpu.read_gb_per_s, token_ms, l->cpu.token_gflops, 1e3 / floor_ms);
  fprintf(file, "%-17s prompt %.2f ms to multiply at %.0f GFLOP/s: %.0f tok/s\n", "", prompt_ms, l->cpu.batch_gflops,
          1e3 / prompt_ms);
}

/* "faster here: pp128 cpu (3.1x), tg32 vulkan (1.2x)" */
static void print_verdict(FILE *file, const table_column *gpu, const table_column *cpu, size_t row_count) {
  fputs("faster here:", file);
  for (size_t i = 0; i < row_count; i++) {
    double ratio = gpu->rows[i].tok_per_s / cpu->rows[i].tok_per_s;
    const table_column *winner = ratio >= 1 ? gpu : cpu;
    fprintf(file, "%s %s", i ? "," : "", gpu->rows[i].test);
    if (gpu->rows[i].depth > 0) fprintf(file, "@%.0f", gpu->rows[i].depth);
    fprintf(file, " %s (%.2fx)", winner->device, ratio >= 1 ? ratio : 1 / ratio);
  }
  putc('\n', file);
}

void table_print(FILE *file, const table_column *columns, size_t column_count, size_t row_count) {
  if (column_count == 0 || row_count == 0) return;
  int gpu = column_of(columns, column_count, "vulkan"), cpu = column_of(columns, column_count, "cpu");
  bool compare = gpu >= 0 && cpu >= 0;
  fprintf(file, "\n%s, %s\n", columns[0].rows[0].model, columns[0].rows[0].type);
  for (size_t i = 0; i < column_count; i++) print_start(file, &columns[i]);
  for (size_t i = 0; i < column_count; i++) print_floors(file, &columns[i]);
  fprintf(file, "\n%-14s", "");
  for (size_t i = 0; i < column_count; i++) fprintf(file, " | %-41s", columns[i].device);
  fprintf(file, "%s\n%-8s %5s", compare ? " |" : "", "test", "depth");
  for (size_t i = 0; i < column_count; i++) fprintf(file, " | %9s %7s %8s %7s %6s", "tok/s", "+-", "ms p50", "GB/s", "of cp");
  fputs(compare ? " | GPU/CPU\n" : "\n", file);
  for (size_t i = 0; i < row_count; i++) {
    fprintf(file, "%-8s %5.0f", columns[0].rows[i].test, columns[0].rows[i].depth);
    for (size_t j = 0; j < column_count; j++) print_cells(file, &columns[j], i);
    if (compare) fprintf(file, " | %6.2fx", columns[gpu].rows[i].tok_per_s / columns[cpu].rows[i].tok_per_s);
    putc('\n', file);
  }
  if (compare) {
    print_verdict(file, &columns[gpu], &columns[cpu], row_count);
  } else {
    fprintf(file, "faster here: nothing to compare, only %s was measured\n", columns[0].device);
  }
}
