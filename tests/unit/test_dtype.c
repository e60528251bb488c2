/* SPDX-License-Identifier: Apache-2.0
 * Element types against the vectors of an independent implementation, and halves against their definition. */
#include <criterion/criterion.h>
#include <math.h>

#include "base/little_endian.h"
#include "data/dtype_vectors.h"
#include "model/dtype.h"

enum { VECTOR_COUNT = sizeof vectors / sizeof *vectors, GUARD = 64 };

Test(dtype, table) {
  static const uint32_t known[] = {0, 1, 2, 3, 6, 7, 8, 12, 13, 14, 30};
  cr_assert_eq(VECTOR_COUNT, sizeof known / sizeof *known);
  for (uint32_t type = 0; type < 300; type++) {
    bool expected = false;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) expected |= known[i] == type;
    const wisp_dtype_info *info = wisp_dtype_find(type);
    cr_assert_eq(info != NULL, expected, "type %u", type);
    if (!info) continue;
    cr_assert_eq((uint32_t)info->dtype, type);
    cr_assert_eq(wisp_dtype_by_name(info->name), info);
  }
  cr_assert_null(wisp_dtype_find(UINT32_MAX));
  cr_assert_null(wisp_dtype_by_name("Q4_0"));
  cr_assert_null(wisp_dtype_by_name(""));
}

/* Blocks at every address modulo 4: GGUF data in memory need not be aligned. */
Test(dtype, dequantize) {
  for (int v = 0; v < VECTOR_COUNT; v++) {
    const wisp_dtype_info *info = wisp_dtype_by_name(vectors[v].name);
    cr_assert_not_null(info, "%s", vectors[v].name);
    size_t bytes = VECTOR_WEIGHTS / info->block_weights * info->block_bytes;
    for (size_t shift = 0; shift < 4; shift++) {
      uint8_t blocks[4 * VECTOR_WEIGHTS + 4];
      float weights[VECTOR_WEIGHTS + 1];
      weights[VECTOR_WEIGHTS] = 7;
      memcpy(blocks + shift, vectors[v].blocks, bytes);
      info->dequantize(blocks + shift, weights, VECTOR_WEIGHTS);
      for (int i = 0; i < VECTOR_WEIGHTS; i++) {
        cr_assert_eq(wisp_bits_of_float(weights[i]), vectors[v].weights[i], "%s, weight %d: %a, expected %a", info->name, i,
                     weights[i], wisp_float_of_bits(vectors[v].weights[i]));
      }
      cr_assert_eq(weights[VECTOR_WEIGHTS], 7, "%s wrote past its weights", info->name);
    }
  }
}

Test(dtype, quantize) {
  float weights[VECTOR_WEIGHTS];
  for (int i = 0; i < VECTOR_WEIGHTS; i++) weights[i] = wisp_float_of_bits(vector_weights[i]);
  int compared = 0;
  for (int v = 0; v < VECTOR_COUNT; v++) {
    const wisp_dtype_info *info = wisp_dtype_by_name(vectors[v].name);
    cr_assert_eq(info->quantize != NULL, vectors[v].rounded != NULL, "%s", info->name);
    if (!info->quantize) continue;
    size_t bytes = VECTOR_WEIGHTS / info->block_weights * info->block_bytes;
    uint8_t blocks[4 * VECTOR_WEIGHTS + GUARD];
    memset(blocks, 0xa5, sizeof blocks);
    info->quantize(weights, blocks, VECTOR_WEIGHTS);
    for (size_t i = 0; i < bytes; i++) {
      cr_assert_eq(blocks[i], vectors[v].rounded[i], "%s, byte %zu: %02x, expected %02x", info->name, i, blocks[i],
                   vectors[v].rounded[i]);
    }
    for (size_t i = bytes; i < bytes + GUARD; i++) cr_assert_eq(blocks[i], 0xa5, "%s wrote past its blocks", info->name);
    compared++;
  }
  cr_assert_eq(compared, 8);
}

