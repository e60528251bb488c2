/* SPDX-License-Identifier: Apache-2.0 */
#include "sampling.h"

#include <stddef.h>

const char *const sampling_kv_types[] = {"f16", "f32", NULL};
