/* SPDX-License-Identifier: Apache-2.0
 * Runs all variants that a device can run on all shapes. */
#ifndef WISP_CHECKER_CHECK_H
#define WISP_CHECKER_CHECK_H

#include "tally.h"

typedef struct check_params {
  const wisp_host *host;
  wvk_device *device;
  const char *filter; /* only variants and ops whose name contains it; NULL = all */
  uint64_t seed;
  bool verbose;
} check_params;

/* Whether a device believed to have caps runs the variant. */
bool check_supported(const wisp_shader *shader, const wvk_caps *caps);
bed_wanted check_wanted; /* user: check_params */

typedef struct check_result {
  tally tally;
  tally broken;                            /* of the first shape with wrong expectations: every variant must fail */
  bool *reachable;                         /* [wisp_shader_count] variants that some device would choose, owned */
  uint32_t types_seen[WISP_OP_SAMPLE + 1]; /* bit of each element type that an op met */
  uint32_t numb;                           /* corruptions of correct results that the comparison let through */
  uint32_t probed;                         /* how many there were */
  uint32_t weights_changed;                /* shapes after which the device's weights were not what they had been */
} check_result;

/* All shapes. Fails where the device does; wrong numbers are in result. Close it in any case. */
wisp_status check_shapes(const check_params *params, check_result *result);
void check_close(const check_params *params, check_result *result);

#endif
