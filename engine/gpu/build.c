/* SPDX-License-Identifier: Apache-2.0
 * The executor's pipelines: which the model's ops need, built side by side, replaced where the driver refuses one. */
#include <stdlib.h>
#include <string.h>

#include "gpu/executor.h"
#include "gpu/fused.h"
#include "gpu/pipelines.h"

static int32_t find_kernel(const gpu_executor *e, const wisp_kernel *kernel) {
  for (uint32_t i = 0; i < e->pipeline_count; i++)
    if (wisp_kernel_equal(&e->kernels[i], kernel)) return (int32_t)i;
  return -1;
}

void wisp_gpu_set_choice(gpu_executor *e, const wisp_choice *choice) {
  e->context.choice = *choice;
  wisp_activations_plan(&e->context, e->context.activations.columns);
  e->context.fused = wisp_fused_fits(&e->context);
}

const wvk_pipeline *wisp_gpu_pipeline(gpu_executor *e, const wisp_kernel *kernel) {
  pthread_mutex_lock(&e->mutex);
  const int32_t i = find_kernel(e, kernel);
  const wvk_pipeline *pipeline = i < 0 ? NULL : e->pipelines[i];
  pthread_mutex_unlock(&e->mutex);
  return pipeline;
}

typedef enum wanted { ALL_BUT_BATCH_HEAD, BATCH_HEAD } wanted;

/* Adds those kernels of op that are not there yet; false: no room. */
static bool collect_op(gpu_executor *e, const wisp_kernel_context *context, wanted which, const wisp_op *op,
                       const wisp_op **reasons) {
  for (int batch = 0; batch < 2; batch++) {
    if ((batch && op->kind == WISP_OP_HEAD) != (which == BATCH_HEAD)) continue;
    for (uint32_t part = 0; part < wisp_kernel_parts(context, op, batch); part++) {
      const wisp_kernel_call call = wisp_kernel_for(context, op, part, batch);
      if (find_kernel(e, &call.kernel) >= 0) continue;
      if (e->pipeline_count == WISP_GPU_MAX_PIPELINES) return false;
      reasons[e->pipeline_count] = op;
      e->kernels[e->pipeline_count] = call.kernel;
      e->pipelines[e->pipeline_count++] = NULL;
    }
  }
  return true;
}

/* Of all ops; returns how many were added, or -1 where there is no room. */
static int32_t collect_kernels(gpu_executor *e, const wisp_kernel_context *context, wanted which, const wisp_op **reasons) {
  const uint32_t before = e->pipeline_count;
  wisp_kernel_context drawing = *context;
  drawing.draws = !(context->refused & 1u << WISP_OP_SAMPLE);
  for (uint32_t i = 0; i < e->plan->op_count; i++) {
    const wisp_op *op = &e->plan->ops[i];
    if (!collect_op(e, context, which, op, reasons)) return -1;
    if (op->kind == WISP_OP_SAMPLE && !collect_op(e, &drawing, which, op, reasons)) return -1;
  }
  return (int32_t)(e->pipeline_count - before);
}

uint32_t *wisp_gpu_choose_spirv(const gpu_executor *e, wvk_pipeline_params *params, const wisp_shader *shader) {
  const char *directory = getenv("WISP_SHADER_DIR");
  const wvk_host host = wisp_gpu_host(e->host);
  uint32_t *compiled = NULL;
  params->spirv = shader->spirv;
  params->spirv_bytes = shader->bytes;
  if (!directory || shader->needs & WISP_NEEDS_COOPMAT) return NULL; /* which the compiler at hand may not know */
  if (wvk_glsl_compile(&host, directory, shader->source, shader->defines, &compiled, &params->spirv_bytes))
    params->spirv = compiled;
  else
    params->spirv_bytes = shader->bytes;
  return compiled;
}

uint32_t *wisp_gpu_pipeline_params(const gpu_executor *e, const wisp_kernel *kernel, wvk_pipeline_params *params) {
  *params = (wvk_pipeline_params){.name = kernel->shader->name,
                                  .constants = kernel->constants,
                                  .constant_count = WISP_C_COUNT,
                                  .subgroup_size = kernel->subgroup_size};
  return wisp_gpu_choose_spirv(e, params, kernel->shader);
}

/* Builds those from first on; results[i] of pipeline first + i. */
static wvk_status build_from(gpu_executor *e, uint32_t first, wvk_status *results) {
  wvk_pipeline_params params[WISP_GPU_MAX_PIPELINES];
  uint32_t *compiled[WISP_GPU_MAX_PIPELINES];
  const uint32_t count = e->pipeline_count - first;
  for (uint32_t i = 0; i < count; i++) {
    compiled[i] = wisp_gpu_pipeline_params(e, &e->kernels[first + i], &params[i]);
    params[i].statistics = e->compile_only;
  }
  const wvk_status status = wisp_pipelines_create(&e->builders, wisp_gpu_threads(), e->pipelines + first, results, e->layout,
                                                  params, count);
  const wvk_host host = wisp_gpu_host(e->host);
  for (uint32_t i = 0; i < count; i++) wvk_glsl_free(&host, compiled[i]);
  return status;
}

