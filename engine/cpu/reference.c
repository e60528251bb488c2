/* SPDX-License-Identifier: Apache-2.0 */
#include "cpu/reference.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "base/little_endian.h"
#include "model/quant_search.h"

enum { LANES = 16 };

/* Spelled with the vector types of gcc and clang because gcc keeps sixteen scalar sums in memory: seven times slower. */
typedef float float4 __attribute__((vector_size(16)));

typedef struct sums {
  float4 part[LANES / 4];
} sums;

static inline float4 load4(const float *p) {
  float4 value;
  memcpy(&value, p, sizeof value);
  return value;
}

static inline float total(const sums *s, float tail) {
  float4 sum = (s->part[0] + s->part[2]) + (s->part[1] + s->part[3]);
  return ((sum[0] + sum[2]) + (sum[1] + sum[3])) + tail;
}

static float dot(const float *a, const float *b, uint32_t n) {
  sums s = {0};
  uint32_t i = 0;
  for (; i + LANES <= n; i += LANES) {
    for (uint32_t k = 0; k < LANES / 4; k++) s.part[k] += load4(a + i + 4 * k) * load4(b + i + 4 * k);
  }
  float tail = 0;
  for (; i < n; i++) tail += a[i] * b[i];
  return total(&s, tail);
}

/* Two dots that share a: half the loads, the same sums in the same order. */
static void dot_pair(const float *a, const float *b0, const float *b1, uint32_t n, float *y0, float *y1) {
  sums s0 = {0}, s1 = {0};
  uint32_t i = 0;
  for (; i + LANES <= n; i += LANES) {
    for (uint32_t k = 0; k < LANES / 4; k++) {
      float4 shared = load4(a + i + 4 * k);
      s0.part[k] += shared * load4(b0 + i + 4 * k);
      s1.part[k] += shared * load4(b1 + i + 4 * k);
    }
  }
  float tail0 = 0, tail1 = 0;
  for (; i < n; i++) {
    tail0 += a[i] * b0[i];
    tail1 += a[i] * b1[i];
  }
  *y0 = total(&s0, tail0);
  *y1 = total(&s1, tail1);
}

void wisp_reference_embed(const wisp_matrix *matrix, uint32_t id, float *x) {
  matrix->type->dequantize(matrix->data + id * wisp_matrix_row_bytes(matrix), x, matrix->cols);
}

void wisp_reference_rmsnorm(const float *x, const float *weight, uint32_t n, float epsilon, float *y) {
  double squares = 0;
  for (uint32_t i = 0; i < n; i++) squares += (double)x[i] * x[i];
  float scale = (float)(1.0 / sqrt(squares / n + epsilon));
  for (uint32_t i = 0; i < n; i++) y[i] = weight ? x[i] * scale * weight[i] : x[i] * scale;
}

void wisp_reference_matmul(const wisp_matrix *matrix, uint32_t row_begin, uint32_t row_end, const float *x, uint32_t count,
                           float *row, float *y, size_t stride) {
  const size_t cols = matrix->cols;
  for (uint32_t r = row_begin; r < row_end; r++) {
    wisp_reference_embed(matrix, r, row);
    uint32_t c = 0;
    for (; c + 2 <= count; c += 2) {
      dot_pair(row, x + c * cols, x + (c + 1) * cols, matrix->cols, y + c * stride + r, y + (c + 1) * stride + r);
    }
    if (c < count) y[c * stride + r] = dot(row, x + c * cols, matrix->cols);
  }
}

void wisp_reference_rope(float *x, const float *turns, uint32_t pairs) {
  for (uint32_t i = 0; i < pairs; i++) {
    float cosine = turns[2 * i], sine = turns[2 * i + 1], a = x[2 * i], b = x[2 * i + 1];
    x[2 * i] = a * cosine - b * sine;
    x[2 * i + 1] = a * sine + b * cosine;
  }
}

