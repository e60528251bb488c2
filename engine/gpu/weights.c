/* SPDX-License-Identifier: Apache-2.0 */
#include "gpu/weights.h"

#include <inttypes.h>
#include <string.h>

#include "gpu/executor.h"

static uint64_t align_up(uint64_t value, uint64_t alignment) {
  return (value + alignment - 1) / alignment * alignment;
}

/* What fills a window: vectors first, one behind the other, then each matrix's quants and scales, all at multiples of 256
 * bytes. */
typedef struct contents {
  const wisp_matrix *matrices[WISP_WINDOW_MATRICES];
  uint32_t matrix_count;
  struct {
    const float *values; /* NULL: not there */
    uint32_t count;      /* a multiple of 4 */
  } vectors[WISP_WINDOW_VECTORS];
  uint32_t row_begin, row_end; /* of the matrices; 0, 0 = all rows */
} contents;

static contents block_contents(const wisp_model *m, const wisp_block *b) {
  return (contents){.matrices = {&b->q, &b->k, &b->v, &b->attn_out, &b->gate, &b->up, &b->down},
                    .matrix_count = 7,
                    .vectors = {[WISP_ATTN_NORM] = {b->attn_norm, m->width},
                                [WISP_FFN_NORM] = {b->ffn_norm, m->width},
                                [WISP_ATTN_POST_NORM] = {b->attn_post_norm, m->width},
                                [WISP_FFN_POST_NORM] = {b->ffn_post_norm, m->width},
                                [WISP_Q_BIAS] = {b->q_bias, b->q.rows},
                                [WISP_K_BIAS] = {b->k_bias, b->k.rows},
                                [WISP_V_BIAS] = {b->v_bias, b->v.rows},
                                [WISP_Q_NORM] = {b->q_norm, m->head_size},
                                [WISP_K_NORM] = {b->k_norm, m->head_size}}};
}

static contents vocabulary_contents(const wisp_model *m, const wisp_matrix *matrix, const wisp_window *window) {
  return (contents){.matrices = {matrix},
                    .matrix_count = 1,
                    .vectors = {[WISP_FINAL_NORM] = {m->final_norm, m->width}},
                    .row_begin = window->row_begin,
                    .row_end = window->row_begin + window->rows};
}

static uint32_t content_rows(const contents *c, uint32_t i) {
  return c->row_end ? c->row_end - c->row_begin : c->matrices[i]->rows;
}

/* Places the contents inside the window and sets its size. */
static void place(wisp_window *window, const contents *c) {
  uint64_t at = 0;
  for (uint32_t i = 0; i < WISP_WINDOW_VECTORS; i++) {
    window->vectors[i] = (uint32_t)(at / 16);
    if (c->vectors[i].values) at += (uint64_t)c->vectors[i].count * sizeof(float);
  }
  at = align_up(at, 256);
  for (uint32_t i = 0; i < c->matrix_count; i++) {
    const wisp_layout *layout = wisp_layout_for(c->matrices[i]->type);
    const uint64_t blocks = wisp_layout_tiled_rows(content_rows(c, i)) * wisp_layout_row_blocks(c->matrices[i]->cols);
    window->matrices[i].layout = layout;
    window->matrices[i].quants = (uint32_t)(at / 16);
    at = align_up(at + blocks * layout->quant_bytes, 256);
    window->matrices[i].scales = (uint32_t)(at / 4);
    at = align_up(at + blocks * layout->scale_bytes, 256);
  }
  window->bytes = at;
}

enum { SCRATCH_BYTES = WVK_UPLOAD_CHUNK / 4 };

typedef struct upload {
  wvk_uploader *uploader;
  uint8_t *scratch;   /* [SCRATCH_BYTES]: only one piece of the uploader's memory is open at a time */
  wvk_buffer *buffer; /* of the window being filled */
} upload;

static wisp_status put(upload *u, uint64_t offset, const void *data, uint64_t size) {
  void *pointer;
  WISP_GPU_TRY(wvk_uploader_map(u->uploader, u->buffer, offset, size, &pointer));
  memcpy(pointer, data, size);
  return WISP_OK;
}

