/* SPDX-License-Identifier: Apache-2.0
 * What a run left behind, word for word: the regions as expected, everything else untouched. */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/little_endian.h"
#include "session/sampler.h"
#include "truth.h"

#define TINY 1e-30 /* where a GPU may flush to zero, or divide as it likes */

WISP_PRINTF(2, 3) static void reject(verdict *v, const char *format, ...) {
  if (v->ok) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(v->text, sizeof v->text, format, arguments);
    va_end(arguments);
  }
  v->ok = false;
}

/* rounding: allowed on top of the bound, for what is stored as f16. */
static void judge_value(verdict *v, const region *r, uint32_t i, float got, double rounding) {
  const float expected = r->expected[i];
  if (got == expected) return;
  double difference = fabs((double)got - expected) - rounding;
  if (difference < 0) difference = 0;
  const double magnitude = r->magnitude[i] + TINY, of_bound = difference / (r->bound * magnitude + TINY);
  if (!(of_bound <= 1))
    reject(v, "%s[%u] is %.9g, expected %.9g, allowed are %.2g of %.3g", r->name, i, (double)got, (double)expected,
           (double)r->bound, magnitude);
  if (!(difference / magnitude <= v->error)) v->error = difference / magnitude;
  if (!(of_bound <= v->of_bound)) v->of_bound = of_bound;
}

/* Rows of q8_0: elements are off by half a step, a little more where the scale was rounded down; behind the scales are zeros.
 */
static void judge_rows(verdict *v, const region *r, const uint32_t *after) {
  const uint32_t words = (uint32_t)wisp_kv_row_bytes(r->width, WISP_KV_Q8_0) / 4, used = r->width / 2 + r->width / 32;
  for (uint32_t at = 0; at < r->count / words; at++) {
    const uint32_t *row = after + r->first + at * words, first = at * 2 * r->width;
    for (uint32_t i = 0; i < 2 * r->width; i++) {
      const double scale = wisp_f16_to_f32(wisp_kv_scales(row, r->width)[i / WISP_KV_BLOCK]);
      double largest = 0, error = 0;
      for (uint32_t j = i / 32 * 32; j < i / 32 * 32 + 32; j++) {
        largest = fmax(largest, fabsf(r->expected[first + j]));
        error = fmax(error, r->bound * (double)r->magnitude[first + j]);
      }
      if (!(fabs(127 * scale - largest) <= error + largest * 0x1.01p-11 + 127 * 0x1p-24))
        reject(v, "%s: the scale of [%u] is %g, the largest value %g", r->name, first + i, scale, largest);
      judge_value(v, r, first + i, truth_cached(row, r->width, WISP_KV_Q8_0, i), (0.5 + 127 * 0x1.01p-11) * scale);
    }
    for (uint32_t i = used; i < words; i++)
      if (row[i]) reject(v, "%s: word %u of row %u is 0x%x, not padding", r->name, i, at, row[i]);
  }
}

/* What kv_store makes of the floats that it took has the reference's bits. */
static void judge_stored(verdict *v, const truth *t, const bed_run *run) {
  const wisp_model *m = &t->bed->model;
  const uint32_t width = m->kv_heads * m->head_size, row_bytes = (uint32_t)wisp_kv_row_bytes(width, WISP_KV_Q8_0);
  const float *staged = (const float *)(const void *)bed_after(t->bed, BED_DATA) + t->bed->modes[run->mode].activations.hidden;
  const uint8_t *rows = (const uint8_t *)bed_after(t->bed, BED_KV) + run->op->kv_slot * t->bed->slot_bytes +
                        (uint64_t)run->position * row_bytes;
  for (uint32_t i = 0; i < run->count * 2 * width; i += WISP_KV_BLOCK) {
    const uint8_t *row = rows + i / (2 * width) * row_bytes;
    const uint32_t element = i % (2 * width);
    int8_t quants[WISP_KV_BLOCK];
    const uint16_t scale = wisp_kv_quantize(staged + i, quants);
    if (scale != wisp_kv_scales(row, width)[element / WISP_KV_BLOCK] || memcmp(quants, row + element, sizeof quants))
      reject(v, "K and V[%u]: not the bits of the reference for the floats stored", i);
  }
}

