/* SPDX-License-Identifier: Apache-2.0 */
#include "convert/importance.h"

#include <inttypes.h>
#include <stdio.h>

static const wisp_gguf_tensor *find(const wisp_importance *importance, wisp_text matrix, const char *suffix) {
  char name[512];
  snprintf(name, sizeof name, "%.*s%s", WISP_TEXT_ARGS(matrix), suffix);
  return wisp_gguf_find_tensor(&importance->gguf, name);
}

wisp_status wisp_importance_open(wisp_importance *importance, const wisp_host *host, const wisp_model_source *source,
                                 const wisp_gguf *model) {
  *importance = (wisp_importance){.host = host};
  if (!source->path && !source->data && !source->read && source->fd <= 0) return WISP_OK;
  importance->open = true;
  WISP_TRY(wisp_bytes_open(&importance->bytes, host, source));
  WISP_TRY(wisp_gguf_open(&importance->gguf, host, &importance->bytes));
  for (uint64_t i = 0; i < model->tensor_count; i++)
    if (find(importance, model->tensors[i].name, WISP_IMPORTANCE_SUM)) return WISP_OK;
  return wisp_fail(host, WISP_ERROR_FORMAT, "%s: has no importance of any matrix of %s", importance->gguf.name, model->name);
}

void wisp_importance_close(wisp_importance *importance) {
  wisp_host_free(importance->host, importance->mean);
  wisp_gguf_close(&importance->gguf);
  wisp_bytes_close(&importance->bytes, importance->host);
  *importance = (wisp_importance){0};
}

wisp_status wisp_importance_of(wisp_importance *importance, const wisp_gguf_tensor *matrix, const float **mean) {
  *mean = NULL;
  if (!importance->open) return WISP_OK;
  const wisp_gguf_tensor *sums = find(importance, matrix->name, WISP_IMPORTANCE_SUM);
  const wisp_gguf_tensor *counts = find(importance, matrix->name, WISP_IMPORTANCE_COUNT);
  if (!sums || !counts) return WISP_OK;
  if (sums->shape[0] != matrix->shape[0] || sums->shape[1] != 1 || counts->shape[0] != 1 || counts->shape[1] != 1)
    return wisp_fail(importance->host, WISP_ERROR_FORMAT,
                     "%s: importance of %.*s has %" PRIu64 " x %" PRIu64 " columns, the matrix %" PRIu64
                     ": the file is of another model",
                     importance->gguf.name, WISP_TEXT_ARGS(matrix->name), sums->shape[1], sums->shape[0], matrix->shape[0]);
  const size_t cols = (size_t)matrix->shape[0];
  wisp_host_free(importance->host, importance->mean);
  importance->mean = wisp_host_alloc(importance->host, cols, sizeof(float));
  if (!importance->mean) return wisp_fail_memory(importance->host, "importance of a matrix", cols * sizeof(float));
  float count;
  counts->type->dequantize(counts->data, &count, 1);
  if (!(count > 0)) return WISP_OK; /* never seen */
  sums->type->dequantize(sums->data, importance->mean, cols);
  for (size_t i = 0; i < cols; i++) {
    importance->mean[i] /= count;
    if (!(importance->mean[i] >= 0 && importance->mean[i] < 1e30f))
      return wisp_fail(importance->host, WISP_ERROR_FORMAT, "%s: importance of %.*s holds %g, expected 0 to 1e30",
                       importance->gguf.name, WISP_TEXT_ARGS(matrix->name), (double)importance->mean[i]);
  }
  *mean = importance->mean;
  return WISP_OK;
}
