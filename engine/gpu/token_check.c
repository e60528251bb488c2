/* SPDX-License-Identifier: Apache-2.0 */
#include "gpu/token_check.h"

#include "gpu/executor.h"

wisp_status wisp_token_check_run(wisp_timeline *timeline, const wisp_model *model, wisp_token_check *check) {
  const uint32_t vocabulary = model->vocabulary;
  const int32_t ids[WISP_CHECK_TOKENS] = {0, (int32_t)(vocabulary / 2), (int32_t)(vocabulary - 1)};
  wisp_gpu_truncate(timeline, 0);
  for (uint32_t i = 0; i < WISP_CHECK_TOKENS; i++)
    WISP_TRY(wisp_gpu_append(timeline, ids + i, 1, WISP_LOGITS_LAST, check->logits + (size_t)i * vocabulary));
  uint32_t made;
  return wisp_gpu_generate(timeline, 1, &check->next, &made);
}

bool wisp_token_check_agrees(const wisp_model *model, const wisp_token_check *expected, const wisp_token_check *found,
                             double *nmse) {
  double error = 0, power = 0;
  for (uint64_t i = 0; i < (uint64_t)WISP_CHECK_TOKENS * model->vocabulary; i++) {
    const double difference = (double)found->logits[i] - (double)expected->logits[i];
    error += difference * difference;
    power += (double)expected->logits[i] * (double)expected->logits[i];
  }
  *nmse = error / power;
  return error <= 1e-6 * power && found->next == expected->next; /* NaN is not */
}
