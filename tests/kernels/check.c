/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"

#include <stdio.h>
#include <string.h>

#include "gpu/batch_kernels.h"
#include "random.h"

static const struct {
  uint32_t need;
  size_t feature;
} needs[] = {
    {WISP_NEEDS_SUBGROUP, offsetof(wvk_caps, subgroup_shuffle)}, {WISP_NEEDS_FLOAT16, offsetof(wvk_caps, float16)},
    {WISP_NEEDS_STORAGE16, offsetof(wvk_caps, storage16)},       {WISP_NEEDS_INT8, offsetof(wvk_caps, int8)},
    {WISP_NEEDS_STORAGE8, offsetof(wvk_caps, storage8)},         {WISP_NEEDS_INT_DOT, offsetof(wvk_caps, int_dot)},
    {WISP_NEEDS_MEMORY_MODEL, offsetof(wvk_caps, memory_model)}, {WISP_NEEDS_COOPMAT, offsetof(wvk_caps, cooperative_matrix)},
    {WISP_NEEDS_ATOMIC64, offsetof(wvk_caps, atomic64)},
};

bool check_supported(const wisp_shader *shader, const wvk_caps *caps) {
  for (size_t i = 0; i < sizeof needs / sizeof *needs; i++)
    if ((shader->needs & needs[i].need) && !*(const bool *)((const char *)caps + needs[i].feature)) return false;
  return true;
}

bool check_wanted(const void *user, const wisp_shader *shader, wisp_op_kind kind) {
  static const char *const helpers[] = {"prepare", "prepare_subgroup", "head_norm", "kv_store", "sum_splits"}; /* of others */
  const check_params *params = user;
  for (size_t i = 0; i < sizeof helpers / sizeof *helpers; i++)
    if (!strcmp(shader->name, helpers[i])) return true;
  return !params->filter || strstr(shader->name, params->filter) || strstr(wisp_op_name(kind), params->filter);
}

/* Batches and positions. Those beyond a shape's columns are left out; positions are moved to fit its context, or left out where
 * they are all that is new. */
static const struct {
  uint32_t position, count;
  bool position_only;
} cases[] = {
    {0, 1, false},  {30, 1, true}, {31, 1, true},  {32, 1, true},  {255, 1, true}, {382, 1, true}, {383, 1, true},
    {999, 1, true}, {7, 2, false}, {29, 3, false}, {30, 4, false}, {59, 5, false}, {1, 63, false}, {936, 64, false},
};
enum { CASES = sizeof cases / sizeof *cases };

static bool depends_on_position(wisp_op_kind kind) {
  return kind == WISP_OP_EMBED || kind == WISP_OP_QKV || kind == WISP_OP_ATTENTION;
}

typedef struct checker {
  const check_params *params;
  check_result *result;
  tally *tally; /* where cases go */
  bed bed;
  truth truth;
  bool *probed; /* [wisp_shader_count]: variants whose comparison was put to the test */
  uint64_t random;
} checker;

/* A wrong value, and a write where none belongs: the comparison must see each. */
static void probe(checker *c, const bed_run *run) {
  region *r = &c->truth.regions[0];
  const uint32_t i = random_below(&c->random, r->count);
  const float kept = r->expected[i];
  if (r->kind == REGION_WORDS)
    r->words[i] ^= 1;
  else
    r->expected[i] += 4 * r->bound * r->magnitude[i] + 1e-3f * (r->kind == REGION_HALVES);
  if (r->kind == REGION_FLOATS && r->expected[i] == kept) r->expected[i] += 1;
  c->result->numb += truth_judge(&c->truth, run).ok;
  r->expected[i] = kept;
  c->bed.before[BED_DATA][0] ^= 1;
  c->result->numb += truth_judge(&c->truth, run).ok;
  c->bed.before[BED_DATA][0] ^= 1;
  c->result->probed += 2;
}

