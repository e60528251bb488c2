/* SPDX-License-Identifier: Apache-2.0 */
#include "gpu/pipelines.h"

typedef struct job {
  wvk_pipeline **pipelines;
  wvk_status *results;
  wvk_layout *layout;
  const wvk_pipeline_params *params;
} job;

static wisp_status build(void *argument, uint32_t part, uint32_t worker) {
  const job *j = argument;
  j->results[part] = wvk_pipeline_create(&j->pipelines[part], j->layout, &j->params[part]);
  return WISP_OK; /* the others are built whatever becomes of this one */
}

wvk_status wisp_pipelines_create(wisp_crew *crew, uint32_t threads, wvk_pipeline **pipelines, wvk_status *results,
                                 wvk_layout *layout, const wvk_pipeline_params *params, uint32_t count) {
  job j = {pipelines, results, layout, params};
  wisp_crew_run(crew, build, &j, count, threads);
  for (uint32_t i = 0; i < count; i++)
    if (results[i] != WVK_OK) return results[i];
  return WVK_OK;
}
