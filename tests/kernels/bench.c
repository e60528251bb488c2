/* SPDX-License-Identifier: Apache-2.0 */
#include "bench.h"

#include <stdio.h>
#include <string.h>

#include "common/platform.h"
#include "gpu/batch_kernels.h"
#include "gpu/executor.h"

enum { BLOCKS = 4, CONTEXT = 1088, ENOUGH_MS = 60, MOST = 512 }; /* blocks in turn: small caches must not hold them all */

typedef struct bencher {
  const check_params *params;
  bed bed;
  const char *type;
  bool first; /* of the types: times what does not depend on them, too */
  void (*row)(void *user, const bench_row *row);
  void *user;
} bencher;

static wisp_status submit(bencher *b) {
  WISP_GPU_TRY(wvk_submit(b->bed.device, &b->bed.commands, 1));
  return wisp_gpu_status(wvk_wait(b->bed.commands, UINT64_MAX));
}

/* Numbers that are none of the special ones, as floats and as halves. */
static wisp_status fill_buffers(bencher *b) {
  WISP_GPU_TRY(wvk_commands_begin(b->bed.commands));
  for (int i = BED_DATA; i <= BED_KV; i++) wvk_cmd_fill(b->bed.commands, b->bed.buffers[i], 0, b->bed.words[i] * 4, 0x2e002e00);
  WISP_GPU_TRY(wvk_commands_end(b->bed.commands));
  return submit(b);
}

static void write_step(bencher *b, uint32_t position, uint32_t count) {
  uint32_t *step = wvk_buffer_map(b->bed.buffers[BED_STEP]);
  step[WISP_STEP_POSITION] = position;
  step[WISP_STEP_COUNT] = count;
  wvk_buffer_flush(b->bed.buffers[BED_STEP], 0, 8);
}

/* times runs in a chain, each of the next block; milliseconds. */
static wisp_status time_chain(bencher *b, const bed_run *run, uint32_t times, double *ms, bool *timestamps) {
  WISP_GPU_TRY(wvk_commands_begin(b->bed.commands));
  wvk_cmd_timestamp(b->bed.commands, 0);
  for (uint32_t i = 0; i < times; i++) {
    bed_run next = *run;
    if (run->op->executed_block >= 0) next.op -= 5 * (i % BLOCKS);
    bed_record(&b->bed, &next);
    wvk_cmd_barrier(b->bed.commands);
  }
  wvk_cmd_timestamp(b->bed.commands, 1);
  WISP_GPU_TRY(wvk_commands_end(b->bed.commands));
  write_step(b, run->position, run->count);
  const double start = platform_now_ms();
  WISP_TRY(submit(b));
  *ms = platform_now_ms() - start;
  double ns[2];
  *timestamps = wvk_commands_times(b->bed.commands, ns) && ns[1] > 0;
  if (*timestamps) *ms = ns[1] * 1e-6;
  return WISP_OK;
}

static wisp_status time_run(bencher *b, const bed_run *run) {
  const uint32_t product = run->batch ? wisp_batch_product(&b->bed.modes[run->mode], run->op) : 0;
  const wisp_shader *shader = b->bed.kernels[bed_kernel(&b->bed, run, product)].shader;
  bench_row row = {.shader = shader, .op = run->op->kind, .columns = run->columns, .kv_length = run->position + run->count};
  snprintf(row.type, sizeof row.type, "%s",
           run->op->matrix_count                ? b->type
           : run->op->kind == WISP_OP_ATTENTION ? "kv f16"
                                                : "-");
  double ms = 0, best = 0;
  WISP_TRY(time_chain(b, run, 2, &ms, &row.timestamps)); /* warms up */
  uint32_t times = ms > 0 ? (uint32_t)(2 * ENOUGH_MS / ms) : MOST;
  times = times < 2 ? 2 : times > MOST ? MOST : times;
  WISP_TRY(time_chain(b, run, times, &best, &row.timestamps));
  for (int i = 0; i < 2; i++) {
    WISP_TRY(time_chain(b, run, times, &ms, &row.timestamps));
    if (ms < best) best = ms;
  }
  row.microseconds = 1e3 * best / times;
  row.gb_per_s = (double)wisp_op_bytes(&b->bed.plan, run->op, run->columns, run->position) / row.microseconds * 1e-3;
  b->row(b->user, &row);
  return WISP_OK;
}

/* Each kernel that the modes choose for the run. */
static wisp_status bench_run(bencher *b, bed_run run) {
  for (run.mode = 0; run.mode < BED_MODES; run.mode++) {
    bool refused = false;
    if (bed_is_new(&b->bed, &run, &refused) && !refused) WISP_TRY(time_run(b, &run));
  }
  return WISP_OK;
}

static wisp_status bench_op(bencher *b, wisp_op_kind kind) {
  static const struct {
    uint32_t position, columns;
    bool attention_only;
  } runs[] = {{127, 1, false}, {1023, 1, true}, {64, 64, false}, {960, 64, true}, {0, 512, false}, {512, 512, true}};
  const uint32_t room = b->bed.modes[0].activations.logit_columns;
  for (size_t i = 0; i < sizeof runs / sizeof *runs; i++) {
    bed_run run = {.op = bed_op(&b->bed, kind),
                   .batch = runs[i].columns > 1,
                   .position = runs[i].position,
                   .count = runs[i].columns,
                   .columns = runs[i].columns};
    if (runs[i].columns > b->bed.shape->columns) continue;
    if (runs[i].attention_only && kind != WISP_OP_ATTENTION) continue;
    if (kind == WISP_OP_SAMPLE && run.columns > 1) continue;
    if (kind == WISP_OP_HEAD && run.columns > room) run.columns = room;
    WISP_TRY(bench_run(b, run));
  }
  return WISP_OK;
}

static wisp_status bench_type(bencher *b) {
  WISP_TRY(bed_build(&b->bed, check_wanted, b->params));
  WISP_TRY(fill_buffers(b));
  for (int kind = WISP_OP_EMBED; kind <= WISP_OP_SAMPLE; kind++)
    if (b->first || bed_op(&b->bed, (wisp_op_kind)kind)->matrix_count) WISP_TRY(bench_op(b, (wisp_op_kind)kind));
  return WISP_OK;
}

wisp_status bench_kernels(const check_params *params, void (*row)(void *user, const bench_row *row), void *user) {
  static const char *const types[] = {"q4_0", "q8_0", "f16"};
  const uint32_t columns = wisp_batch_columns(wvk_device_caps(params->device));
  uint64_t random = params->seed;
  wisp_status status = WISP_OK;
  for (size_t i = 0; i < sizeof types / sizeof *types && status == WISP_OK; i++) {
    const shape s = {"mobilellm-125m", 576,      9,     3,     64,    1536,       32000, CONTEXT,
                     columns,          types[i], false, false, false, "EQAOGDHS", ""};
    bencher b = {.params = params, .type = types[i], .first = i == 0, .row = row, .user = user};
    status = bed_open(&b.bed, params->host, params->device, &s, BLOCKS, false, &random);
    if (status == WISP_OK) status = bench_type(&b);
    bed_close(&b.bed);
  }
  return status;
}
