/* SPDX-License-Identifier: Apache-2.0
 * Random inputs from a printed seed: the same on every machine. */
#ifndef WISP_CHECKER_RANDOM_H
#define WISP_CHECKER_RANDOM_H

#include <stddef.h>
#include <stdint.h>

uint64_t random_next(uint64_t *state);
uint32_t random_below(uint64_t *state, uint32_t limit);
float random_normal(uint64_t *state); /* mean 0, deviation 1, never beyond 6 */

/* Where mistakes hide: an eighth zeros, an eighth sixteen times as large, the rest normal. */
void random_fill(uint64_t *state, float *values, size_t count);

#endif
