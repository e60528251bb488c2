/* SPDX-License-Identifier: Apache-2.0
 * The plain C kernels against sums in double precision, written out here once more, and against values done by hand. */
#include <criterion/criterion.h>
#include <math.h>

#include "cpu/reference.h"

/* Uniform in [-1, 1), the same in every run. */
static float random_value(uint32_t *state) {
  *state = *state * 1664525u + 1013904223u;
  return (float)(*state >> 8) * 0x1p-23f - 1;
}

static void random_values(float *values, size_t count, uint32_t seed) {
  for (size_t i = 0; i < count; i++) values[i] = random_value(&seed);
}

static void close_to(double found, double expected, double bound, const char *what, uint32_t at) {
  cr_assert(fabs(found - expected) <= bound, "%s[%u]: %.9g, expected %.9g", what, at, found, expected);
}

Test(reference, embed_takes_the_row) {
  const float weights[3][2] = {{1, 2}, {3, 4}, {5, 6}};
  const wisp_matrix matrix = {.type = wisp_dtype_find(WISP_F32), .rows = 3, .cols = 2, .data = (const uint8_t *)weights};
  float x[2];
  wisp_reference_embed(&matrix, 2, x);
  cr_assert(x[0] == 5 && x[1] == 6);
}

Test(reference, rmsnorm) {
  float y[600];
  wisp_reference_rmsnorm((const float[]){3, 4}, (const float[]){1, 2}, 2, 0, y); /* root mean square: sqrt(12.5) */
  close_to(y[0], 3 / sqrt(12.5), 1e-7, "y", 0);
  close_to(y[1], 8 / sqrt(12.5), 2e-7, "y", 1);
  wisp_reference_rmsnorm((const float[]){0, 0}, (const float[]){1, 1}, 2, 1e-5f, y);
  cr_assert(y[0] == 0 && y[1] == 0, "epsilon keeps zeros from dividing by zero");

  const uint32_t sizes[] = {1, 7, 64, 576, 600};
  for (int s = 0; s < 5; s++) {
    const uint32_t n = sizes[s];
    float x[600], weight[600];
    random_values(x, n, 1);
    random_values(weight, n, 2);
    double squares = 0;
    for (uint32_t i = 0; i < n; i++) squares += (double)x[i] * x[i];
    wisp_reference_rmsnorm(x, weight, n, 1e-5f, y);
    for (uint32_t i = 0; i < n; i++) close_to(y[i], x[i] * weight[i] / sqrt(squares / n + 1e-5), 1e-6, "y", i);
    wisp_reference_rmsnorm(x, weight, n, 1e-5f, x);
    cr_assert_arr_eq(x, y, n * sizeof *x, "in place");
  }
}

enum { ROWS = 9, COLUMNS = 5, MAX_COLS = 576 };

/* Against double, in a batch and alone, with rows outside the range left as they were. */
static void check_matmul(const wisp_dtype_info *type, uint32_t cols) {
  static float weights[ROWS * MAX_COLS], x[COLUMNS * MAX_COLS], row[MAX_COLS];
  static uint8_t data[ROWS * MAX_COLS * 4];
  random_values(weights, (size_t)ROWS * cols, 3);
  random_values(x, (size_t)COLUMNS * cols, 4);
  const wisp_matrix matrix = {.type = type, .rows = ROWS, .cols = cols, .data = data};
  type->quantize(weights, data, (size_t)ROWS * cols);
  type->dequantize(data, weights, (size_t)ROWS * cols); /* what is really stored */

  enum { STRIDE = ROWS + 3 };
  float batch[COLUMNS][STRIDE];
  for (int c = 0; c < COLUMNS; c++) {
    for (int r = 0; r < STRIDE; r++) batch[c][r] = -77;
  }
  wisp_reference_matmul(&matrix, 2, ROWS, x, COLUMNS, row, batch[0], STRIDE);
  for (uint32_t c = 0; c < COLUMNS; c++) {
    for (uint32_t r = 0; r < STRIDE; r++) {
      if (r < 2 || r >= ROWS) {
        cr_assert_eq(batch[c][r], -77, "%s: row %u is outside [2, %d)", type->name, r, ROWS);
        continue;
      }
      double sum = 0, size = 0;
      for (uint32_t i = 0; i < cols; i++) {
        sum += (double)weights[r * cols + i] * x[c * cols + i];
        size += fabs((double)weights[r * cols + i] * x[c * cols + i]);
      }
      close_to(batch[c][r], sum, 2e-6 * (1 + size), type->name, r);
    }
    float alone[ROWS];
    wisp_reference_matmul(&matrix, 0, ROWS, x + c * cols, 1, row, alone, 1000);
    cr_assert_arr_eq(alone + 2, batch[c] + 2, (ROWS - 2) * sizeof *alone, "%s, %u cols: column %u differs alone", type->name,
                     cols, c);
  }
}