/* Whatever a damaged checkpoint holds, rounding is defined: the sanitizers watch. */
Test(dtype, quantize_special_values) {
  static const float special[] = {INFINITY, -INFINITY, NAN, 3e38f, -3e38f, 1e-45f, -1e-45f, 0.0f, -0.0f, 1.0f};
  enum { SPECIALS = sizeof special / sizeof *special };
  for (int v = 0; v < VECTOR_COUNT; v++) {
    const wisp_dtype_info *info = wisp_dtype_by_name(vectors[v].name);
    if (!info->quantize) continue;
    for (int a = 0; a < SPECIALS; a++) {
      for (int b = 0; b < SPECIALS; b++) {
        float weights[32];
        uint8_t blocks[4 * 32];
        for (int i = 0; i < 32; i++) weights[i] = i % 2 ? special[a] : special[b];
        info->quantize(weights, blocks, 32);
        info->dequantize(blocks, weights, 32);
      }
    }
  }
}

static double half_value(uint16_t half) { /* by definition; finite halves */
  int exponent = half >> 10 & 31;
  double magnitude = exponent ? ldexp(1024 + (half & 1023), exponent - 25) : ldexp(half & 1023, -24);
  return half & 0x8000 ? -magnitude : magnitude;
}

Test(half, every_half_by_definition_and_back) {
  for (uint32_t half = 0; half < 65536; half++) {
    float value = wisp_f16_to_f32((uint16_t)half);
    if ((half & 0x7c00) == 0x7c00) {
      cr_assert((half & 0x3ff) ? isnan(value) : isinf(value));
      cr_assert_eq(signbit(value) != 0, half >> 15);
      cr_assert_eq(wisp_f32_to_f16(value), (half & 0x3ff) ? (half | 0x200) : half, "%04x", half);
      continue;
    }
    cr_assert_eq((double)value, half_value((uint16_t)half), "%04x", half);
    cr_assert_eq(signbit(value) != 0, half >> 15);
    cr_assert_eq(wisp_f32_to_f16(value), half, "%04x", half);
  }
}

/* Between each two neighbours: the middle goes to the even one, the floats next to the middle to their side. */
Test(half, rounds_to_nearest_even) {
  for (uint32_t half = 0; half < 0x7c00; half++) {
    double above = half == 0x7bff ? 65536.0 : half_value((uint16_t)(half + 1));
    float middle = (float)((half_value((uint16_t)half) + above) / 2);
    cr_assert_eq(wisp_f32_to_f16(middle), half + (half & 1), "%04x", half);
    cr_assert_eq(wisp_f32_to_f16(nextafterf(middle, 0)), half, "%04x", half);
    cr_assert_eq(wisp_f32_to_f16(nextafterf(middle, INFINITY)), half + 1, "%04x", half);
    cr_assert_eq(wisp_f32_to_f16(-middle), 0x8000 | (half + (half & 1)), "%04x", half);
  }
  cr_assert_eq(wisp_f32_to_f16(1e30f), 0x7c00);
  cr_assert_eq(wisp_f32_to_f16(1e-45f), 0);
}

Test(half, bfloat16) {
  for (uint32_t half = 0; half < 65536; half++) {
    float value = wisp_bf16_to_f32((uint16_t)half);
    cr_assert_eq(wisp_bits_of_float(value), half << 16);
    cr_assert_eq(wisp_f32_to_bf16(value), isnan(value) ? (half | 0x40) : half, "%04x", half);
    if ((half & 0x7f80) == 0x7f80) continue;
    cr_assert_eq(wisp_f32_to_bf16(wisp_float_of_bits(half << 16 | 0x8000)), half + (half & 1), "%04x", half);
    cr_assert_eq(wisp_f32_to_bf16(wisp_float_of_bits(half << 16 | 0x7fff)), half, "%04x", half);
    cr_assert_eq(wisp_f32_to_bf16(wisp_float_of_bits(half << 16 | 0x8001)), half + 1, "%04x", half);
  }
}
