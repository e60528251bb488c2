/* SPDX-License-Identifier: Apache-2.0
 * Attention in eight floats (f8), of one token and of several that share the reading of K and V. A source as vector_kernels.h,
 * behind which it is included. A query's sums are made in the same order in both: positions ascend, elements are in the same
 * lane. */

/* A head of K or V: elements first .. first + size of rows, one behind the other. */
typedef struct kv_head {
  const uint8_t *rows; /* of position `position` */
  uint32_t position;
  size_t stride;
  uint32_t scales, first, size; /* scales: bytes before a row's scales */
} kv_head;

/* A query and the positions [begin, end) that it sees. */
typedef struct query {
  const float *q; /* [size] */
  float *scores;  /* [stride]: of all positions; begin + wisp_scores_stride(end - begin) <= stride */
  float *out;     /* [size] */
  uint32_t begin, end;
} query;

enum { TOGETHER = 3 }; /* queries: with four positions, or four vectors of elements, what fits into 16 registers */

static inline const uint8_t *kv_row(const kv_head *head, uint32_t position) {
  return head->rows + (position - head->position) * head->stride;
}

/* Elements i .. i + 7 of the head in one row, i a multiple of 8. */
static inline __attribute__((always_inline)) f8 kv_load(const kv_head *head, const wisp_kv_type type, const uint8_t *row,
                                                        uint32_t i) {
  const void *const values = row;
  if (type == WISP_KV_F32) return f8_load((const float *)values + head->first + i);
  if (type == WISP_KV_F16) return f8_load_f16((const uint16_t *)values + head->first + i);
  const void *const scales = row + head->scales;
  const f8 scale = f8_set_f16(((const uint16_t *)scales)[(head->first + i) / WISP_KV_BLOCK]);
  return f8_mul(f8_load_i8((const int8_t *)values + head->first + i), scale);
}

/* scores[t] = q . k[t] for t in [begin, end), four positions at a time; those behind the last repeat it. */
static inline __attribute__((always_inline)) void score(const uint32_t count, const wisp_kv_type type, const query *queries,
                                                        const kv_head *k, uint32_t begin, uint32_t end) {
  for (uint32_t t = begin; t < end; t += 4) {
    const uint8_t *row[4];
    f8 sums[TOGETHER][4];
#pragma GCC unroll 4
    for (uint32_t p = 0; p < 4; p++) {
      row[p] = kv_row(k, t + p < end ? t + p : end - 1);
#pragma GCC unroll 3
      for (uint32_t g = 0; g < count; g++) sums[g][p] = f8_set(0);
    }
    for (uint32_t i = 0; i < k->size; i += LANES) {
#pragma GCC unroll 4
      for (uint32_t p = 0; p < 4; p++) {
        const f8 lanes = kv_load(k, type, row[p], i);
#pragma GCC unroll 3
        for (uint32_t g = 0; g < count; g++) sums[g][p] = f8_fma(lanes, f8_load(queries[g].q + i), sums[g][p]);
      }
    }
#pragma GCC unroll 3
    for (uint32_t g = 0; g < count; g++) f8_store_sums(queries[g].scores + t, sums[g][0], sums[g][1], sums[g][2], sums[g][3]);
  }
}

/* scores become exp(scale * (score - largest)); their sum. Rows end at a multiple of 8. */
static inline float soften(float *scores, uint32_t length, float scale) {
  for (uint32_t t = length; t < wisp_scores_stride(length); t++) scores[t] = -INFINITY;
  f8 largest = f8_load(scores), sum = f8_set(0);
  for (uint32_t t = LANES; t < length; t += LANES) largest = f8_max(largest, f8_load(scores + t));
  const f8 maximum = f8_set(f8_largest(largest)), scales = f8_set(scale);
  for (uint32_t t = 0; t < length; t += LANES) {
    const f8 e = f8_exp(f8_mul(f8_sub(f8_load(scores + t), maximum), scales));
    f8_store(scores + t, e);
    sum = f8_add(sum, e);
  }
  return f8_sum(sum);
}

