/* SPDX-License-Identifier: Apache-2.0 */
#include "model/quant_search.h"

#include <math.h>
#include <stddef.h>

/* Sums are kept in eight lanes, which compilers turn into vectors. */
enum { LANES = 8 };

static inline float add_lanes(const float *lane) {
  return ((lane[0] + lane[4]) + (lane[2] + lane[6])) + ((lane[1] + lane[5]) + (lane[3] + lane[7]));
}

static inline float weight_of(const float *importance, int i) {
  return importance ? importance[i] : 1.0f;
}

const float *wisp_search_importance(const float *importance, int count) {
  for (int i = 0; importance && i < count; i++)
    if (importance[i] > 0) return importance;
  return NULL;
}

float wisp_search_error(const float *x, const float *importance, const float *y, int count) {
  float sum[LANES] = {0};
  importance = wisp_search_importance(importance, count);
  for (int i = 0; i < count; i += LANES)
    for (int k = 0; k < LANES; k++) sum[k] += weight_of(importance, i + k) * ((x[i + k] - y[i + k]) * (x[i + k] - y[i + k]));
  return add_lanes(sum);
}

/* ---- One scale ---------------------------------------------------------------------------------------------------- */

/* Rounds x * inverse; gives the best scale of that rounding, and by how much it lowers the error against all zeros. */
static inline float scale_of(const float *x, const float *importance, int count, float inverse, float low, float high,
                             float *gain) {
  float xq[LANES] = {0}, qq[LANES] = {0};
  for (int i = 0; i < count; i += LANES)
    for (int k = 0; k < LANES; k++) {
      const float q = wisp_search_round(x[i + k] * inverse, low, high), wq = weight_of(importance, i + k) * q;
      xq[k] += wq * x[i + k];
      qq[k] += wq * q;
    }
  const float sum_xq = add_lanes(xq), sum_qq = add_lanes(qq);
  *gain = sum_qq > 0 ? sum_xq * sum_xq / sum_qq : 0;
  return sum_qq > 0 ? sum_xq / sum_qq : 0;
}

/* The largest weight is put on levels around the ends of the range, from a little outside to well inside (then the largest
 * weights are cut and the others get finer steps), on either end; the best is refined by rounding with its own scale. */
static inline float search_scale(const float *x, const float *importance, int count, float low, float high) {
  const float step = 0.3f;
  float extreme = 0, best = 0, best_gain = 0;
  for (int i = 0; i < count; i++)
    if (fabsf(x[i]) > fabsf(extreme)) extreme = x[i];
  if (extreme == 0) return 0;
  for (int side = 0; side < 2; side++) {
    const float end = side ? high : low, toward = side ? -step : step;
    for (int i = -2; i <= 10; i++) {
      float gain;
      const float scale = scale_of(x, importance, count, (end + (float)i * toward) / extreme, low, high, &gain);
      if (gain > best_gain) best_gain = gain, best = scale;
    }
  }
  for (int i = 0; i < 3 && best != 0; i++) {
    float gain;
    const float scale = scale_of(x, importance, count, 1 / best, low, high, &gain);
    if (!(gain > best_gain)) break;
    best_gain = gain, best = scale;
  }
  return best;
}

float wisp_search_scale(const float *x, const float *importance, int count, int low, int high) {
  importance = wisp_search_importance(importance, count);
  return importance ? search_scale(x, importance, count, (float)low, (float)high)
                    : search_scale(x, NULL, count, (float)low, (float)high);
}

/* ---- Scale and minimum -------------------------------------------------------------------------------------------- */

typedef struct group {
  const float *x, *importance;
  int count, below_zero;
  float high;
  float w, wx; /* sums of importance, importance * x */
  float largest;
} group;

/* Rounds (x - minimum) / scale; gives the best scale and minimum of that rounding and, as gain, by how much they lower the
 * error against all zeros. */
static inline wisp_affine affine_of(const group *g, const float *importance, wisp_affine from, float *gain) {
  float xq[LANES] = {0}, qq[LANES] = {0}, q1[LANES] = {0};
  const float inverse = from.scale > 0 ? 1 / from.scale : 0;
  for (int i = 0; i < g->count; i += LANES)
    for (int k = 0; k < LANES; k++) {
      const float q = wisp_search_round((g->x[i + k] - from.minimum) * inverse, 0, g->high);
      const float wq = weight_of(importance, i + k) * q;
      xq[k] += wq * g->x[i + k];
      qq[k] += wq * q;
      q1[k] += wq;
    }
  const double wxq = (double)add_lanes(xq), wqq = (double)add_lanes(qq), wq = (double)add_lanes(q1), w = (double)g->w,
               wx = (double)g->wx, determinant = w * wqq - wq * wq;
  double scale = 0, minimum = wx / w;
  if (determinant > 1e-7 * w * wqq) {
    scale = (w * wxq - wq * wx) / determinant;
    minimum = (wqq * wx - wq * wxq) / determinant;
  }
  if (scale < 0) scale = 0, minimum = wx / w;
  if (g->below_zero && minimum > 0) {
    minimum = 0;
    scale = wqq > 0 && wxq > 0 ? wxq / wqq : 0;
  }
  *gain = (float)(2 * (scale * wxq + minimum * wx) - scale * scale * wqq - 2 * scale * minimum * wq - minimum * minimum * w);
  return (wisp_affine){(float)scale, (float)minimum};
}

/* Ranges from a little wider than the weights' own to well inside it, each refined by rounding with its own result. */
static inline wisp_affine search_affine(const group *g, const float *importance, float smallest) {
  const float step = 0.35f;
  wisp_affine best = {0, g->below_zero && smallest > 0 ? 0 : smallest};
  float best_gain = -INFINITY;
  for (int i = -3; i <= 10; i++) {
    const float range = (g->largest - smallest) * g->high / (g->high + (float)i * step);
    wisp_affine fit = {range / g->high, smallest + (i > 0 ? (g->largest - smallest - range) / 2 : 0)};
    if (g->below_zero && fit.minimum > 0) fit.minimum = 0;
    for (int pass = 0; pass < 3; pass++) {
      float gain;
      fit = affine_of(g, importance, fit, &gain);
      if (!(gain > best_gain)) break;
      best_gain = gain, best = fit;
    }
  }
  return best;
}

wisp_affine wisp_search_affine(const float *x, const float *importance, int count, int high, int below_zero) {
  importance = wisp_search_importance(importance, count);
  group g = {.x = x, .count = count, .below_zero = below_zero, .high = (float)high, .largest = x[0]};
  float smallest = x[0];
  for (int i = 0; i < count; i++) {
    if (x[i] < smallest) smallest = x[i];
    if (x[i] > g.largest) g.largest = x[i];
    g.w += weight_of(importance, i);
    g.wx += weight_of(importance, i) * x[i];
  }
  if (below_zero && smallest > 0) smallest = 0;
  if (!(g.largest > smallest)) return (wisp_affine){0, smallest};
  return importance ? search_affine(&g, importance, smallest) : search_affine(&g, NULL, smallest);
}
