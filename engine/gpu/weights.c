/* SPDX-License-Identifier: Apache-2.0 */
#include "gpu/weights.h"

#include <inttypes.h>
#include <stdatomic.h>
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
  const uint64_t most = limit < caps->max_storage_range ? limit : caps->max_storage_range;
  uint64_t next = 0;
  w->buffer_count = 1;
  for (uint32_t i = 0; i < count; i++) {
    wisp_window *window = &windows[i];
    if (window->bytes > most)
      return wisp_fail(w->host, WISP_ERROR_UNSUPPORTED,
                       "%s: a block of %" PRIu64 " bytes passes the device's limit of %" PRIu64 " for one storage buffer",
                       caps->name, window->bytes, most);
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

static wisp_status plan(wisp_weights *w, const wvk_caps *caps, const wisp_model *m) {
  w->embedding_parts = vocabulary_parts(caps, m, &m->embedding);
  w->head_parts = m->head_shared ? w->embedding_parts : vocabulary_parts(caps, m, &m->head);
  const uint32_t count = w->window_count = m->weight_blocks + w->embedding_parts + (m->head_shared ? 0 : w->head_parts);
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

  w->sizes = w->ranges + count;
  return assign(w, caps, windows, count, w->sizes);
}

wisp_status wisp_weights_plan(wisp_weights *weights, const wisp_host *host, const wvk_caps *caps, const wisp_model *model) {
  *weights = (wisp_weights){.host = host};
  const wisp_status status = plan(weights, caps, model);
  if (status != WISP_OK) wisp_weights_close(weights);
  return status;
}

/* ---- Upload ---- */

/* A piece at a time, so that it ends soon when the device is there. */
static bool touch(const wisp_matrix *matrix, wisp_gpu_opening *opening) {
  enum { PAGE = 4096, PIECE = 1 << 20 };
  const volatile uint8_t *data = matrix->data;
  const uint64_t bytes = wisp_matrix_bytes(matrix);
  for (uint64_t at = 0; at < bytes; at += PAGE) {
    if (at % PIECE == 0 && wisp_gpu_open_done(opening)) return false;
    (void)data[at];
  }
  return true;
}

void wisp_weights_touch(const wisp_model *model, wisp_gpu_opening *opening) {
  bool goes_on = touch(&model->embedding, opening);
  for (uint32_t i = 0; i < model->weight_blocks && goes_on; i++) {
    const wisp_block *b = &model->blocks[i];
    const wisp_matrix *const all[] = {&b->q, &b->k, &b->v, &b->attn_out, &b->gate, &b->up, &b->down};
    for (size_t j = 0; j < sizeof all / sizeof *all && goes_on; j++) goes_on = touch(all[j], opening);
  }
}

enum {
  SHARE_BYTES = 512 << 10,            /* of a window, about: what a thread takes at a time */
  PIECE_BYTES = WVK_UPLOAD_CHUNK / 2, /* of quants; scales take at most a quarter of their room */
  SCRATCH_BYTES = PIECE_BYTES / 2
};

typedef struct upload {
  wisp_weights *weights;
  const wisp_model *model;
  wvk_uploader *uploader; /* a lane for each worker */
  uint8_t *scratch;       /* [WVK_UPLOAD_LANES][SCRATCH_BYTES]: only one piece of a lane is open at a time */
  uint32_t parts;
  atomic_uint done; /* parts */
  void (*progress)(void *user, const char *stage, float fraction);
  void *progress_user;
} upload;

typedef struct lane { /* a worker, and the window that it fills */
  const upload *upload;
  uint32_t index;
  const wisp_window *window;
  wvk_buffer *buffer;
} lane;

typedef struct share { /* of a window: index < count */
  uint32_t index, count;
} share;

static wisp_status map(const lane *l, uint64_t offset, uint64_t size, void **pointer) {
  return wisp_gpu_status(wvk_uploader_map(l->upload->uploader, l->index, l->buffer, l->window->offset + offset, size, pointer));
}

static wisp_status put(const lane *l, uint64_t offset, const void *data, uint64_t size) {
  void *pointer;
  WISP_TRY(map(l, offset, size, &pointer));
  memcpy(pointer, data, size);
  return WISP_OK;
}

/* Rows [begin + first, begin + last) of matrix into the placed one's rows [first, last), whole tiles of 8. */
static wisp_status upload_rows(const lane *l, const wisp_placed *placed, const wisp_matrix *matrix, uint32_t begin,
                               uint32_t first, uint32_t last) {
  const uint64_t row_blocks = wisp_layout_row_blocks(matrix->cols);
  const uint64_t quant_row = row_blocks * placed->layout->quant_bytes, scale_row = row_blocks * placed->layout->scale_bytes;
  const uint64_t quants = 16ull * placed->quants, scales = 4ull * placed->scales;
  const uint32_t fit = (uint32_t)(PIECE_BYTES / quant_row) & ~7u, step = fit < 8 ? 8 : fit;
  uint8_t *scratch = l->upload->scratch + (size_t)l->index * SCRATCH_BYTES;
  for (uint32_t row = first; row < last; row += step) {
    const uint32_t count = last - row < step ? last - row : step;
    const uint64_t tiled = wisp_layout_tiled_rows(count);
    void *pointer;
    WISP_TRY(map(l, quants + row * quant_row, tiled * quant_row, &pointer));
    wisp_layout_repack(placed->layout, matrix, begin + row, begin + row + count, pointer, scratch);
    if (scale_row) WISP_TRY(put(l, scales + row * scale_row, scratch, tiled * scale_row));
  }
  return WISP_OK;
}

/* The first share has the vectors, each its part of every matrix. */
static wisp_status upload_share(const lane *l, const contents *c, share part) {
  for (uint32_t i = 0; i < WISP_WINDOW_VECTORS && part.index == 0; i++)
    if (c->vectors[i].values)
      WISP_TRY(put(l, 16ull * l->window->vectors[i], c->vectors[i].values, c->vectors[i].count * sizeof(float)));
  for (uint32_t i = 0; i < c->matrix_count; i++) {
    const uint32_t rows = content_rows(c, i), tiles = (rows + 7) / 8;
    const uint32_t first = 8 * (uint32_t)((uint64_t)tiles * part.index / part.count);
    const uint32_t end = 8 * (uint32_t)((uint64_t)tiles * (part.index + 1) / part.count);
    WISP_TRY(upload_rows(l, &l->window->matrices[i], c->matrices[i], c->row_begin, first, end < rows ? end : rows));
  }
  return WISP_OK;
}

static uint32_t shares_of(const wisp_window *window) {
  return (uint32_t)(window->bytes / SHARE_BYTES) + 1;
}

static wisp_status upload_part(void *argument, uint32_t part, uint32_t worker) {
  upload *up = argument;
  const wisp_weights *w = up->weights;
  const wisp_model *m = up->model;
  uint32_t i = 0;
  for (; part >= shares_of(&w->blocks[i]); i++) part -= shares_of(&w->blocks[i]);
  const wisp_window *window = &w->blocks[i];
  const lane l = {up, worker, window, w->buffers[window->buffer]};
  const bool is_embedding = i < m->weight_blocks + w->embedding_parts;
  const contents c = i < m->weight_blocks ? block_contents(m, &m->blocks[i])
                                          : vocabulary_contents(m, is_embedding ? &m->embedding : &m->head, window);
  WISP_TRY(upload_share(&l, &c, (share){part, shares_of(window)}));
  const uint32_t done = atomic_fetch_add(&up->done, 1) + 1;
  if (up->progress && worker == 0) up->progress(up->progress_user, "upload", (float)done / (float)up->parts);
  return WISP_OK;
}

wisp_status wisp_weights_upload(wisp_weights *w, wvk_device *device, const wisp_model *m, wisp_crew *crew, uint32_t threads,
                                void (*progress)(void *user, const char *stage, float fraction), void *progress_user) {
  upload up = {.weights = w, .model = m, .progress = progress, .progress_user = progress_user};
  const uint32_t lanes = threads < WVK_UPLOAD_LANES ? threads : WVK_UPLOAD_LANES;
  atomic_init(&up.done, 0);
  w->device = device;
  for (uint32_t i = 0; i < w->buffer_count; i++)
    WISP_GPU_TRY(wvk_buffer_create(&w->buffers[i], device, "weights", w->sizes[i], WVK_MEMORY_DEVICE));
  for (uint32_t i = 0; i < w->window_count; i++) up.parts += shares_of(&w->blocks[i]);
  WISP_GPU_TRY(wvk_uploader_create(&w->uploader, device, lanes));
  up.uploader = w->uploader;
  up.scratch = wisp_host_alloc(w->host, lanes, SCRATCH_BYTES);
  if (!up.scratch) return wisp_fail_memory(w->host, "upload scratch", lanes * (uint64_t)SCRATCH_BYTES);
  wisp_status status = wisp_crew_run(crew, upload_part, &up, up.parts, lanes);
  if (status == WISP_OK) status = wisp_gpu_status(wvk_uploader_finish(w->uploader));
  wisp_host_free(w->host, up.scratch);
  return status;
}

void wisp_weights_free_staging(wisp_weights *w) {
  wvk_uploader_destroy(&w->uploader);
}

void wisp_weights_close(wisp_weights *weights) {
  wisp_weights_free_staging(weights);
  for (uint32_t i = 0; i < weights->buffer_count && weights->buffers; i++) wvk_buffer_destroy(&weights->buffers[i]);
  wisp_host_free(weights->host, weights->buffers);
  wisp_host_free(weights->host, weights->ranges);
  wisp_host_free(weights->host, weights->owned);
  *weights = (wisp_weights){0};
}