/* out += sum of scores[t] * v[t] over t in [begin, end), for elements [from, from + 8 parts). */
static inline __attribute__((always_inline)) void blend_parts(const uint32_t count, const uint32_t parts,
                                                              const wisp_kv_type type, const query *queries, const kv_head *v,
                                                              uint32_t begin, uint32_t end, uint32_t from) {
  f8 sums[TOGETHER][4];
#pragma GCC unroll 3
  for (uint32_t g = 0; g < count; g++)
#pragma GCC unroll 4
    for (uint32_t i = 0; i < parts; i++) sums[g][i] = f8_load(queries[g].out + from + i * LANES);
  const uint8_t *row = kv_row(v, begin);
  for (uint32_t t = begin; t < end; t++, row += v->stride) {
    f8 lanes[4];
#pragma GCC unroll 4
    for (uint32_t i = 0; i < parts; i++) lanes[i] = kv_load(v, type, row, from + i * LANES);
#pragma GCC unroll 3
    for (uint32_t g = 0; g < count; g++) {
      const f8 weight = f8_set(queries[g].scores[t]);
#pragma GCC unroll 4
      for (uint32_t i = 0; i < parts; i++) sums[g][i] = f8_fma(weight, lanes[i], sums[g][i]);
    }
  }
#pragma GCC unroll 3
  for (uint32_t g = 0; g < count; g++)
#pragma GCC unroll 4
    for (uint32_t i = 0; i < parts; i++) f8_store(queries[g].out + from + i * LANES, sums[g][i]);
}

static inline __attribute__((always_inline)) void blend(const uint32_t count, const wisp_kv_type type, const query *queries,
                                                        const kv_head *v, uint32_t begin, uint32_t end) {
  uint32_t from = 0;
  for (; from + 4 * LANES <= v->size; from += 4 * LANES) blend_parts(count, 4, type, queries, v, begin, end, from);
  for (; from < v->size; from += LANES) blend_parts(count, 1, type, queries, v, begin, end, from);
}

/* Scores become shares, which the outputs are blended from: begins them at 0 and says what to divide by in the end. */
static float begin_output(const query *one, uint32_t size) {
  memset(one->out, 0, size * sizeof *one->out);
  return soften(one->scores + one->begin, one->end - one->begin, (float)(1.0 / sqrt(size)));
}

static void end_output(const query *one, uint32_t size, float total) {
  const f8 factor = f8_set(1 / total);
  for (uint32_t i = 0; i < size; i += LANES) f8_store(one->out + i, f8_mul(f8_load(one->out + i), factor));
}

/* Up to TOGETHER queries that see the same. */
static inline __attribute__((always_inline)) void attend(const uint32_t count, const wisp_kv_type type, const query *queries,
                                                         const kv_head *k, const kv_head *v) {
  float total[TOGETHER];
  score(count, type, queries, k, queries->begin, queries->end);
  for (uint32_t g = 0; g < count; g++) total[g] = begin_output(&queries[g], k->size);
  blend(count, type, queries, v, queries->begin, queries->end);
  for (uint32_t g = 0; g < count; g++) end_output(&queries[g], k->size, total[g]);
}

typedef void attend_fn(uint32_t count, const query *queries, const kv_head *k, const kv_head *v);

