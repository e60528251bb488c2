/* SPDX-License-Identifier: Apache-2.0
 * Searched scales and the types that have no plain rounding: errors against bounds and against plain rounding. That plain
 * rounding has the bytes of other programs is in test_dtype.c. */
#include <criterion/criterion.h>
#include <math.h>

#include "base/little_endian.h"
#include "cpu/reference.h"
#include "model/quant.h"
#include "model/quant_search.h"

enum { COUNT = 16384, GUARD = 64 };

static const char *const searched[] = {"q4_0", "q4_1", "q5_0", "q5_1", "q4_k", "q5_k", "q6_k"};
enum { SEARCHED = sizeof searched / sizeof *searched };

static uint64_t state;

static double uniform(void) { /* (0, 1) */
  state ^= state >> 12;
  state ^= state << 25;
  state ^= state >> 27;
  return ((double)(state * 2685821657736338717u >> 11) + 0.5) / 9007199254740992.0;
}

static double normal(void) {
  const double radius = sqrt(-2 * log(uniform()));
  return radius * cos(6.283185307179586 * uniform());
}

typedef enum shape { NORMAL, HEAVY_TAILS, ONE_SIDED, KINDS } shape;

static void draw(shape kind, float *x) {
  state = 0x9e3779b97f4a7c15u + (uint64_t)kind;
  for (int i = 0; i < COUNT; i++) {
    const double value = 0.03 * normal();
    x[i] = (float)(kind == HEAVY_TAILS ? value / sqrt(uniform() + 0.02) : kind == ONE_SIDED ? fabs(value) + 0.01 : value);
  }
}

/* Root of the weighted mean square error, relative to the weights'. */
static double error_of(const float *x, const float *y, const float *importance) {
  double error = 0, norm = 0;
  for (int i = 0; i < COUNT; i++) {
    const double w = importance ? (double)importance[i] : 1, d = (double)x[i] - (double)y[i];
    error += w * d * d;
    norm += w * (double)x[i] * (double)x[i];
  }
  return sqrt(error / norm);
}

static double rounded(const wisp_dtype_info *type, const float *x, const float *used, const float *judged, bool fit) {
  static uint8_t blocks[4 * COUNT + GUARD];
  static float y[COUNT];
  const size_t bytes = (size_t)COUNT / type->block_weights * type->block_bytes;
  memset(blocks, 0xa5, sizeof blocks);
  if (fit) {
    type->fit(x, used, blocks, COUNT);
  } else {
    type->quantize(x, blocks, COUNT);
  }
  for (size_t i = bytes; i < bytes + GUARD; i++) cr_assert_eq(blocks[i], 0xa5, "%s wrote past its blocks", type->name);
  type->dequantize(blocks, y, COUNT);
  return error_of(x, y, judged);
}

Test(quantize, which_types_are_searched) {
  static const char *const all[] = {"f32", "f16", "bf16", "q8_0"};
  for (int i = 0; i < 4; i++) cr_assert(!wisp_dtype_by_name(all[i])->fit && wisp_dtype_by_name(all[i])->quantize);
  for (int i = 0; i < SEARCHED; i++) {
    const wisp_dtype_info *type = wisp_dtype_by_name(searched[i]);
    cr_assert_not_null(type->fit);
    cr_assert_eq(type->quantize == NULL, type->block_weights == 256);
  }
}

/* Bounds a few percent above what was measured; a mistake in packing or search is far outside. */
Test(quantize, error_on_normal_weights) {
  static const double bounds[SEARCHED] = {0.083, 0.072, 0.041, 0.0350, 0.072, 0.0357, 0.0172};
  static float x[COUNT];
  draw(NORMAL, x);
  for (int i = 0; i < SEARCHED; i++) {
    const double error = rounded(wisp_dtype_by_name(searched[i]), x, NULL, NULL, true);
    cr_assert_lt(error, bounds[i], "%s: %g", searched[i], error);
    cr_assert_gt(error, 0.8 * bounds[i], "%s: %g is too good to be true", searched[i], error);
  }
}