void wisp_reference_kv_write(const float *values, uint32_t kv_width, wisp_kv_type type, void *position) {
  if (type == WISP_KV_F32) {
    memcpy(position, values, 2 * (size_t)kv_width * sizeof *values);
    return;
  }
  uint16_t *halves = position;
  if (type == WISP_KV_F16) {
    for (uint32_t i = 0; i < 2 * kv_width; i++) halves[i] = wisp_f32_to_f16(values[i]);
    return;
  }
  uint8_t *const row = position;
  const uint64_t end = wisp_kv_row_bytes(kv_width, type), used = 2ull * kv_width / WISP_KV_BLOCK * (WISP_KV_BLOCK + 2);
  for (uint32_t i = 0; i < 2 * kv_width; i += WISP_KV_BLOCK)
    halves[kv_width + i / WISP_KV_BLOCK] = wisp_kv_quantize(values + i, (int8_t *)row + i);
  memset(row + used, 0, end - used);
}

/* wisp_f16_to_f32 without branches, so that compilers vectorise it; equal for all but the payloads of NaNs. */
static inline float unpack_half(uint16_t half) {
  uint32_t shifted = (uint32_t)(half & 0x7fff) << 13, sign = (uint32_t)(half & 0x8000) << 16;
  uint32_t normal = shifted + (112u << 23), special = shifted + (224u << 23);
  uint32_t subnormal = wisp_bits_of_float(wisp_float_of_bits(shifted + (113u << 23)) - 0x1p-14f);
  uint32_t magnitude = shifted < 1u << 23 ? subnormal : shifted >= 31u << 23 ? special : normal;
  return wisp_float_of_bits(sign | magnitude);
}

/* Element i of a row, as a float. */
static inline float kv_value(const wisp_kv_slot *slot, const uint8_t *row, uint32_t i) {
  const void *values = row;
  if (slot->type == WISP_KV_F32) return ((const float *)values)[i];
  if (slot->type == WISP_KV_F16) return unpack_half(((const uint16_t *)values)[i]);
  return (float)((const int8_t *)values)[i] * unpack_half(wisp_kv_scales(row, slot->kv_width)[i / WISP_KV_BLOCK]);
}

/* LANES elements, of one block. */
static inline void kv_load(const wisp_kv_slot *slot, const uint8_t *row, uint32_t first, float *lanes) {
  const void *values = row;
  if (slot->type == WISP_KV_F32) {
    memcpy(lanes, (const float *)values + first, LANES * sizeof *lanes);
  } else if (slot->type == WISP_KV_F16) {
    const uint16_t *halves = (const uint16_t *)values + first;
    for (uint32_t i = 0; i < LANES; i++) lanes[i] = unpack_half(halves[i]);
  } else {
    const int8_t *quants = (const int8_t *)values + first;
    const float scale = unpack_half(wisp_kv_scales(row, slot->kv_width)[first / WISP_KV_BLOCK]);
    for (uint32_t i = 0; i < LANES; i++) lanes[i] = (float)quants[i] * scale;
  }
}

/* q[n] . elements [first, first + n) of a row */
static float kv_dot(const float *q, const wisp_kv_slot *slot, const uint8_t *row, uint32_t first, uint32_t n) {
  sums s = {0};
  uint32_t i = 0;
  for (; i + LANES <= n; i += LANES) {
    float lanes[LANES];
    kv_load(slot, row, first + i, lanes);
    for (uint32_t j = 0; j < LANES / 4; j++) s.part[j] += load4(q + i + 4 * j) * load4(lanes + 4 * j);
  }
  float tail = 0;
  for (; i < n; i++) tail += q[i] * kv_value(slot, row, first + i);
  return total(&s, tail);
}

/* out[n] += weight * elements [first, first + n) of a row */
static void kv_add(float weight, const wisp_kv_slot *slot, const uint8_t *row, uint32_t first, uint32_t n, float *out) {
  uint32_t i = 0;
  for (; i + LANES <= n; i += LANES) {
    float lanes[LANES];
    kv_load(slot, row, first + i, lanes);
    for (uint32_t j = 0; j < LANES; j++) out[i + j] += weight * lanes[j];
  }
  for (; i < n; i++) out[i] += weight * kv_value(slot, row, first + i);
}

