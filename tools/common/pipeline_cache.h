/* SPDX-License-Identifier: Apache-2.0
 * The user's pipeline cache: one file an entry in the cache folder. */
#ifndef WISP_TOOLS_PIPELINE_CACHE_H
#define WISP_TOOLS_PIPELINE_CACHE_H

#include <wisp/wisp.h>

wisp_cache pipeline_cache(void);

#endif