#define ATTEND(TYPE)                                                                                                           \
  static void attend_##TYPE(uint32_t count, const query *queries, const kv_head *k, const kv_head *v) {                        \
    if (count == 1) attend(1, WISP_KV_##TYPE, queries, k, v);                                                                  \
    if (count == 2) attend(2, WISP_KV_##TYPE, queries, k, v);                                                                  \
    if (count == 3) attend(3, WISP_KV_##TYPE, queries, k, v);                                                                  \
  }
ATTEND(F16)
ATTEND(F32)
ATTEND(Q8_0)

static kv_head key_head(const wisp_kv_slot *slot, uint32_t kv_head_index, uint32_t head_size) {
  return (kv_head){.rows = slot->positions,
                   .stride = (size_t)wisp_kv_row_bytes(slot->kv_width, slot->type),
                   .scales = 2 * slot->kv_width,
                   .first = kv_head_index * head_size,
                   .size = head_size};
}

static void attention(const float *q, uint32_t queries, const wisp_kv_slot *slot, uint32_t kv_head_index, uint32_t head_size,
                      uint32_t kv_length, float *scores, float *out) {
  static attend_fn *const attend_type[] = {
      [WISP_KV_F16] = attend_F16, [WISP_KV_F32] = attend_F32, [WISP_KV_Q8_0] = attend_Q8_0};
  if (head_size % LANES) {
    wisp_reference_attention(q, queries, slot, kv_head_index, head_size, kv_length, scores, out);
    return;
  }
  const kv_head k = key_head(slot, kv_head_index, head_size);
  kv_head v = k;
  v.first += slot->kv_width;
  for (uint32_t done = 0; done < queries; done += TOGETHER) {
    query some[TOGETHER];
    const uint32_t count = queries - done < TOGETHER ? queries - done : TOGETHER;
    for (uint32_t g = 0; g < count; g++)
      some[g] = (query){.q = q + (done + g) * head_size,
                        .scores = scores + (done + g) * wisp_scores_stride(kv_length),
                        .out = out + (done + g) * head_size,
                        .end = kv_length};
    attend_type[slot->type](count, some, &k, &v);
  }
}

/* ---- Several tokens --------------------------------------------------------------------------------------------------- */

static inline __attribute__((always_inline)) void unpack_rows(const kv_head *head, const wisp_kv_type type, uint32_t begin,
                                                              uint32_t end, float *tile) {
  for (uint32_t t = begin; t < end; t++, tile += head->size)
    for (uint32_t i = 0; i < head->size; i += LANES) f8_store(tile + i, kv_load(head, type, kv_row(head, t), i));
}

/* Positions [begin, end) as floats: a tile stays in the cache while all queries pass over it. */
static kv_head unpack_tile(const kv_head *head, wisp_kv_type type, uint32_t begin, uint32_t end, float *tile) {
  if (type == WISP_KV_F16) unpack_rows(head, WISP_KV_F16, begin, end, tile);
  if (type == WISP_KV_F32) unpack_rows(head, WISP_KV_F32, begin, end, tile);
  if (type == WISP_KV_Q8_0) unpack_rows(head, WISP_KV_Q8_0, begin, end, tile);
  return (kv_head){.rows = (const uint8_t *)tile, .position = begin, .stride = head->size * sizeof *tile, .size = head->size};
}

static uint32_t min_u32(uint32_t a, uint32_t b) {
  return a < b ? a : b;
}

static uint32_t max_u32(uint32_t a, uint32_t b) {
  return a > b ? a : b;
}

/* Scores that a query has no use for are made, too, where its neighbours need them: nobody reads them. */
static void score_tile(const query *queries, uint32_t count, const kv_head *k, uint32_t end) {
  for (uint32_t i = 0; i < count; i += TOGETHER) {
    const uint32_t some = min_u32(count - i, TOGETHER), last = min_u32(end, queries[i + some - 1].end);
    if (queries[i].begin >= end) break;
    if (some == 1) score(1, WISP_KV_F32, queries + i, k, k->position, last);
    if (some == 2) score(2, WISP_KV_F32, queries + i, k, k->position, last);
    if (some == 3) score(3, WISP_KV_F32, queries + i, k, k->position, last);
  }
}

/* Queries go together where they see the same of the tile. */
static void blend_tile(const query *queries, uint32_t count, const kv_head *v, uint32_t tile_end) {
  for (uint32_t i = 0, some; i < count; i += some) {
    const uint32_t begin = max_u32(v->position, queries[i].begin), end = min_u32(tile_end, queries[i].end);
    for (some = 1; some < TOGETHER && i + some < count; some++) {
      const query *next = &queries[i + some];
      if (max_u32(v->position, next->begin) != begin || min_u32(tile_end, next->end) != end) break;
    }
    if (begin >= end) continue;
    if (some == 1) blend(1, WISP_KV_F32, queries + i, v, begin, end);
    if (some == 2) blend(2, WISP_KV_F32, queries + i, v, begin, end);
    if (some == 3) blend(3, WISP_KV_F32, queries + i, v, begin, end);
  }
}

static void prompt_attention(const wisp_prompt *p, float *scratch) {
  const uint32_t size = p->head_size, count = p->tokens * p->queries;
  const uint32_t first = wisp_first_seen(p->position, p->window), end = p->position + p->tokens;
  float *const tile = scratch, *scores = tile + WISP_PROMPT_TILE * size, totals[WISP_PROMPT_QUERIES];
  query queries[WISP_PROMPT_QUERIES];
  for (uint32_t i = 0; i < count; i++, scores += wisp_scores_stride(end - first) + LANES) {
    const uint32_t position = p->position + i / p->queries;
    const size_t at = i / p->queries * p->stride + i % p->queries * size;
    queries[i] = (query){.q = p->q + at,
                         .scores = scores,
                         .out = p->out + at,
                         .begin = wisp_first_seen(position, p->window) - first,
                         .end = position + 1 - first};
  }
  kv_head k = key_head(&p->slot, p->kv_head, size), v;
  k.rows += first * k.stride;
  v = k;
  v.first += p->slot.kv_width;
  for (uint32_t t = 0; t < end - first; t += WISP_PROMPT_TILE) {
    const uint32_t tile_end = min_u32(t + WISP_PROMPT_TILE, end - first);
    const kv_head rows = unpack_tile(&k, p->slot.type, t, tile_end, tile);
    score_tile(queries, count, &rows, tile_end);
  }
  for (uint32_t i = 0; i < count; i++) totals[i] = begin_output(&queries[i], size);
  for (uint32_t t = 0; t < end - first; t += WISP_PROMPT_TILE) {
    const uint32_t tile_end = min_u32(t + WISP_PROMPT_TILE, end - first);
    const kv_head rows = unpack_tile(&v, p->slot.type, t, tile_end, tile);
    blend_tile(queries, count, &rows, tile_end);
  }
  for (uint32_t i = 0; i < count; i++) end_output(&queries[i], size, totals[i]);
}
