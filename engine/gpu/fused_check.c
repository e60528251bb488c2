/* SPDX-License-Identifier: Apache-2.0
 * The fused kernels earn trust: tokens decoded by them one by one beside the same tokens read as a batch, whose kernels the
 * self-test has judged. */
#include "gpu/executor.h"
#include "gpu/token_check.h"

/* What a batch's roundings may cost (f16 inputs of cooperative matrices: 2e-7 at most was seen); a wrong kernel is wrong by
 * far. */
static const double limit = 1e-4;

static wisp_status compare(gpu_executor *e, float *expected, float *found, double *nmse) {
  const uint32_t vocabulary = e->plan->model->vocabulary;
  int32_t ids[WISP_CHECK_TOKENS];
  wisp_token_check_ids(e->plan->model, ids);
  wisp_timeline *timeline;
  WISP_TRY(wisp_gpu_timeline_create(&timeline, &e->base, WISP_CHECK_TOKENS + 1, WISP_KV_F16));
  ((gpu_timeline *)timeline)->batch_limit = WISP_CHECK_TOKENS;
  wisp_persistent_bar((gpu_timeline *)timeline);
  wisp_status status = wisp_gpu_append(timeline, ids, WISP_CHECK_TOKENS, WISP_LOGITS_LAST, expected);
  wisp_gpu_truncate(timeline, 0);
  for (uint32_t i = 0; i < WISP_CHECK_TOKENS && status == WISP_OK; i++)
    status = wisp_gpu_append(timeline, ids + i, 1, WISP_LOGITS_LAST, found);
  wisp_gpu_timeline_destroy(timeline);
  *nmse = wisp_token_check_nmse(expected, found, vocabulary);
  return status;
}

wisp_status wisp_gpu_check_fused(gpu_executor *e) {
  const uint64_t vocabulary = e->plan->model->vocabulary;
  float *logits = wisp_host_alloc(e->host, 2 * vocabulary, sizeof *logits);
  if (!logits) return wisp_fail_memory(e->host, "check of the fused kernels", 2 * vocabulary * sizeof *logits);
  double nmse = 0;
  const wisp_status status = compare(e, logits, logits + vocabulary, &nmse);
  wisp_host_free(e->host, logits);
  if (status != WISP_OK || nmse <= limit) return status; /* NaN is not */
  wisp_log(e->host, WISP_LOG_WARN, "%s: the fused kernels compute wrong results (NMSE %.3g); using a dispatch for each op",
           wvk_device_caps(e->device)->name, nmse);
  e->context.refused |= WISP_REFUSED_FUSED;
  e->context.fused = false;
  WISP_TRY(wisp_gpu_build_pipelines(e, WISP_KV_F16));
  return wisp_gpu_selftest(e);
}
