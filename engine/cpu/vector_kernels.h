/* SPDX-License-Identifier: Apache-2.0
 * All kernels but the integer dot products, written in eight floats (f8). Not a header of declarations: a source that each
 * instruction set includes once, behind its vector_*.h, and compiles with its own flags. */
#include <math.h>
#include <string.h>

#include "base/little_endian.h"
#include "cpu/reference.h"

enum { LANES = 8 };

/* exp by 2^n * polynomial (Cephes' expf), x held to what has a normal result: within 2 units in the last place. */
static inline f8 f8_exp(f8 x) {
  x = f8_min(f8_set(88.0f), f8_max(f8_set(-87.0f), x));
  const f8 n = f8_round(f8_mul(x, f8_set(1.44269504f)));
  const f8 r = f8_fma(n, f8_set(2.12194440e-4f), f8_fma(n, f8_set(-0.693359375f), x));
  f8 p = f8_set(1.9875691500e-4f);
  p = f8_fma(p, r, f8_set(1.3981999507e-3f));
  p = f8_fma(p, r, f8_set(8.3334519073e-3f));
  p = f8_fma(p, r, f8_set(4.1665795894e-2f));
  p = f8_fma(p, r, f8_set(1.6666665459e-1f));
  p = f8_fma(p, r, f8_set(5.0000001201e-1f));
  p = f8_fma(p, f8_mul(r, r), f8_add(r, f8_set(1)));
  return f8_mul(p, f8_power_of_2(n));
}

/* The last n < 8 floats, 0 behind them. */
static inline f8 f8_load_some(const float *p, uint32_t n) {
  float lanes[LANES] = {0};
  memcpy(lanes, p, n * sizeof *p);
  return f8_load(lanes);
}

static inline void f8_store_some(float *p, f8 a, uint32_t n) {
  float lanes[LANES];
  f8_store(lanes, a);
  memcpy(p, lanes, n * sizeof *p);
}

/* ---- Norm, RoPE, activations ------------------------------------------------------------------------------------------ */

static void rmsnorm(const float *x, const float *weight, uint32_t n, float epsilon, float *y) {
  f8 squares[4] = {f8_set(0), f8_set(0), f8_set(0), f8_set(0)};
  uint32_t i = 0;
  for (; i + 4 * LANES <= n; i += 4 * LANES) {
    for (uint32_t k = 0; k < 4; k++) {
      const f8 v = f8_load(x + i + k * LANES);
      squares[k] = f8_fma(v, v, squares[k]);
    }
  }
  for (; i < n; i += LANES) {
    const f8 v = i + LANES <= n ? f8_load(x + i) : f8_load_some(x + i, n - i);
    squares[0] = f8_fma(v, v, squares[0]);
  }
  const float sum = f8_sum(f8_add(f8_add(squares[0], squares[1]), f8_add(squares[2], squares[3])));
  const float scale = (float)(1.0 / sqrt((double)sum / n + epsilon));
  const f8 scales = f8_set(scale);
  for (i = 0; i + LANES <= n; i += LANES) {
    const f8 v = f8_mul(f8_load(x + i), scales);
    f8_store(y + i, weight ? f8_mul(v, f8_load(weight + i)) : v);
  }
  for (; i < n; i++) y[i] = weight ? x[i] * scale * weight[i] : x[i] * scale;
}

static void rope(float *x, const float *turns, uint32_t pairs) {
  static const float signs[LANES] = {-1, 1, -1, 1, -1, 1, -1, 1};
  const f8 sign = f8_load(signs);
  uint32_t i = 0;
  for (; i + LANES <= 2 * pairs; i += LANES) {
    const f8 v = f8_load(x + i), turn = f8_load(turns + i);
    const f8 crossed = f8_mul(f8_mul(f8_swap(v), f8_odd(turn)), sign);
    f8_store(x + i, f8_add(f8_mul(v, f8_even(turn)), crossed));
  }
  if (i < 2 * pairs) wisp_reference_rope(x + i, turns + i, pairs - i / 2);
}

/* wisp_kv_quantize */
static uint16_t kv_quantize(const float *values, int8_t *quants) {
  f8 largest = f8_abs(f8_load(values));
  for (uint32_t i = LANES; i < WISP_KV_BLOCK; i += LANES) largest = f8_max(largest, f8_abs(f8_load(values + i)));
  const uint16_t bits = wisp_f32_to_f16(fminf(f8_largest(largest) * (1.0f / 127), 65504));
  const f8 scale = f8_set_f16(bits);
  if (bits == 0) memset(quants, 0, WISP_KV_BLOCK);
  for (uint32_t i = 0; i < WISP_KV_BLOCK && bits; i += LANES) {
    const f8 quotient = f8_div(f8_load(values + i), scale);
    f8_store_i8(quants + i, f8_round(f8_max(f8_set(-127), f8_min(f8_set(127), quotient))));
  }
  return bits;
}

