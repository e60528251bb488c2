/* SPDX-License-Identifier: Apache-2.0
 * What was checked and how it went: a row for each variant, op and element types. */
#ifndef WISP_CHECKER_TALLY_H
#define WISP_CHECKER_TALLY_H

#include "truth.h"

typedef struct tally_row {
  const wisp_shader *shader;
  wisp_op_kind op;
  char types[32]; /* "q4_0", "q4_0+f16", attention: "kv f16"; a "~" behind: scales rounded to f16 */
  bool rounded;
  uint32_t cases, failures;
  double worst, of_bound; /* as in verdict, the largest */
} tally_row;

typedef struct tally {
  tally_row *rows; /* [count], owned */
  uint32_t count;
  bool quiet; /* failures are not printed: they are wanted */
} tally;

/* Adds a case; prints the first failures of each row. */
void tally_add(tally *t, const wisp_shader *shader, const bed *bed, const bed_run *run, const verdict *verdict);
void tally_close(tally *t);

/* Sums over the rows of a variant; worst without the rounded rows. */
tally_row tally_sum(const tally *t, const wisp_shader *shader);

#endif
