/* SPDX-License-Identifier: Apache-2.0
 * Scales that lose least. For a group of weights under one scale (and minimum) a number of roundings is tried; each has its
 * best scale by linear least squares, and the rounding with the smallest error, weighted by importance, is taken. Pure
 * functions. */
#ifndef WISP_MODEL_QUANT_SEARCH_H
#define WISP_MODEL_QUANT_SEARCH_H

/* Everywhere: x[count] weights, importance[count] >= 0 of each (NULL = all alike), count a multiple of 8. */

/* Weights become scale * q, low <= q <= high, low < 0 < high. Returns the scale, of either sign; 0 if nothing is better. */
float wisp_search_scale(const float *x, const float *importance, int count, int low, int high);

typedef struct wisp_affine {
  float scale, minimum;
} wisp_affine;

/* Weights become scale * q + minimum, 0 <= q <= high; scale >= 0. With below_zero the minimum is at most 0. */
wisp_affine wisp_search_affine(const float *x, const float *importance, int count, int high, int below_zero);

/* The nearest integer in [low, high], ties to even; low for NaN. |low|, |high| < 2^22. */
static inline float wisp_search_round(float value, float low, float high) {
  const float shift = 12582912.0f; /* 1.5 * 2^23: what is added to it loses its fraction */
  value = value > low ? value : low;
  value = value < high ? value : high;
  return (value + shift) - shift;
}

/* importance; NULL if it is zero throughout, which says nothing. */
const float *wisp_search_importance(const float *importance, int count);

/* Sum of importance (x - y)^2. */
float wisp_search_error(const float *x, const float *importance, const float *y, int count);

#endif