static void judge_region(verdict *v, const region *r, const uint32_t *after) {
  if (r->kind == REGION_ROWS) {
    judge_rows(v, r, after);
    return;
  }
  for (uint32_t i = 0; i < r->count; i++) {
    const uint32_t word = after[r->first + i];
    if (r->kind == REGION_FLOATS) judge_value(v, r, i, wisp_float_of_bits(word), 0);
    if (r->kind == REGION_WORDS && word != r->words[i])
      reject(v, "%s[%u] is 0x%x, expected 0x%x", r->name, i, word, r->words[i]);
    if (r->kind != REGION_HALVES) continue;
    for (uint32_t half = 0; half < 2; half++) {
      const double rounding = 0x1.01p-11 * fabsf(r->expected[2 * i + half]) +
                              0x1p-14 * (double)r->factor; /* subnormals may be 0 */
      judge_value(v, r, 2 * i + half, r->factor * wisp_f16_to_f32((uint16_t)(word >> 16 * half)), rounding);
    }
  }
}

/* Bounds of the next region of buffer that ends after word at; false: none. */
static bool next_region(const truth *t, int buffer, size_t at, size_t *begin, size_t *end) {
  *begin = SIZE_MAX;
  for (uint32_t i = 0; i < t->region_count; i++) {
    const region *r = &t->regions[i];
    if ((int)r->buffer != buffer || r->first + r->count <= at || r->first >= *begin) continue;
    *begin = r->first;
    *end = r->first + r->count;
  }
  return *begin != SIZE_MAX;
}

static void judge_untouched(verdict *v, const truth *t, int buffer) {
  static const char *const names[BED_BUFFERS] = {"data", "KV", "step", "tokens"};
  const uint32_t *before = t->bed->before[buffer], *after = bed_after(t->bed, (bed_buffer)buffer);
  for (size_t at = 0; at < t->bed->words[buffer];) {
    size_t begin, end;
    if (!next_region(t, buffer, at, &begin, &end)) begin = end = t->bed->words[buffer];
    if (begin > at && memcmp(before + at, after + at, (begin - at) * 4)) {
      while (before[at] == after[at]) at++;
      reject(v, "word %zu of %s was written: 0x%x, was 0x%x", at, names[buffer], after[at], before[at]);
    }
    at = end;
  }
}

/* The candidates are logits with their ids, and the best of them is the row's best. */
static void judge_candidates(verdict *v, const truth *t, const bed_run *run) {
  const wisp_activations *a = &t->bed->modes[run->mode].activations;
  const float *data = (const float *)(const void *)bed_after(t->bed, BED_DATA);
  for (uint32_t c = 0; c < run->columns; c++) {
    const float *logits = data + a->logits + (size_t)c * a->logit_stride;
    const float *pairs = data + a->candidates + 2 * (size_t)c * a->candidate_stride;
    float best = -INFINITY;
    uint32_t best_id = 0;
    for (uint32_t i = 0; i < a->candidate_stride; i++) {
      const float logit = pairs[2 * i], id = pairs[2 * i + 1];
      if (logit == -INFINITY) continue;
      if (!(id >= 0 && id < (float)t->bed->model.vocabulary) || logit != logits[(uint32_t)id]) {
        reject(v, "candidate %u of column %u: logit %g of id %g", i, c, (double)logit, (double)id);
        return;
      }
      if (logit > best || (logit == best && (uint32_t)id < best_id)) best = logit, best_id = (uint32_t)id;
    }
    const uint32_t expected = (uint32_t)wisp_argmax(logits, t->bed->model.vocabulary);
    if (best_id != expected) reject(v, "column %u: best candidate %u, but the best logit is %u's", c, best_id, expected);
  }
}

verdict truth_judge(const truth *t, const bed_run *run) {
  verdict v = {.ok = true};
  for (uint32_t i = 0; i < t->region_count; i++) judge_region(&v, &t->regions[i], bed_after(t->bed, t->regions[i].buffer));
  for (int i = 0; i < BED_BUFFERS; i++) judge_untouched(&v, t, i);
  if (truth_stages(t, run)) judge_stored(&v, t, run);
  /* Of a batch nobody reads the candidates. */
  if (run->op->kind == WISP_OP_HEAD && !run->batch) judge_candidates(&v, t, run);
  return v;
}