static wisp_status upload_matrix(upload *u, const wisp_window *window, const wisp_placed *placed, const wisp_matrix *matrix,
                                 uint32_t begin, uint32_t rows) {
  const uint64_t row_blocks = wisp_layout_row_blocks(matrix->cols);
  const uint64_t quant_row = row_blocks * placed->layout->quant_bytes, scale_row = row_blocks * placed->layout->scale_bytes;
  const uint64_t quants = window->offset + 16ull * placed->quants, scales = window->offset + 4ull * placed->scales;
  /* Scales take at most a quarter of the room that quants take. Pieces are whole tiles of 8 rows. */
  const uint32_t fit = (uint32_t)(WVK_UPLOAD_CHUNK / 2 / quant_row) & ~7u;
  const uint32_t step = fit < 8 ? 8 : fit;
  for (uint32_t row = 0; row < rows; row += step) {
    const uint32_t count = rows - row < step ? rows - row : step;
    const uint64_t tiled = wisp_layout_tiled_rows(count);
    void *pointer;
    WISP_GPU_TRY(wvk_uploader_map(u->uploader, u->buffer, quants + row * quant_row, tiled * quant_row, &pointer));
    wisp_layout_repack(placed->layout, matrix, begin + row, begin + row + count, pointer, u->scratch);
    if (scale_row) WISP_TRY(put(u, scales + row * scale_row, u->scratch, tiled * scale_row));
  }
  return WISP_OK;
}

static wisp_status upload_window(upload *u, const wisp_window *window, const contents *c) {
  for (uint32_t i = 0; i < WISP_WINDOW_VECTORS; i++)
    if (c->vectors[i].values)
      WISP_TRY(put(u, window->offset + 16ull * window->vectors[i], c->vectors[i].values, c->vectors[i].count * sizeof(float)));
  for (uint32_t i = 0; i < c->matrix_count; i++)
    WISP_TRY(upload_matrix(u, window, &window->matrices[i], c->matrices[i], c->row_begin, content_rows(c, i)));
  return WISP_OK;
}

/* Splits the vocabulary's rows evenly into as few windows as the binding limit allows. */
static uint32_t vocabulary_parts(const wvk_caps *caps, const wisp_model *m, const wisp_matrix *matrix) {
  wisp_window whole = {.rows = matrix->rows};
  const contents c = vocabulary_contents(m, matrix, &whole);
  place(&whole, &c);
  const uint64_t limit = caps->max_storage_range < UINT32_MAX ? caps->max_storage_range : UINT32_MAX;
  return (uint32_t)((whole.bytes + limit - 8192 - 1) / (limit - 8192));
}

static void split_vocabulary(const wisp_model *m, const wisp_matrix *matrix, wisp_window *windows, uint32_t parts) {
  const uint32_t rows = (uint32_t)align_up((matrix->rows + parts - 1) / parts, 8);
  for (uint32_t i = 0; i < parts; i++) {
    const uint32_t begin = i * rows < matrix->rows ? i * rows : matrix->rows;
    windows[i] = (wisp_window){.row_begin = begin, .rows = begin + rows < matrix->rows ? rows : matrix->rows - begin};
    const contents c = vocabulary_contents(m, matrix, &windows[i]);
    place(&windows[i], &c);
  }
}

/* Gives each window its buffer and offset. The largest come last, so that offset + range stays inside with little padding. */
static wisp_status assign(wisp_weights *w, const wvk_caps *caps, wisp_window *windows, uint32_t count, uint64_t *sizes) {
  const uint64_t limit = caps->max_allocation < UINT32_MAX ? caps->max_allocation
                                                           : UINT32_MAX; /* dynamic offsets have 32 bits */
  uint64_t next = 0;
  w->buffer_count = 1;
  for (uint32_t i = 0; i < count; i++) {
    wisp_window *window = &windows[i];
    if (window->bytes > caps->max_storage_range || window->bytes > limit)
      return wisp_fail(w->host, WISP_ERROR_UNSUPPORTED,
                       "%s: a block of %" PRIu64 " bytes passes the device's limit of %" PRIu64 " for one storage buffer",
                       caps->name, window->bytes, caps->max_storage_range);
    uint64_t *range = &w->ranges[w->buffer_count - 1];
    const uint64_t wanted = window->bytes > *range ? window->bytes : *range;
    if (next && next + wanted > limit) {
      next = 0;
      range = &w->ranges[w->buffer_count++];
    }
    *range = window->bytes > *range ? window->bytes : *range;
    window->buffer = w->buffer_count - 1;
    window->offset = next;
    sizes[window->buffer] = next + *range;
    next = align_up(next + window->bytes, caps->storage_alignment > 256 ? caps->storage_alignment : 256);
    w->bytes += window->bytes;
  }
  return WISP_OK;
}