Test(quantize, search_beats_plain_rounding) {
  static float x[COUNT], importance[COUNT];
  for (int k = 0; k < KINDS; k++) {
    draw(k, x);
    for (int i = 0; i < COUNT; i++) importance[i] = (float)exp(normal());
    for (int i = 0; i < 4; i++) {
      const wisp_dtype_info *type = wisp_dtype_by_name(searched[i]);
      const double plain = rounded(type, x, NULL, NULL, false), fit = rounded(type, x, NULL, NULL, true);
      cr_assert_lt(fit, 0.99 * plain, "%s, weights %d: %g, plain %g", type->name, k, fit, plain);
      const double weighted = rounded(type, x, importance, importance, true);
      cr_assert_lt(weighted, 0.98 * rounded(type, x, NULL, importance, true), "%s, weights %d", type->name, k);
    }
    for (int i = 4; i < SEARCHED; i++) {
      const wisp_dtype_info *type = wisp_dtype_by_name(searched[i]);
      const double weighted = rounded(type, x, importance, importance, true);
      cr_assert_lt(weighted, rounded(type, x, NULL, importance, true), "%s, weights %d", type->name, k);
    }
  }
}

/* Each type of more bits, and each K type against the one of its bits, is better. */
Test(quantize, order_of_types) {
  static float x[COUNT];
  static const char *const order[] = {"q4_0", "q4_k", "q5_0", "q5_k", "q6_k", "q8_0"};
  for (int k = 0; k < KINDS; k++) {
    draw(k, x);
    double before = 1;
    for (int i = 0; i < 6; i++) {
      const wisp_dtype_info *type = wisp_dtype_by_name(order[i]);
      const double error = rounded(type, x, NULL, NULL, type->fit != NULL);
      cr_assert_lt(error, before, "%s, weights %d: %g", type->name, k, error);
      before = error;
    }
  }
}

/* What a type can hold exactly stays as it is (but for the rounding of the halves). */
Test(quantize, weights_on_the_grid) {
  static float x[COUNT];
  for (int i = 0; i < COUNT; i++) x[i] = (float)((i * 7 + i / 32) % 16 - 8) / 64;
  for (int i = 0; i < SEARCHED; i++) {
    const double error = rounded(wisp_dtype_by_name(searched[i]), x, NULL, NULL, true);
    cr_assert_lt(error, 2e-3, "%s: %g", searched[i], error);
  }
  for (int i = 0; i < COUNT; i++) x[i] = 0;
  for (int i = 0; i < SEARCHED; i++) {
    uint8_t blocks[256];
    float y[256];
    const wisp_dtype_info *type = wisp_dtype_by_name(searched[i]);
    type->fit(x, NULL, blocks, 256);
    type->dequantize(blocks, y, 256);
    for (int j = 0; j < 256; j++) cr_assert_eq(y[j], 0, "%s", type->name);
  }
}

/* Columns that matter alone are met as well as they can be; importance of zero throughout is as none. */
Test(quantize, importance) {
  static float x[COUNT], few[COUNT], none[COUNT];
  draw(NORMAL, x);
  for (int i = 0; i < COUNT; i++) few[i] = i % 8 == 0;
  for (int i = 0; i < SEARCHED; i++) {
    const wisp_dtype_info *type = wisp_dtype_by_name(searched[i]);
    const double fit = rounded(type, x, few, few, true), unaware = rounded(type, x, NULL, few, true);
    cr_assert_lt(fit, 0.85 * unaware, "%s: %g, unaware %g", type->name, fit, unaware);
    cr_assert_eq(rounded(type, x, none, NULL, true), rounded(type, x, NULL, NULL, true), "%s", type->name);
  }
}

/* Whatever comes, the result is defined: the sanitizers watch. */
Test(quantize, special_values) {
  static const float special[] = {INFINITY, -INFINITY, NAN, 3e38f, -3e38f, 1e-45f, -1e-45f, 0.0f, -0.0f, 1.0f, 65504.0f};
  enum { SPECIALS = sizeof special / sizeof *special };
  for (int i = 0; i < SEARCHED; i++) {
    const wisp_dtype_info *type = wisp_dtype_by_name(searched[i]);
    for (int a = 0; a < SPECIALS; a++) {
      for (int b = 0; b < SPECIALS; b++) {
        float x[256], importance[256];
        uint8_t blocks[256];
        for (int j = 0; j < 256; j++) x[j] = j % 2 ? special[a] : special[b], importance[j] = (float)(j % 5);
        type->fit(x, a % 2 ? importance : NULL, blocks, 256);
        type->dequantize(blocks, x, 256);
        wisp_quantize_q8_0_row(x, blocks, 32);
      }
    }
  }
}