/* The run with each distinct kernel that the modes choose. */
static wisp_status check_run(checker *c, bed_run run) {
  bed *b = &c->bed;
  const wisp_activations *expected = NULL; /* the layout that the regions are for, and the tiles */
  const char *expected_tiles = NULL;
  uint32_t expected_halves = 0; /* whether the kernel computes with f16 */
  float expected_factor = 0;    /* of results or inputs in f16 */
  for (run.mode = 0; run.mode < BED_MODES; run.mode++) {
    bool refused = false;
    if (!bed_is_new(b, &run, &refused)) continue;
    const uint32_t product = run.batch ? wisp_batch_product(&b->modes[run.mode], run.op) : 0;
    const wisp_shader *shader = b->kernels[bed_kernel(b, &run, product)].shader;
    verdict v = {.text = "the driver refuses the pipeline"};
    if (!refused) {
      const wisp_activations *a = &b->modes[run.mode].activations;
      const uint32_t halves = shader->needs & (WISP_NEEDS_COOPMAT | WISP_NEEDS_FLOAT16);
      const char *tiles = run.batch ? wisp_batch_tiles(&b->modes[run.mode], run.op) : NULL;
      const float factor = run.batch ? wisp_batch_factor(&b->modes[run.mode], run.op->kind) : 0;
      if (!expected || memcmp(expected, a, sizeof *a) || tiles != expected_tiles || halves != expected_halves ||
          factor != expected_factor)
        truth_expect(&c->truth, &run);
      expected = a;
      expected_tiles = tiles;
      expected_halves = halves;
      expected_factor = factor;
      WISP_TRY(bed_go(b, &run));
      v = truth_judge(&c->truth, &run);
    }
    tally_add(c->tally, shader, b, &run, &v);
    for (uint32_t part = 0; part < wisp_kernel_parts(&b->modes[run.mode], run.op, run.batch) && run.op->matrix_count; part++) {
      const wisp_shader *helper = b->kernels[bed_kernel(b, &run, part)].shader;
      if (helper != shader) tally_add(c->tally, helper, b, &run, &v);
    }
    for (uint32_t i = 0; i < run.op->matrix_count; i++)
      c->result->types_seen[run.op->kind] |= 1u << run.op->matrices[i]->type->dtype;
    if (!v.ok || c->probed[shader - wisp_shaders]) continue;
    c->probed[shader - wisp_shaders] = true;
    probe(c, &run);
  }
  return WISP_OK;
}

/* Logits are made for a few columns at a time, and for the last one alone. */
static wisp_status check_head(checker *c, bed_run run) {
  const uint32_t room = c->bed.modes[0].activations.logit_columns;
  run.first = (run.count - 1) / room * room;
  run.columns = run.count - run.first;
  run.batch = run.columns > 1;
  WISP_TRY(check_run(c, run));
  run.first = run.count - 1;
  run.columns = 1;
  run.batch = run.count == 1;
  return check_run(c, run);
}

static wisp_status check_case(checker *c, wisp_op_kind kind, uint32_t i) {
  const shape *s = c->bed.shape;
  bed_run run = {.op = bed_op(&c->bed, kind),
                 .batch = cases[i].count > 1,
                 .position = cases[i].position,
                 .count = cases[i].count,
                 .columns = cases[i].count,
                 .shift = i};
  if (run.count > s->columns || (cases[i].position_only && !depends_on_position(kind))) return WISP_OK;
  if (run.position + run.count > s->context) {
    if (cases[i].position_only) return WISP_OK;
    run.position = s->context - run.count;
  }
  if (kind == WISP_OP_HEAD) return check_head(c, run);
  if (kind == WISP_OP_SAMPLE) {
    run.first = i % c->bed.modes[0].activations.logit_columns;
    run.columns = 1;
    return check_run(c, run);
  }
  WISP_TRY(check_run(c, run));
  if (i > 0) return WISP_OK;
  run.batch = true; /* a batch of one */
  return check_run(c, run);
}