static wisp_status fill_windows(upload *u, wisp_weights *w, const wisp_model *m, void (*progress)(void *, const char *, float),
                                void *progress_user) {
  uint64_t done = 0;
  const uint32_t windows = m->weight_blocks + w->embedding_parts + (m->head_shared ? 0 : w->head_parts);
  for (uint32_t i = 0; i < windows; i++) {
    const uint32_t part = i - m->weight_blocks;
    const bool is_block = i < m->weight_blocks, is_embedding = !is_block && part < w->embedding_parts;
    const wisp_window *window = is_block       ? &w->blocks[i]
                                : is_embedding ? &w->embedding[part]
                                               : &w->head[part - w->embedding_parts];
    const contents c = is_block ? block_contents(m, &m->blocks[i])
                                : vocabulary_contents(m, is_embedding ? &m->embedding : &m->head, window);
    u->buffer = w->buffers[window->buffer];
    WISP_TRY(upload_window(u, window, &c));
    done += window->bytes;
    if (progress) progress(progress_user, "upload", (float)((double)done / (double)w->bytes));
  }
  return wisp_gpu_status(wvk_uploader_finish(u->uploader));
}

static wisp_status fill(wisp_weights *w, const wisp_model *m, void (*progress)(void *, const char *, float),
                        void *progress_user) {
  upload u = {.scratch = wisp_host_alloc(w->host, 1, SCRATCH_BYTES)};
  if (!u.scratch) return wisp_fail_memory(w->host, "upload scratch", SCRATCH_BYTES);
  wisp_status status = wisp_gpu_status(wvk_uploader_create(&u.uploader, w->device));
  if (status == WISP_OK) status = fill_windows(&u, w, m, progress, progress_user);
  wvk_uploader_destroy(&u.uploader);
  wisp_host_free(w->host, u.scratch);
  return status;
}

static wisp_status open_weights(wisp_weights *w, const wvk_caps *caps, const wisp_model *m,
                                void (*progress)(void *, const char *, float), void *progress_user) {
  w->embedding_parts = vocabulary_parts(caps, m, &m->embedding);
  w->head_parts = m->head_shared ? w->embedding_parts : vocabulary_parts(caps, m, &m->head);
  const uint32_t count = m->weight_blocks + w->embedding_parts + (m->head_shared ? 0 : w->head_parts);
  wisp_window *windows = w->owned = wisp_host_alloc(w->host, count, sizeof *windows);
  w->ranges = wisp_host_alloc(w->host, 2 * (size_t)count, sizeof *w->ranges); /* ranges, then sizes */
  w->buffers = wisp_host_alloc(w->host, count, sizeof *w->buffers);
  if (!windows || !w->ranges || !w->buffers) return wisp_fail_memory(w->host, "weight windows", count * sizeof *windows);
  w->blocks = windows;
  for (uint32_t i = 0; i < m->weight_blocks; i++) {
    const contents c = block_contents(m, &m->blocks[i]);
    place(&w->blocks[i], &c);
  }
  w->embedding = w->head = windows + m->weight_blocks;
  if (!m->head_shared) {
    w->head += w->embedding_parts;
    split_vocabulary(m, &m->head, w->head, w->head_parts);
  }
  split_vocabulary(m, &m->embedding, w->embedding, w->embedding_parts);

  uint64_t *sizes = w->ranges + count;
  WISP_TRY(assign(w, caps, windows, count, sizes));
  if (!w->device) return WISP_OK;
  for (uint32_t i = 0; i < w->buffer_count; i++)
    WISP_GPU_TRY(wvk_buffer_create(&w->buffers[i], w->device, "weights", sizes[i], WVK_MEMORY_DEVICE));
  return fill(w, m, progress, progress_user);
}

wisp_status wisp_weights_open(wisp_weights *weights, const wisp_host *host, wvk_device *device, const wvk_caps *caps,
                              const wisp_model *model, void (*progress)(void *user, const char *stage, float fraction),
                              void *progress_user) {
  *weights = (wisp_weights){.host = host, .device = device};
  wisp_status status = open_weights(weights, caps, model, progress, progress_user);
  if (status != WISP_OK) wisp_weights_close(weights);
  return status;
}

void wisp_weights_close(wisp_weights *weights) {
  for (uint32_t i = 0; i < weights->buffer_count && weights->buffers; i++) wvk_buffer_destroy(&weights->buffers[i]);
  wisp_host_free(weights->host, weights->buffers);
  wisp_host_free(weights->host, weights->ranges);
  wisp_host_free(weights->host, weights->owned);
  *weights = (wisp_weights){0};
}