static void kv_write(const float *values, uint32_t kv_width, wisp_kv_type type, void *position) {
  const uint32_t n = 2 * kv_width;
  if (type == WISP_KV_F32) {
    memcpy(position, values, n * sizeof *values);
    return;
  }
  if (type == WISP_KV_Q8_0) {
    int8_t *const quants = position;
    uint16_t *const scales = (uint16_t *)position + kv_width;
    const size_t used = n + n / WISP_KV_BLOCK * sizeof *scales;
    for (uint32_t i = 0; i < n; i += WISP_KV_BLOCK) scales[i / WISP_KV_BLOCK] = kv_quantize(values + i, quants + i);
    memset(quants + used, 0, (size_t)wisp_kv_row_bytes(kv_width, type) - used);
    return;
  }
  uint16_t *halves = position;
  uint32_t i = 0;
  for (; i + LANES <= n; i += LANES) f8_store_f16(halves + i, f8_load(values + i));
  for (; i < n; i++) halves[i] = wisp_f32_to_f16(values[i]);
}

/* value / (1 + exp(-x)) * up */
static inline f8 gated(f8 value, f8 x, f8 up) {
  return f8_mul(f8_div(value, f8_add(f8_set(1), f8_exp(f8_sub(f8_set(0), x)))), up);
}

static void silu_mul(float *gate, const float *up, uint32_t n) {
  for (uint32_t i = 0; i < n; i += LANES) {
    const bool whole = i + LANES <= n;
    const f8 g = whole ? f8_load(gate + i) : f8_load_some(gate + i, n - i);
    const f8 y = gated(g, g, whole ? f8_load(up + i) : f8_load_some(up + i, n - i));
    if (whole)
      f8_store(gate + i, y);
    else
      f8_store_some(gate + i, y, n - i);
  }
}

/* g / 2 (1 + tanh u) = g / (1 + exp(-2 u)) */
static void gelu_mul(float *gate, const float *up, uint32_t n) {
  for (uint32_t i = 0; i < n; i += LANES) {
    const bool whole = i + LANES <= n;
    const f8 g = whole ? f8_load(gate + i) : f8_load_some(gate + i, n - i);
    const f8 cubic = f8_fma(f8_mul(f8_mul(g, g), g), f8_set(0.044715f), g);
    const f8 y = gated(g, f8_mul(cubic, f8_set(2 * 0.7978845608f)), whole ? f8_load(up + i) : f8_load_some(up + i, n - i));
    if (whole)
      f8_store(gate + i, y);
    else
      f8_store_some(gate + i, y, n - i);
  }
}

/* ---- Float products --------------------------------------------------------------------------------------------------- */

/* A row as floats: in place, or in row. */
static inline const float *float_row(const wisp_matrix *matrix, uint32_t r, float *row) {
  const uint8_t *data = matrix->data + r * wisp_matrix_row_bytes(matrix);
  const uint32_t cols = matrix->cols;
  uint32_t i = 0;
  switch (matrix->type->dtype) {
  case WISP_F32:
    if ((uintptr_t)data % sizeof(float) == 0) return (const float *)(const void *)data;
    memcpy(row, data, cols * sizeof *row);
    return row;
  case WISP_F16:
    for (; i + LANES <= cols; i += LANES) f8_store(row + i, f8_load_f16((const uint16_t *)(const void *)(data + 2 * i)));
    break;
  case WISP_BF16:
    for (; i + LANES <= cols; i += LANES) f8_store(row + i, f8_load_bf16((const uint16_t *)(const void *)(data + 2 * i)));
    break;
  case WISP_Q8_0:
    for (; i < cols; i += 32, data += 34) {
      const f8 scale = f8_set(wisp_f16_to_f32(wisp_load_u16(data)));
      for (uint32_t k = 0; k < 32; k += LANES) f8_store(row + i + k, f8_mul(f8_load_i8((const int8_t *)data + 2 + k), scale));
    }
    return row;
  default:
    break;
  }
  if (i < cols) {
    const uint32_t bytes = matrix->type->block_bytes / matrix->type->block_weights;
    matrix->type->dequantize(data + i * bytes, row + i, cols - i);
  }
  return row;
}