static wisp_status check_ops(checker *c, bool broken) {
  c->tally = broken ? &c->result->broken : &c->result->tally;
  WISP_TRY(truth_open(&c->truth, &c->bed, broken, &c->random));
  wisp_status status = WISP_OK;
  for (int kind = WISP_OP_EMBED; kind <= WISP_OP_SAMPLE; kind++)
    for (uint32_t i = 0; i < CASES && status == WISP_OK && shape_has(c->bed.shape, (wisp_op_kind)kind); i++)
      status = check_case(c, (wisp_op_kind)kind, i);
  truth_close(&c->truth);
  return status;
}

/* Marks what some device would choose for this shape, this one's limits aside. */
static void mark_reachable(checker *c) {
  static const uint32_t subgroups[] = {4, 8, 32, 64};
  wvk_caps caps = *wvk_device_caps(c->params->device);
  caps.max_workgroup = 1024;
  caps.shared_memory = 64 << 10;
  for (size_t i = 0; i < sizeof needs / sizeof *needs; i++) *(bool *)((char *)&caps + needs[i].feature) = true;
  caps.cooperative_m = caps.cooperative_n = caps.cooperative_k = 16;
  caps.wrong_float16 = false;
  for (uint32_t i = 0; i < 2 * 5 * sizeof subgroups / sizeof *subgroups; i++) {
    wisp_kernel_context context = c->bed.modes[i / 5 % 2 ? 0 : BED_MODES - 1];
    context.caps = &caps;
    caps.kind = (wvk_kind)(i % 5);
    caps.subgroup_size = caps.subgroup_min = caps.subgroup_max = subgroups[i / 5 / 2];
    caps.cooperative_matrix = i / 5 % 2;
    for (uint32_t i_op = 0; i_op < 2 * (WISP_OP_SAMPLE + 1); i_op++) {
      const wisp_op *op = bed_op(&c->bed, (wisp_op_kind)(i_op / 2));
      for (uint32_t part = 0; part < wisp_kernel_parts(&context, op, i_op % 2); part++)
        c->result->reachable[wisp_kernel_for(&context, op, part, i_op % 2).kernel.shader - wisp_shaders] = true;
    }
  }
}

static wisp_status check_shape(checker *c, bool self_check) {
  WISP_TRY(bed_build(&c->bed, check_wanted, c->params));
  size_t size, size_after;
  uint8_t *before = bed_read_weights(&c->bed, &size);
  wisp_status status = check_ops(c, false);
  uint8_t *after = status == WISP_OK ? bed_read_weights(&c->bed, &size_after) : NULL;
  if (status == WISP_OK && (!before || !after)) status = WISP_ERROR_DEVICE;
  if (status == WISP_OK && memcmp(before, after, size)) {
    printf("     shape %s: weights on the device have changed\n", c->bed.shape->name);
    c->result->weights_changed++;
  }
  wisp_host_free(c->params->host, before);
  wisp_host_free(c->params->host, after);
  mark_reachable(c);
  if (status == WISP_OK && self_check) status = check_ops(c, true);
  return status;
}

wisp_status check_shapes(const check_params *params, check_result *result) {
  *result = (check_result){.broken.quiet = true};
  checker c = {.params = params, .result = result, .random = params->seed};
  c.probed = wisp_host_alloc(params->host, wisp_shader_count, sizeof *c.probed);
  result->reachable = wisp_host_alloc(params->host, wisp_shader_count, sizeof *result->reachable);
  if (!c.probed || !result->reachable) return wisp_fail_memory(params->host, "checker", wisp_shader_count);
  wisp_status status = WISP_OK;
  for (uint32_t i = 0; i < shape_count && status == WISP_OK; i++) {
    status = bed_open(&c.bed, params->host, params->device, &shapes[i], SHAPE_BLOCKS, true, &c.random);
    if (status == WISP_OK) status = check_shape(&c, i == 0);
    if (params->verbose) printf("     shape %s: %u pipelines\n", shapes[i].name, c.bed.kernel_count);
    bed_close(&c.bed);
  }
  wisp_host_free(params->host, c.probed);
  return status;
}

void check_close(const check_params *params, check_result *result) {
  tally_close(&result->tally);
  tally_close(&result->broken);
  wisp_host_free(params->host, result->reachable);
}