void wisp_gpu_drop_pipelines(gpu_executor *e, uint32_t first) {
  for (uint32_t i = first; i < e->pipeline_count; i++) wvk_pipeline_destroy(&e->pipelines[i]);
  e->pipeline_count = first;
}

/* A variant of matrix.comp in f16. */
static bool is_half(const wisp_shader *shader) {
  return shader->needs & WISP_NEEDS_FLOAT16 && !(shader->needs & WISP_NEEDS_COOPMAT);
}

static wisp_status build_new(gpu_executor *e, uint32_t first, const wisp_op **reasons) {
  wvk_status results[WISP_GPU_MAX_PIPELINES];
  const uint32_t count = e->pipeline_count - first;
  const wvk_status status = build_from(e, first, results);
  if (status == WVK_OK) return WISP_OK;
  if (status == WVK_ERROR_MEMORY || status == WVK_ERROR_LOST) return wisp_gpu_status(status);

  /* A driver that refuses a variant in f16 gets the one in f32, one that refuses a subgroup variant the plain one; refusing
   * that is the end. */
  uint32_t refused = 0;
  const char *name = "", *instead = "using the plain variant";
  for (uint32_t i = 0; i < count; i++)
    if (results[i] != WVK_OK) {
      name = e->kernels[first + i].shader->name;
      const bool draws = !strcmp(name, "draw"); /* then the host does */
      if (is_half(e->kernels[first + i].shader)) {
        refused |= WISP_REFUSED_HALF;
        instead = "decode computes in f32";
        continue;
      }
      if (!draws && !(e->kernels[first + i].shader->needs & WISP_NEEDS_SUBGROUP))
        return wisp_fail(e->host, WISP_ERROR_DEVICE, "%s: the driver refuses the kernel %s, which has no replacement",
                         wvk_device_caps(e->device)->name, name);
      refused |= 1u << reasons[first + i]->kind;
    }
  wisp_log(e->host, WISP_LOG_WARN, "%s: the driver refuses the kernel %s; %s", wvk_device_caps(e->device)->name, name, instead);
  if (e->context.fused) {
    e->context.fused = false;
    e->context.refused |= WISP_REFUSED_FUSED;
  } else {
    e->context.refused |= refused;
  }
  wisp_activations_plan(&e->context, e->context.activations.columns); /* another head leaves other candidates */
  wisp_gpu_drop_pipelines(e, first);
  return WISP_ERROR_UNSUPPORTED;
}

static wisp_status build_locked(gpu_executor *e, wisp_kv_type kv_type) {
  const wisp_op *reasons[WISP_GPU_MAX_PIPELINES];
  for (;;) {
    wisp_kernel_context context = e->context;
    context.kv_type = kv_type;
    context.fused = e->context.fused && wisp_fused_fits(&context);
    const uint32_t first = e->pipeline_count;
    const int32_t added = collect_kernels(e, &context, ALL_BUT_BATCH_HEAD, reasons);
    if (added < 0)
      return wisp_fail(e->host, WISP_ERROR_UNSUPPORTED,
                       "%s: blocks of this model differ so much that they need over %d pipelines", e->plan->model->name,
                       WISP_GPU_MAX_PIPELINES);
    const wisp_status status = added ? build_new(e, first, reasons) : WISP_OK;
    if (status != WISP_ERROR_UNSUPPORTED) return status; /* UNSUPPORTED: again, with the plain variants */
  }
}

wisp_status wisp_gpu_build_pipelines(gpu_executor *e, wisp_kv_type kv_type) {
  pthread_mutex_lock(&e->mutex);
  const wisp_status status = build_locked(e, kv_type);
  pthread_mutex_unlock(&e->mutex);
  return status;
}

wisp_status wisp_gpu_build_batch_head(gpu_executor *e, const wisp_kernel_context *context, bool *built) {
  const wisp_op *reasons[WISP_GPU_MAX_PIPELINES];
  wvk_status results[WISP_GPU_MAX_PIPELINES];
  pthread_mutex_lock(&e->mutex);
  const uint32_t first = e->pipeline_count;
  const wvk_status status = collect_kernels(e, context, BATCH_HEAD, reasons) < 0 ? WVK_ERROR_DRIVER
                                                                                 : build_from(e, first, results);
  if (status != WVK_OK) wisp_gpu_drop_pipelines(e, first);
  pthread_mutex_unlock(&e->mutex);
  *built = status == WVK_OK;
  return status == WVK_ERROR_MEMORY || status == WVK_ERROR_LOST ? wisp_gpu_status(status) : WISP_OK;
}
