/* SPDX-License-Identifier: Apache-2.0
 * Device "auto": which device reads prompts and which makes replies, found out by a short trial of both. */
#ifndef WISP_SESSION_AUTO_H
#define WISP_SESSION_AUTO_H

#include "session/executor.h"

enum { WISP_CHOICE_TEXT = 256 };

/* Without a GPU (software Vulkan drivers do not count) the CPU, with compile_only the GPU. Else both are opened and timed with
 * a prompt of 32 tokens and 4 to 8 of a reply: below a second on a desktop, about two on a phone whose CPU reads 50 tokens a
 * second. The faster device takes a phase; different devices take the phases only where the prompt gains by more than a fifth.
 * The choice is kept in params->cache by model shape, devices and threads, and taken from there at the next start, where only
 * what was chosen is opened. A GPU that cannot be opened leaves the CPU. text: the choice and its reason. Errors of the CPU
 * executor. */
wisp_status wisp_auto_create(wisp_executor **executor, const wisp_executor_params *params, char text[WISP_CHOICE_TEXT]);

#endif