Test(reference, matmul) {
  const uint32_t block_cols[] = {32, 96, 576}, any_cols[] = {1, 7, 16, 17, 33, 100};
  const char *const types[] = {"f32", "f16", "bf16", "q4_0", "q4_1", "q5_0", "q5_1", "q8_0"};
  for (int t = 0; t < 8; t++) {
    const wisp_dtype_info *type = wisp_dtype_by_name(types[t]);
    cr_assert_not_null(type);
    cr_assert_not_null(type->quantize, "%s", types[t]);
    for (int i = 0; i < 3; i++) check_matmul(type, block_cols[i]);
    for (int i = 0; i < 6 && type->block_weights == 1; i++) check_matmul(type, any_cols[i]);
  }
}

Test(reference, rope_turns_adjacent_pairs) {
  float x[4] = {1, 0, 3, 4};
  wisp_reference_rope(x, (const float[]){0, 1, 1, 0}, 2); /* a quarter turn, and none */
  cr_assert(x[0] == 0 && x[1] == 1 && x[2] == 3 && x[3] == 4);
  float turns[32], y[32], before[32];
  random_values(before, 32, 5);
  memcpy(y, before, sizeof y);
  for (int i = 0; i < 16; i++) {
    turns[2 * i] = cosf((float)i);
    turns[2 * i + 1] = sinf((float)i);
  }
  wisp_reference_rope(y, turns, 16);
  for (uint32_t i = 0; i < 16; i++) {
    close_to(y[2 * i], before[2 * i] * cos(i) - before[2 * i + 1] * sin(i), 5e-7, "even", i);
    close_to(y[2 * i + 1], before[2 * i] * sin(i) + before[2 * i + 1] * cos(i), 5e-7, "odd", i);
  }
}

Test(reference, kv_write) {
  const float values[6] = {1, -2, 0.5f, 65504, 1e6f, 1 + 0x1p-11f}; /* the last lies half way: to even */
  uint16_t halves[7] = {[6] = 0xabcd};
  wisp_reference_kv_write(values, 3, WISP_KV_F16, halves);
  const uint16_t expected[7] = {0x3c00, 0xc000, 0x3800, 0x7bff, 0x7c00, 0x3c00, 0xabcd};
  cr_assert_arr_eq(halves, expected, sizeof halves);
  float floats[7] = {[6] = 9};
  wisp_reference_kv_write(values, 3, WISP_KV_F32, floats);
  cr_assert_arr_eq(floats, values, sizeof values);
  cr_assert_eq(floats[6], 9);
}