Test(quantize, rows_of_one_scale) {
  static float x[COUNT], y[COUNT];
  static uint8_t blocks[COUNT / 32 * 34];
  draw(HEAVY_TAILS, x);
  wisp_quantize_q8_0_row(x, blocks, COUNT);
  float largest = 0;
  for (int i = 0; i < COUNT; i++) largest = fmaxf(largest, fabsf(x[i]));
  const uint16_t stored = wisp_load_u16(blocks);
  const float scale = wisp_f16_to_f32(stored);
  cr_assert_lt(fabsf(scale * 127 / largest - 1), 1e-3f);
  for (int i = 0; i < COUNT / 32; i++) cr_assert_eq(wisp_load_u16(blocks + 34 * i), stored);
  wisp_dequantize_q8_0(blocks, y, COUNT);
  for (int i = 0; i < COUNT; i++)
    cr_assert_leq(fabsf(x[i] - y[i]), scale * 0.5001f + largest * 5e-4f, "%d: %g, %g", i, x[i], y[i]);
}

Test(quantize, activations) {
  float x[] = {0, 200, -55, 1.5f, 2.5f, -0.5f, 0.4f, 126.6f};
  const float expected[] = {0, 200, -55, 2, 2, 0, 0, 127}; /* steps of 1; ties to even */
  wisp_reference_round_int8(x, 8);
  for (int i = 0; i < 8; i++) cr_assert_float_eq(x[i], expected[i], 1e-4, "%d: %g", i, x[i]);
  float above[] = {510, 256, 3.5f}, zeros[16] = {0}, tiny[4] = {1e-45f, -1e-45f, 0, 1e-44f};
  wisp_reference_round_int8(above, 3); /* the range has 0 in it */
  cr_assert(above[0] == 510 && above[1] == 256 && above[2] == 4, "%g %g %g", above[0], above[1], above[2]);
  wisp_reference_round_int8(zeros, 16);
  wisp_reference_round_int8(tiny, 4);
  for (int i = 0; i < 16; i++) cr_assert_eq(zeros[i], 0);
  for (int i = 0; i < 4; i++) cr_assert_lt(fabsf(tiny[i]), 1e-40f);
  static float y[COUNT], before[COUNT];
  draw(NORMAL, y);
  memcpy(before, y, sizeof y);
  before[COUNT - 1] = 0;
  wisp_reference_round_int8(before, COUNT - 1);
  before[COUNT - 1] = y[COUNT - 1];
  cr_assert_lt(error_of(before, y, NULL), 0.012);
}

/* Every 32 numbers against the definition; its own inverse; what is rounded is the transformed vector. */
Test(quantize, hadamard) {
  static float x[COUNT], y[COUNT], z[COUNT];
  draw(NORMAL, x);
  memcpy(y, x, sizeof x);
  wisp_reference_hadamard(y, COUNT);
  for (int i = 0; i < COUNT; i++) {
    double sum = 0;
    for (int j = 0; j < 32; j++) sum += (double)x[i / 32 * 32 + j] * (__builtin_popcount((unsigned)(i & j) & 31) % 2 ? -1 : 1);
    cr_assert_float_eq(y[i], sum / sqrt(32), 1e-5, "%d: %g", i, y[i]);
  }
  memcpy(z, y, sizeof y);
  wisp_reference_hadamard(z, COUNT);
  cr_assert_lt(error_of(x, z, NULL), 1e-6);
  wisp_reference_round_int8(x, COUNT);
  cr_assert_lt(error_of(y, x, NULL), 0.012);
  float outlier[64] = {[7] = 1000}; /* spread over its 32 */
  wisp_reference_round_int8(outlier, 64);
  for (int i = 0; i < 64; i++) cr_assert_float_eq(fabsf(outlier[i]), i < 32 ? 176.777f : 0, 1, "%d: %g", i, outlier[i]);
}
