/* SPDX-License-Identifier: Apache-2.0 */
#include "model/spm_model.h"

#include <string.h>

#include "base/little_endian.h"

enum { VARINT = 0, FIXED64 = 1, BYTES = 2, FIXED32 = 5 }; /* wire types */
enum { MAX_PIECES = 1 << 24 };

typedef struct message {
  const uint8_t *at, *end;
} message;

typedef struct field {
  uint32_t number, wire;
  uint64_t value; /* of VARINT, FIXED64, FIXED32 */
  message bytes;  /* of BYTES */
} field;

static bool next_varint(message *m, uint64_t *value) {
  *value = 0;
  for (unsigned shift = 0; shift < 64 && m->at < m->end; shift += 7) {
    const uint8_t byte = *m->at++;
    *value |= (uint64_t)(byte & 127) << shift;
    if (byte < 128) return true;
  }
  return false;
}

/* The next field of a message that is not at its end; false if damaged. */
static bool next_field(message *m, field *f) {
  uint64_t tag, size;
  if (!next_varint(m, &tag) || tag >> 3 > UINT32_MAX) return false;
  *f = (field){.number = (uint32_t)(tag >> 3), .wire = (uint32_t)(tag & 7)};
  switch (f->wire) {
  case VARINT:
    return next_varint(m, &f->value);
  case FIXED64:
  case FIXED32:
    size = f->wire == FIXED64 ? 8 : 4;
    if ((uint64_t)(m->end - m->at) < size) return false;
    f->value = size == 8 ? wisp_load_u64(m->at) : wisp_load_u32(m->at);
    m->at += size;
    return true;
  case BYTES:
    if (!next_varint(m, &size) || size > (uint64_t)(m->end - m->at)) return false;
    f->bytes = (message){m->at, m->at + size};
    m->at += size;
    return true;
  default:
    return false;
  }
}

static bool read_piece(message m, wisp_spm_piece *piece) {
  field f;
  *piece = (wisp_spm_piece){.text = {"", 0}, .type = 1};
  while (m.at < m.end) {
    if (!next_field(&m, &f)) return false;
    if (f.number == 1 && f.wire == BYTES)
      piece->text = (wisp_text){(const char *)f.bytes.at, (uint64_t)(f.bytes.end - f.bytes.at)};
    if (f.number == 2 && f.wire == FIXED32) piece->score = wisp_float_of_bits((uint32_t)f.value);
    if (f.number == 3 && f.wire == VARINT) piece->type = f.value >= 1 && f.value <= 6 ? (uint8_t)f.value : 0;
  }
  return piece->type != 0;
}

static bool read_trainer(message m, wisp_spm_model *model) {
  field f;
  while (m.at < m.end) {
    if (!next_field(&m, &f)) return false;
    if (f.number == 3 && f.wire == VARINT && f.value >= 1 && f.value <= 4) model->kind = (wisp_spm_kind)f.value;
  }
  return true;
}

static bool read_normalizer(message m, wisp_spm_model *model) {
  bool tables = false, trims = true;
  field f;
  while (m.at < m.end) {
    if (!next_field(&m, &f)) return false;
    if (f.number == 2 && f.wire == BYTES) tables = f.bytes.at < f.bytes.end;
    if (f.number == 3 && f.wire == VARINT) model->space_prefix = f.value != 0;
    if (f.number == 4 && f.wire == VARINT) trims = f.value != 0;
  }
  model->normalizes = tables || trims;
  return true;
}

static bool count_pieces(message m, uint32_t *count) {
  field f;
  *count = 0;
  while (m.at < m.end) {
    if (!next_field(&m, &f) || *count == MAX_PIECES) return false;
    *count += f.number == 1 && f.wire == BYTES;
  }
  return *count > 0;
}

static bool read_all(message m, wisp_spm_model *model) {
  field f;
  uint32_t piece = 0;
  while (m.at < m.end) {
    if (!next_field(&m, &f)) return false;
    if (f.wire != BYTES) continue;
    if (f.number == 1 && !read_piece(f.bytes, &model->pieces[piece++])) return false;
    if (f.number == 2 && !read_trainer(f.bytes, model)) return false;
    if (f.number == 3 && !read_normalizer(f.bytes, model)) return false;
  }
  return true;
}

wisp_status wisp_spm_model_read(wisp_spm_model *model, const wisp_host *host, const char *file, const uint8_t *bytes,
                                size_t size) {
  const message whole = {bytes, bytes + size};
  *model = (wisp_spm_model){.kind = WISP_SPM_UNIGRAM, .space_prefix = true, .normalizes = true}; /* the format's defaults */
  if (!count_pieces(whole, &model->count))
    return wisp_fail(host, WISP_ERROR_FORMAT, "%s: not a SentencePiece model, or damaged", file);
  model->pieces = wisp_host_alloc(host, model->count, sizeof *model->pieces);
  if (!model->pieces) return wisp_fail_memory(host, file, (uint64_t)model->count * sizeof *model->pieces);
  if (read_all(whole, model)) return WISP_OK;
  wisp_spm_model_free(model, host);
  return wisp_fail(host, WISP_ERROR_FORMAT, "%s: damaged SentencePiece model", file);
}

void wisp_spm_model_free(wisp_spm_model *model, const wisp_host *host) {
  wisp_host_free(host, model->pieces);
  *model = (wisp_spm_model){0};
}
