/* SPDX-License-Identifier: Apache-2.0 */
#include "cpu/weights.h"

#if defined(__linux__)
#include <sys/mman.h>
#endif

enum { ALIGNMENT = 64, PARTS_PER_THREAD = 4 };

/* What is multiplied: not the rows that embed looks up. */
static bool is_packed(const wisp_op *op, const wisp_matrix *matrix) {
  return op->kind != WISP_OP_EMBED && wisp_packed_format_of(matrix->type->dtype) != WISP_PACKED_NONE;
}

/* The same matrix in an earlier op, of a block that runs again; NULL if there is none. */
static const wisp_packed *seen_before(const wisp_cpu_weights *weights, const wisp_plan *plan, uint32_t op, uint32_t index) {
  const wisp_op *ops = plan->ops;
  for (uint32_t i = op; i-- > 0;) {
    if (ops[i].block && ops[i].block != ops[op].block) break; /* runs of a block follow one another */
    if (ops[i].kind == ops[op].kind && ops[i].matrices[index] == ops[op].matrices[index]) return &weights->ops[i][index];
  }
  return NULL;
}

typedef struct pack_job {
  const wisp_packed *packed;
  wisp_packing packing;
  const wisp_matrix *matrix;
  uint8_t *tiles;
} pack_job;

static void pack_part(void *argument, uint32_t part, uint32_t parts, uint32_t worker) {
  const pack_job *j = argument;
  const uint32_t tiles = wisp_packed_tiles(j->packed, j->packing);
  wisp_pack_tiles(j->packed, j->packing, j->matrix, wisp_share(tiles, part, parts), wisp_share(tiles, part + 1, parts),
                  j->tiles);
}

/* Plans all matrices (memory NULL, returns the bytes needed), or packs them. */
static uint64_t lay_out(wisp_cpu_weights *weights, const wisp_executor_params *params, wisp_packing packing, uint8_t *memory,
                        wisp_threads *threads) {
  const wisp_plan *plan = params->plan;
  uint64_t bytes = 0;
  for (uint32_t i = 0; i < plan->op_count; i++) {
    for (uint32_t k = 0; k < plan->ops[i].matrix_count; k++) {
      const wisp_matrix *matrix = plan->ops[i].matrices[k];
      if (!is_packed(&plan->ops[i], matrix)) continue;
      wisp_packed *packed = &weights->ops[i][k];
      const wisp_packed *before = seen_before(weights, plan, i, k);
      *packed = before ? *before : wisp_packed_plan(matrix, packing);
      if (before) continue;
      if (memory) {
        packed->tiles = memory + bytes;
        pack_job job = {packed, packing, matrix, memory + bytes};
        wisp_threads_run(threads, pack_part, &job, wisp_threads_count(threads) * PARTS_PER_THREAD);
        if (params->release) params->release(params->release_user, matrix->data, wisp_matrix_bytes(matrix));
      }
      bytes += (wisp_packed_bytes(packed, packing) + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    }
  }
  return bytes;
}

/* Read from end to end for each token, weights want few and large pages. */
static void advise_large_pages(uint8_t *memory, uint64_t bytes) {
#if defined(MADV_HUGEPAGE)
  const uintptr_t page = 4096, begin = ((uintptr_t)memory + page - 1) & ~(page - 1),
                  end = ((uintptr_t)memory + bytes) & ~(page - 1);
  if (end > begin) madvise((void *)begin, end - begin, MADV_HUGEPAGE);
#endif
}

wisp_status wisp_cpu_weights_open(wisp_cpu_weights *weights, const wisp_executor_params *params,
                                  const wisp_cpu_kernels *kernels, wisp_threads *threads) {
  const wisp_host *host = params->host;
  const wisp_plan *plan = params->plan;
  *weights = (wisp_cpu_weights){.host = host};
  weights->ops = wisp_host_alloc(host, plan->op_count, sizeof *weights->ops);
  if (!weights->ops) return wisp_fail_memory(host, "list of weights", plan->op_count * sizeof *weights->ops);
  if (!kernels->quantize) return WISP_OK;
  const uint64_t bytes = lay_out(weights, params, kernels->packing, NULL, threads);
  if (bytes == 0) return WISP_OK;
  if (bytes < SIZE_MAX - ALIGNMENT) weights->memory = wisp_host_alloc(host, (size_t)bytes + ALIGNMENT, 1);
  if (!weights->memory) {
    wisp_cpu_weights_close(weights);
    return wisp_fail_memory(host, "packed weights", bytes);
  }
  weights->bytes = bytes + ALIGNMENT;
  advise_large_pages(weights->memory, weights->bytes);
  lay_out(weights, params, kernels->packing, weights->memory + (ALIGNMENT - (uintptr_t)weights->memory % ALIGNMENT) % ALIGNMENT,
          threads);
  return WISP_OK;
}

void wisp_cpu_weights_close(wisp_cpu_weights *weights) {
  wisp_host_free(weights->host, weights->ops);
  wisp_host_free(weights->host, weights->memory);
  *weights = (wisp_cpu_weights){0};
}