static void attend(const float *q, const wisp_kv_slot *slot, uint32_t kv_head, uint32_t head_size, uint32_t kv_length,
                   float *scores, float *out) {
  const size_t row_bytes = (size_t)wisp_kv_row_bytes(slot->kv_width, slot->type);
  const uint8_t *rows = slot->positions;
  const uint32_t key = kv_head * head_size, value = slot->kv_width + key;
  const float scale = (float)(1.0 / sqrt(head_size));

  float maximum = -INFINITY;
  for (uint32_t t = 0; t < kv_length; t++) {
    scores[t] = kv_dot(q, slot, rows + t * row_bytes, key, head_size) * scale;
    if (scores[t] > maximum) maximum = scores[t];
  }
  float sum = 0;
  for (uint32_t t = 0; t < kv_length; t++) {
    scores[t] = expf(scores[t] - maximum);
    sum += scores[t];
  }
  memset(out, 0, head_size * sizeof *out);
  for (uint32_t t = 0; t < kv_length; t++) kv_add(scores[t] / sum, slot, rows + t * row_bytes, value, head_size, out);
}

void wisp_reference_attention(const float *q, uint32_t queries, const wisp_kv_slot *slot, uint32_t kv_head, uint32_t head_size,
                              uint32_t kv_length, float *scores, float *out) {
  for (size_t i = 0; i < queries; i++)
    attend(q + i * head_size, slot, kv_head, head_size, kv_length, scores, out + i * head_size);
}

void wisp_reference_silu_mul(float *gate, const float *up, uint32_t n) {
  for (uint32_t i = 0; i < n; i++) gate[i] = gate[i] / (1 + expf(-gate[i])) * up[i];
}

void wisp_reference_gelu_mul(float *gate, const float *up, uint32_t n) {
  for (uint32_t i = 0; i < n; i++) {
    const float g = gate[i];
    gate[i] = 0.5f * g * (1 + tanhf(0.7978845608f * (g + 0.044715f * g * g * g))) * up[i];
  }
}

void wisp_reference_hadamard(float *x, uint32_t n) {
  const float factor = 0.17677669529663689f; /* 1 / sqrt(32) */
  for (float *group = x; group < x + n; group += WISP_HADAMARD_GROUP) {
    for (uint32_t step = 1; step < WISP_HADAMARD_GROUP; step *= 2)
      for (uint32_t i = 0; i < WISP_HADAMARD_GROUP; i++) {
        if (i & step) continue;
        const float a = group[i], b = group[i + step];
        group[i] = a + b;
        group[i + step] = a - b;
      }
    for (uint32_t i = 0; i < WISP_HADAMARD_GROUP; i++) group[i] *= factor;
  }
}

float wisp_reference_round_int8(float *x, uint32_t n) {
  float low = 0, high = 0;
  if (n % WISP_HADAMARD_GROUP == 0) wisp_reference_hadamard(x, n);
  for (uint32_t i = 0; i < n; i++) {
    low = fminf(low, x[i]);
    high = fmaxf(high, x[i]);
  }
  const float scale = (high - low) / 255, inverse = scale >= FLT_MIN ? 1 / scale : 0;
  const float zero = wisp_search_round(-low * inverse, 0, 255);
  for (uint32_t i = 0; i < n; i++) x[i] = wisp_search_round(x[i] * inverse, -zero, 255 - zero) * scale;
  return scale;
}

const wisp_cpu_kernels wisp_reference_kernels = {
    .name = "c",
    .embed = wisp_reference_embed,
    .rmsnorm = wisp_reference_rmsnorm,
    .matmul = wisp_reference_matmul,
    .rope = wisp_reference_rope,
    .kv_write = wisp_reference_kv_write,
    .attention = wisp_reference_attention,
    .silu_mul = wisp_reference_silu_mul,
    .gelu_mul = wisp_reference_gelu_mul,
    .round_int8 = wisp_reference_round_int8,
};
