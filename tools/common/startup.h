/* SPDX-License-Identifier: Apache-2.0
 * What an engine's start-up took, for people and as JSON. */
#ifndef WISP_TOOLS_STARTUP_H
#define WISP_TOOLS_STARTUP_H

#include <stdio.h>
#include <wisp/wisp.h>

#include "json.h"

/* A line for each step: when it began, how long it took. */
void startup_print(FILE *file, wisp_engine *engine);

/* An array of objects with name, begin_ms and ms. */
void startup_write_json(json *out, const char *key, wisp_engine *engine);

#endif
