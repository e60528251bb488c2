/* SPDX-License-Identifier: Apache-2.0
 * Measures how a model starts on one device: cold, as if there were no pipeline cache, and warm, with what that start left. */
#ifndef WISP_BENCH_STARTUP_H
#define WISP_BENCH_STARTUP_H

#include "common/model.h"
#include "rows.h"

enum { STARTUP_MOST = 32 }; /* repetitions */

/* Opens the model repetitions times cold and as often warm, to the first token behind prompt tokens. Adds the rows "start cold"
 * and "start warm" with medians of load, init and first token, and prints them with the driver's share and the steps. The first
 * start of the process also pays for what the driver does once in a process, and the driver's own caches, if it keeps any, are
 * as they were: bench/start_up.py measures whole processes. Errors as the engine's calls. */
wisp_status startup_measure(const model_options *model, uint32_t prompt, uint32_t repetitions, rows *list, FILE *file);

#endif