static inline f8 f8_load_as(const wisp_dtype dtype, const void *row, uint32_t i) {
  if (dtype == WISP_F16) return f8_load_f16((const uint16_t *)row + i);
  if (dtype == WISP_BF16) return f8_load_bf16((const uint16_t *)row + i);
  return f8_load((const float *)row + i);
}

/* y[c * stride + r] = rows[r] . x[c], rows of dtype f32, f16 or bf16; the sums of a pair always in the same order. */
static inline __attribute__((always_inline)) void dots(const wisp_dtype dtype, const uint32_t rows, const uint32_t columns,
                                                       const void *const *row, const float *x, uint32_t cols, float *y,
                                                       size_t stride) {
  f8 sums[8][4];
#pragma GCC unroll 8
  for (uint32_t r = 0; r < rows; r++)
#pragma GCC unroll 4
    for (uint32_t c = 0; c < columns; c++) sums[r][c] = f8_set(0);
  uint32_t i = 0;
  for (; i + LANES <= cols; i += LANES) {
    f8 lanes[4];
#pragma GCC unroll 4
    for (uint32_t c = 0; c < columns; c++) lanes[c] = f8_load(x + (size_t)c * cols + i);
#pragma GCC unroll 8
    for (uint32_t r = 0; r < rows; r++) {
      const f8 weights = f8_load_as(dtype, row[r], i);
#pragma GCC unroll 4
      for (uint32_t c = 0; c < columns; c++) sums[r][c] = f8_fma(weights, lanes[c], sums[r][c]);
    }
  }
  for (uint32_t r = 0; r < rows; r++)
    for (uint32_t c = 0; c < columns; c++) {
      f8 sum = sums[r][c];
      if (i < cols) {
        const f8 last = f8_load_some((const float *)row[r] + i, cols - i);
        sum = f8_fma(last, f8_load_some(x + (size_t)c * cols + i, cols - i), sum);
      }
      y[c * stride + r] = f8_sum(sum);
    }
}

/* WISP_MATMUL_ROWS rows of 16-bit weights, straight from the file: one column waits for memory, and needs no copy of the row.
 */
static bool dot_halves(const wisp_matrix *matrix, uint32_t r, const float *x, float *y) {
  const wisp_dtype dtype = matrix->type->dtype;
  if ((dtype != WISP_F16 && dtype != WISP_BF16) || matrix->cols % LANES) return false;
  const void *row[WISP_MATMUL_ROWS];
  for (uint32_t i = 0; i < WISP_MATMUL_ROWS; i++) row[i] = matrix->data + (r + i) * wisp_matrix_row_bytes(matrix);
  if (dtype == WISP_F16)
    dots(WISP_F16, WISP_MATMUL_ROWS, 1, row, x, matrix->cols, y, 0);
  else
    dots(WISP_BF16, WISP_MATMUL_ROWS, 1, row, x, matrix->cols, y, 0);
  return true;
}

static void matmul(const wisp_matrix *matrix, uint32_t row_begin, uint32_t row_end, const float *x, uint32_t count, float *rows,
                   float *y, size_t stride) {
  const size_t cols = matrix->cols;
  for (uint32_t r = row_begin; r < row_end; r += WISP_MATMUL_ROWS) {
    const void *row[WISP_MATMUL_ROWS];
    const uint32_t left = row_end - r < WISP_MATMUL_ROWS ? row_end - r : WISP_MATMUL_ROWS;
    if (count == 1 && left == WISP_MATMUL_ROWS && dot_halves(matrix, r, x, y + r)) continue;
    for (uint32_t i = 0; i < left; i++) row[i] = float_row(matrix, r + i, rows + i * cols);
    uint32_t c = 0;
    if (left == WISP_MATMUL_ROWS) {
      for (; c + 3 <= count; c += 3) {
        dots(WISP_F32, 4, 3, row, x + c * cols, matrix->cols, y + c * stride + r, stride);
        dots(WISP_F32, 4, 3, row + 4, x + c * cols, matrix->cols, y + c * stride + r + 4, stride);
      }
      for (; c < count; c++) dots(WISP_F32, 8, 1, row, x + c * cols, matrix->cols, y + c * stride + r, stride);
    }
    for (; c < count; c++)
      for (uint32_t i = 0; i < left; i++)
        dots(WISP_F32, 1, 1, row + i, x + c * cols, matrix->cols, y + c * stride + r + i, stride);
  }
}