/* Scales, quants and zeros of a row of q8_0, blocks counted through K and V alike. */
Test(reference, kv_write_in_8_bits) {
  enum { WIDTH = 96, ELEMENTS = 2 * WIDTH, BLOCKS = ELEMENTS / WISP_KV_BLOCK, USED = ELEMENTS + 2 * BLOCKS, ROW = 208 };
  float values[ELEMENTS];
  union {
    uint8_t bytes[ROW + 4];
    int8_t quants[ROW + 4];
    uint16_t halves[(ROW + 4) / 2];
  } row;
  cr_assert_eq(wisp_kv_row_bytes(WIDTH, WISP_KV_Q8_0), ROW);
  random_values(values, ELEMENTS, 7);
  memset(&row, 0xab, sizeof row);
  for (uint32_t i = 0; i < 32; i++) values[i] = i % 2 ? 0.0f : -0.0f;     /* no scale */
  for (uint32_t i = 32; i < 64; i++) values[i] = 1e-7f * (float)(i - 32); /* rounded to 0 or less than the largest needs */
  for (uint32_t i = 64; i < 96; i++) values[i] = (float)(i - 64) - 15.5f; /* ties */
  for (uint32_t i = 96; i < 128; i++) values[i] = i == 100 ? 127 : values[i] * 100;
  values[70] = 127; /* makes the scale 1 */
  values[130] = 1e30f, values[131] = -INFINITY;
  wisp_reference_kv_write(values, WIDTH, WISP_KV_Q8_0, row.bytes);
  for (uint32_t i = 0; i < ELEMENTS; i++) {
    const double scale = wisp_f16_to_f32(row.halves[WIDTH + i / 32]);
    const double expected = scale > 0 ? fmax(-127, fmin(127, nearbyint(values[i] / scale))) : 0;
    cr_assert_eq(row.quants[i], expected, "quant %u: %d, not %g", i, row.quants[i], expected);
  }
  cr_assert_eq(row.halves[WIDTH], 0);
  cr_assert_eq(row.halves[WIDTH + 2], 0x3c00);
  cr_assert_eq(row.quants[64], -16); /* -15.5 to even */
  cr_assert_eq(row.halves[WIDTH + 4], 0x7bff);
  cr_assert_eq(row.quants[131], -127);
  for (uint32_t block = 0; block < BLOCKS; block++) {
    float largest = 0;
    for (uint32_t i = 0; i < 32; i++) largest = fmaxf(largest, fabsf(values[32 * block + i]));
    const uint16_t expected = largest < 1e6f ? wisp_f32_to_f16(largest / 127) : 0x7bff;
    cr_assert(abs(row.halves[WIDTH + block] - expected) <= 1, "scale %u", block); /* largest * (1 / 127) */
  }
  for (uint32_t i = USED; i < ROW + 4; i++) cr_assert_eq(row.bytes[i], i < ROW ? 0 : 0xab, "byte %u", i);
}

/* With one position its weight is 1 and the output is V: every half there is, in whole groups of lanes and in the rest. */
Test(reference, every_half_is_read_exactly) {
  enum { HEAD = 23 };
  uint16_t cache[2 * HEAD] = {0};
  float q[HEAD] = {0}, score, out[HEAD];
  const wisp_kv_slot slot = {.positions = cache, .type = WISP_KV_F16, .kv_width = HEAD};
  for (uint32_t first = 0; first < 65536; first += HEAD) {
    for (uint32_t i = 0; i < HEAD; i++) cache[HEAD + i] = (uint16_t)(first + i);
    wisp_reference_attention(q, 1, &slot, 0, HEAD, 1, &score, out);
    for (uint32_t i = 0; i < HEAD; i++) {
      float expected = wisp_f16_to_f32((uint16_t)(first + i));
      cr_assert(isnan(expected) ? isnan(out[i]) : out[i] == expected, "half %04x: %g", (first + i) & 0xffff, out[i]);
    }
  }
}

enum { KV_HEADS = 2, MAX_HEAD = 64, POSITIONS = 1000 };

/* Element i of position t. */
static double cached(const wisp_kv_slot *slot, size_t t, size_t i) {
  const void *row = (const uint8_t *)slot->positions + t * wisp_kv_row_bytes(slot->kv_width, slot->type);
  if (slot->type == WISP_KV_F32) return ((const float *)row)[i];
  if (slot->type == WISP_KV_F16) return wisp_f16_to_f32(((const uint16_t *)row)[i]);
  return ((const int8_t *)row)[i] * (double)wisp_f16_to_f32(wisp_kv_scales(row, slot->kv_width)[i / WISP_KV_BLOCK]);
}

