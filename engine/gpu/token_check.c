/* SPDX-License-Identifier: Apache-2.0 */
#include "gpu/token_check.h"

#include "gpu/executor.h"

void wisp_token_check_ids(const wisp_model *model, int32_t ids[WISP_CHECK_TOKENS]) {
  ids[0] = 0;
  ids[1] = (int32_t)(model->vocabulary / 2);
  ids[2] = (int32_t)(model->vocabulary - 1);
}

double wisp_token_check_nmse(const float *expected, const float *found, uint64_t count) {
  double error = 0, power = 0;
  for (uint64_t i = 0; i < count; i++) {
    const double difference = (double)found[i] - (double)expected[i];
    error += difference * difference;
    power += (double)expected[i] * (double)expected[i];
  }
  return error == 0 ? 0 : error / power;
}

wisp_status wisp_token_check_run(wisp_timeline *timeline, const wisp_model *model, wisp_token_check *check) {
  int32_t ids[WISP_CHECK_TOKENS];
  wisp_token_check_ids(model, ids);
  wisp_gpu_truncate(timeline, 0);
  for (uint32_t i = 0; i < WISP_CHECK_TOKENS; i++)
    WISP_TRY(wisp_gpu_append(timeline, ids + i, 1, WISP_LOGITS_LAST, check->logits + (size_t)i * model->vocabulary));
  uint32_t made;
  return wisp_gpu_generate(timeline, 1, &check->next, &made);
}

bool wisp_token_check_agrees(const wisp_model *model, const wisp_token_check *expected, const wisp_token_check *found,
                             double *nmse) {
  *nmse = wisp_token_check_nmse(expected->logits, found->logits, (uint64_t)WISP_CHECK_TOKENS * model->vocabulary);
  return *nmse <= 1e-6 && found->next == expected->next; /* NaN is not */
}
