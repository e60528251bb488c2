/* SPDX-License-Identifier: Apache-2.0
 * Grids: facebookresearch/ParetoQ, models/utils_quant.py. */
#include "model/paretoq.h"

#include <math.h>
#include <string.h>

#include "base/little_endian.h"

enum { BLOCK = 32, HALF = BLOCK / 2 };

wisp_dtype wisp_paretoq_dtype(int bits) {
  return bits == 2 ? WISP_Q4_1 : WISP_Q4_0;
}

static float clamp(float x, float low, float high) {
  return x < low ? low : x > high ? high : x; /* NaN stays */
}

/* The quant, 0 to 15, of x = w / alpha; rintf rounds halves to even as torch does. */
static uint8_t quant(int bits, float x) {
  float q;
  switch (bits) {
  case 0: /* {-2/3, 0, 2/3} alpha */
    q = rintf(clamp(x, -0.99f, 0.99f) * 1.5f) + 8;
    break;
  case 1: /* +-alpha, 0 for 0 */
    q = (float)((x > 0) - (x < 0)) + 8;
    break;
  case 2: /* {-3/4, -1/4, 1/4, 3/4} alpha */
    q = rintf(clamp(x, -0.99f, 0.99f) * 2 - 0.5f) + 2;
    break;
  case 3:
    q = clamp(rintf(x), -4, 3) + 8;
    break;
  default:
    q = clamp(rintf(x), -8, 7) + 8;
  }
  return q >= 0 ? (uint8_t)q : 0;
}

void wisp_paretoq_row(int bits, float alpha, const float *weights, uint8_t *blocks, size_t count) {
  if (!(alpha > 1e-5f)) alpha = 1e-5f;
  const float scale = bits == 0 ? alpha * 2 / 3 : bits == 2 ? alpha / 2 : alpha;
  const size_t header = bits == 2 ? 4 : 2;
  for (size_t i = 0; i < count; i += BLOCK, blocks += header + HALF) {
    wisp_store_u16(blocks, wisp_f32_to_f16(scale));
    if (bits == 2) wisp_store_u16(blocks + 2, wisp_f32_to_f16(alpha * -3 / 4));
    for (size_t j = 0; j < HALF; j++)
      blocks[header + j] = (uint8_t)(quant(bits, weights[i + j] / alpha) | quant(bits, weights[i + j + HALF] / alpha) << 4);
  }
}