static void check_attention(wisp_kv_type type, uint32_t head_size, uint32_t length, float q_scale) {
  static uint8_t cache[(POSITIONS + 1) * 2 * KV_HEADS * MAX_HEAD * 4];
  static float scores[POSITIONS];
  const uint32_t width = KV_HEADS * head_size;
  const size_t position_bytes = (size_t)wisp_kv_row_bytes(width, type);
  float row[2 * KV_HEADS * MAX_HEAD], q[MAX_HEAD], out[MAX_HEAD + 1] = {[0] = NAN};
  for (uint32_t t = 0; t < length; t++) {
    random_values(row, 2 * width, 100 + t);
    wisp_reference_kv_write(row, width, type, cache + t * position_bytes);
  }
  memset(cache + length * position_bytes, 0xff, position_bytes); /* NaN where nothing may be read */
  random_values(q, head_size, 6);
  for (uint32_t i = 0; i < head_size; i++) q[i] *= q_scale;
  const wisp_kv_slot slot = {.positions = cache, .type = type, .kv_width = width};
  for (uint32_t kv_head = 0; kv_head < KV_HEADS; kv_head++) {
    double weights[POSITIONS], maximum = -INFINITY, sum = 0;
    for (uint32_t t = 0; t < length; t++) {
      weights[t] = 0;
      for (uint32_t i = 0; i < head_size; i++) {
        weights[t] += q[i] * cached(&slot, t, kv_head * head_size + i);
      }
      weights[t] /= sqrt(head_size);
      maximum = fmax(maximum, weights[t]);
    }
    for (uint32_t t = 0; t < length; t++) sum += weights[t] = exp(weights[t] - maximum);
    out[head_size] = 42;
    wisp_reference_attention(q, 1, &slot, kv_head, head_size, length, scores, out);
    cr_assert_eq(out[head_size], 42);
    for (uint32_t i = 0; i < head_size; i++) {
      double expected = 0;
      for (uint32_t t = 0; t < length; t++) {
        expected += weights[t] / sum * cached(&slot, t, width + kv_head * head_size + i);
      }
      close_to(out[i], expected, 2e-6 * (1 + q_scale), "attention", i);
    }
  }
}

Test(reference, attention) {
  const uint32_t lengths[] = {1, 2, 31, 32, 33, 1000}, heads[] = {8, 16, 20, 64};
  for (int l = 0; l < 6; l++) {
    for (int h = 0; h < 4; h++) {
      check_attention(WISP_KV_F16, heads[h], lengths[l], 1);
      check_attention(WISP_KV_F32, heads[h], lengths[l], 1);
    }
    check_attention(WISP_KV_Q8_0, 32, lengths[l], 1);
    check_attention(WISP_KV_Q8_0, 64, lengths[l], 1);
  }
  check_attention(WISP_KV_F32, 64, 33, 300); /* scores in the hundreds: exp would overflow without the maximum */
}

Test(reference, attention_weighs_equal_keys_equally) {
  const float cache[3][4] = {{0, 0, 1, 10}, {0, 0, 2, 20}, {0, 0, 6, 60}};
  float scores[3], out[2];
  const wisp_kv_slot slot = {.positions = cache, .type = WISP_KV_F32, .kv_width = 2};
  wisp_reference_attention((const float[]){5, 5}, 1, &slot, 0, 2, 3, scores, out);
  close_to(out[0], 3, 1e-6, "out", 0);
  close_to(out[1], 30, 1e-5, "out", 1);
}

Test(reference, silu_mul) {
  float gate[5] = {0, 1, -1, 100, -100};
  const float up[5] = {3, 2, 2, 0.5f, 7};
  const double expected[5] = {0, 2 / (1 + exp(-1)), -2 / (1 + exp(1)), 50, -700 / (1 + exp(100))};
  wisp_reference_silu_mul(gate, up, 5);
  for (uint32_t i = 0; i < 5; i++) close_to(gate[i], expected[i], 1e-6, "silu", i);
  float extreme[2] = {-1000, 1000}; /* exp overflows to infinity: the quotient is still right */
  wisp_reference_silu_mul(extreme, (const float[]){1, 1}, 2);
  cr_assert(extreme[0] == 0 && extreme[1] == 1000);
}
