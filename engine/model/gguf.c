/* SPDX-License-Identifier: Apache-2.0
 * Reading and checking of the container; look-ups are in gguf_value.c. The file is untrusted: a count is checked against the
 * bytes that are left before anything is allocated for it, a length before anything is read, and each failure names its key or
 * tensor. */
#include "model/gguf.h"

#include <inttypes.h>
#include <string.h>

#include "base/little_endian.h"
#include "model/gguf_private.h"

enum {
  MAX_COUNT = 65536,      /* keys, tensors */
  MAX_KEY = 65535,        /* bytes; the format's own limit */
  MAX_TENSOR_NAME = 64,   /* likewise */
  DEFAULT_ALIGNMENT = 32, /* of tensor data */
  MIN_ALIGNMENT = 8,
  MAX_ALIGNMENT = 65536,
  MIN_ENTRY_BYTES = 8 + 1 + 4 + 1,          /* key length, key, type, value */
  MIN_TENSOR_BYTES = 8 + 1 + 4 + 8 + 4 + 8, /* name length, name, dimensions, one of them, type, offset */
};

typedef struct reader {
  const wisp_host *host;
  const char *file;
  const uint8_t *bytes;
  uint64_t size, at; /* at <= size */
  wisp_text subject; /* what is being read, for messages */
} reader;

static wisp_text text_of(const char *text) {
  return (wisp_text){text, strlen(text)};
}

static wisp_status take(reader *r, uint64_t size, const uint8_t **bytes) {
  *bytes = r->bytes + r->at;
  if (size > r->size - r->at) {
    return wisp_fail(r->host, WISP_ERROR_FORMAT,
                     "%s: damaged or truncated: '%.*s' needs %" PRIu64 " bytes at byte %" PRIu64 ", but the file has %" PRIu64,
                     r->file, WISP_TEXT_ARGS(r->subject), size, r->at, r->size);
  }
  r->at += size;
  return WISP_OK;
}

static wisp_status take_u32(reader *r, uint32_t *value) {
  const uint8_t *bytes;
  WISP_TRY(take(r, 4, &bytes));
  *value = wisp_load_u32(bytes);
  return WISP_OK;
}

static wisp_status take_u64(reader *r, uint64_t *value) {
  const uint8_t *bytes;
  WISP_TRY(take(r, 8, &bytes));
  *value = wisp_load_u64(bytes);
  return WISP_OK;
}

static wisp_status take_text(reader *r, wisp_text *text) {
  const uint8_t *bytes;
  uint64_t size;
  WISP_TRY(take_u64(r, &size));
  WISP_TRY(take(r, size, &bytes));
  *text = (wisp_text){(const char *)bytes, size};
  return WISP_OK;
}

/* A key or a tensor name; from here on it is the subject. */
static wisp_status take_name(reader *r, const char *kind, uint64_t limit, wisp_text *name) {
  r->subject = text_of(kind);
  WISP_TRY(take_text(r, name));
  if (name->size == 0 || name->size > limit) {
    return wisp_fail(r->host, WISP_ERROR_FORMAT, "%s: %s of %" PRIu64 " bytes before byte %" PRIu64 ", expected 1 to %" PRIu64,
                     r->file, kind, name->size, r->at, limit);
  }
  r->subject = *name;
  return WISP_OK;
}

static wisp_status take_count(reader *r, const char *kind, uint64_t bytes_each, uint64_t *count) {
  WISP_TRY(take_u64(r, count));
  uint64_t room = (r->size - r->at) / bytes_each;
  if (*count > MAX_COUNT || *count > room) {
    return wisp_fail(r->host, WISP_ERROR_FORMAT,
                     "%s: damaged or truncated: claims %" PRIu64 " %s, at most %" PRIu64 " can be there", r->file, *count, kind,
                     room < MAX_COUNT ? room : MAX_COUNT);
  }
  return WISP_OK;
}

static bool multiply(uint64_t a, uint64_t b, uint64_t *product) {
  if (b && a > UINT64_MAX / b) return false;
  *product = a * b;
  return true;
}

/* ---- Header and metadata ------------------------------------------------------------------------------------------- */

static wisp_status read_header(reader *r, wisp_gguf *gguf) {
  const uint8_t *magic;
  uint32_t version;
  r->subject = text_of("header");
  WISP_TRY(take(r, 4, &magic));
  if (memcmp(magic, "GGUF", 4) != 0) {
    return wisp_fail(r->host, WISP_ERROR_FORMAT, "%s: not a GGUF file: it starts with %02x %02x %02x %02x, expected \"GGUF\"",
                     r->file, magic[0], magic[1], magic[2], magic[3]);
  }
  WISP_TRY(take_u32(r, &version));
  if (version != 3) {
    if (version & 0xffff) {
      return wisp_fail(r->host, WISP_ERROR_UNSUPPORTED, "%s: GGUF version %" PRIu32 ", expected 3; convert the model again",
                       r->file, version);
    }
    return wisp_fail(r->host, WISP_ERROR_UNSUPPORTED,
                     "%s: big-endian GGUF (version bytes %08" PRIx32 "), expected little-endian", r->file, version);
  }
  WISP_TRY(take_count(r, "tensors", MIN_TENSOR_BYTES, &gguf->tensor_count));
  return take_count(r, "keys", MIN_ENTRY_BYTES, &gguf->entry_count);
}

static wisp_status take_type(reader *r, wisp_gguf_type *type) {
  uint32_t number;
  WISP_TRY(take_u32(r, &number));
  if (number >= sizeof wisp_gguf_type_bytes) {
    return wisp_fail(r->host, WISP_ERROR_FORMAT, "%s: key '%.*s' has unknown value type %" PRIu32 ", expected 0 to 12", r->file,
                     WISP_TEXT_ARGS(r->subject), number);
  }
  *type = (wisp_gguf_type)number;
  return WISP_OK;
}

static wisp_status read_entry(reader *r, wisp_gguf_entry *entry) {
  WISP_TRY(take_name(r, "key", MAX_KEY, &entry->key));
  WISP_TRY(take_type(r, &entry->type));
  entry->element = entry->type;
  entry->count = 1;
  if (entry->type == WISP_GGUF_ARRAY) {
    WISP_TRY(take_type(r, &entry->element));
    WISP_TRY(take_u64(r, &entry->count));
    if (entry->element == WISP_GGUF_ARRAY) {
      return wisp_fail(r->host, WISP_ERROR_UNSUPPORTED, "%s: key '%.*s' is an array of arrays", r->file,
                       WISP_TEXT_ARGS(entry->key));
    }
  }
  entry->payload = r->bytes + r->at;
  if (entry->element == WISP_GGUF_STRING) {
    wisp_text text;
    for (uint64_t i = 0; i < entry->count; i++) WISP_TRY(take_text(r, &text));
    return WISP_OK;
  }
  uint64_t size;
  const uint8_t *payload;
  if (!multiply(entry->count, wisp_gguf_type_bytes[entry->element], &size)) size = UINT64_MAX;
  return take(r, size, &payload);
}

/* The strings of all entries, checked before, as one table. */
static wisp_status collect_strings(wisp_gguf *gguf) {
  uint64_t count = 0;
  for (uint64_t i = 0; i < gguf->entry_count; i++) {
    if (gguf->entries[i].element == WISP_GGUF_STRING) count += gguf->entries[i].count;
  }
  wisp_text *string = gguf->strings = wisp_host_alloc(gguf->host, (size_t)count, sizeof *string);
  if (!string) return wisp_fail_memory(gguf->host, "the file's strings", count * sizeof *string);
  for (uint64_t i = 0; i < gguf->entry_count; i++) {
    wisp_gguf_entry *entry = &gguf->entries[i];
    if (entry->element != WISP_GGUF_STRING) continue;
    entry->strings = string;
    const uint8_t *at = entry->payload;
    for (uint64_t k = 0; k < entry->count; k++, string++) {
      *string = (wisp_text){(const char *)at + 8, wisp_load_u64(at)};
      at += 8 + string->size;
    }
  }
  return WISP_OK;
}

/* ---- Tensors ------------------------------------------------------------------------------------------------------- */

static wisp_status read_tensor(reader *r, wisp_gguf_tensor *tensor) {
  WISP_TRY(take_name(r, "tensor name", MAX_TENSOR_NAME, &tensor->name));
  WISP_TRY(take_u32(r, &tensor->dimensions));
  if (tensor->dimensions < 1 || tensor->dimensions > 4) {
    return wisp_fail(r->host, WISP_ERROR_FORMAT, "%s: tensor '%.*s' has %" PRIu32 " dimensions, expected 1 to 4", r->file,
                     WISP_TEXT_ARGS(tensor->name), tensor->dimensions);
  }
  uint64_t weights = 1;
  for (uint32_t i = 0; i < 4; i++) {
    tensor->shape[i] = 1;
    if (i < tensor->dimensions) WISP_TRY(take_u64(r, &tensor->shape[i]));
    if (tensor->shape[i] == 0 || !multiply(weights, tensor->shape[i], &weights)) {
      return wisp_fail(r->host, WISP_ERROR_FORMAT,
                       "%s: tensor '%.*s' has an impossible shape: dimension %" PRIu32 " is %" PRIu64, r->file,
                       WISP_TEXT_ARGS(tensor->name), i, tensor->shape[i]);
    }
  }
  uint32_t type;
  WISP_TRY(take_u32(r, &type));
  tensor->type = wisp_dtype_find(type);
  if (!tensor->type) {
    return wisp_fail(r->host, WISP_ERROR_UNSUPPORTED,
                     "%s: tensor '%.*s' has type %" PRIu32
                     ", which Wisp does not read; use f32, f16, bf16, q4_0, q4_1, q5_0, q5_1, q8_0, q4_k, q5_k or q6_k",
                     r->file, WISP_TEXT_ARGS(tensor->name), type);
  }
  if (tensor->shape[0] % tensor->type->block_weights) {
    return wisp_fail(r->host, WISP_ERROR_FORMAT,
                     "%s: tensor '%.*s' has rows of %" PRIu64 ", not a multiple of the %" PRIu32 " of %s", r->file,
                     WISP_TEXT_ARGS(tensor->name), tensor->shape[0], tensor->type->block_weights, tensor->type->name);
  }
  if (!multiply(weights / tensor->type->block_weights, tensor->type->block_bytes, &tensor->bytes)) tensor->bytes = UINT64_MAX;
  return take_u64(r, &tensor->offset);
}

/* Finds the tensor's data in the section that starts at byte start; start may lie behind the end of the file. */
static wisp_status place_tensor(const reader *r, wisp_gguf_tensor *tensor, uint64_t start, uint32_t alignment) {
  if (tensor->offset % alignment) {
    return wisp_fail(r->host, WISP_ERROR_FORMAT, "%s: tensor '%.*s' is misaligned: offset %" PRIu64 ", alignment %" PRIu32,
                     r->file, WISP_TEXT_ARGS(tensor->name), tensor->offset, alignment);
  }
  uint64_t room = start < r->size ? r->size - start : 0;
  if (tensor->offset > room || tensor->bytes > room - tensor->offset) {
    return wisp_fail(r->host, WISP_ERROR_FORMAT,
                     "%s: damaged or truncated: tensor '%.*s' needs %" PRIu64 " bytes at offset %" PRIu64
                     " of the data section, which has %" PRIu64,
                     r->file, WISP_TEXT_ARGS(tensor->name), tensor->bytes, tensor->offset, room);
  }
  tensor->data = r->bytes + start + tensor->offset;
  return WISP_OK;
}

/* ---- Index: pointers to entries and tensors, sorted ------------------------------------------------------------------- */

typedef int (*compare_fn)(const void *, const void *);

/* Heap sort: no recursion, no memory of its own, and no input makes it slow. */
static void sort(const void **items, uint64_t count, compare_fn compare) {
  for (uint64_t left = count / 2, end = count; end > 1;) {
    const void *item;
    if (left > 0) {
      item = items[--left];
    } else {
      item = items[--end];
      items[end] = items[0];
    }
    uint64_t hole = left;
    for (uint64_t child; (child = 2 * hole + 1) < end; hole = child) {
      if (child + 1 < end && compare(items[child], items[child + 1]) < 0) child++;
      if (compare(item, items[child]) >= 0) break;
      items[hole] = items[child];
    }
    items[hole] = item;
  }
}

static int compare_named(const void *a, const void *b) { /* entries and tensors begin with their name */
  return wisp_text_compare(*(const wisp_text *)a, *(const wisp_text *)b);
}

static int compare_offset(const void *a, const void *b) {
  uint64_t left = ((const wisp_gguf_tensor *)a)->offset, right = ((const wisp_gguf_tensor *)b)->offset;
  return (left > right) - (left < right);
}

static wisp_status sort_names(const reader *r, const char *kind, const void **items, uint64_t count) {
  sort(items, count, compare_named);
  for (uint64_t i = 1; i < count; i++) {
    if (compare_named(items[i - 1], items[i]) == 0) {
      return wisp_fail(r->host, WISP_ERROR_FORMAT, "%s: %s '%.*s' appears twice", r->file, kind,
                       WISP_TEXT_ARGS(*(const wisp_text *)items[i]));
    }
  }
  return WISP_OK;
}

static wisp_status check_overlap(const reader *r, const void **tensors, uint64_t count) {
  sort(tensors, count, compare_offset);
  for (uint64_t i = 1; i < count; i++) {
    const wisp_gguf_tensor *before = tensors[i - 1], *tensor = tensors[i];
    if (tensor->offset - before->offset < before->bytes) {
      return wisp_fail(r->host, WISP_ERROR_FORMAT, "%s: tensors '%.*s' and '%.*s' overlap at offset %" PRIu64, r->file,
                       WISP_TEXT_ARGS(before->name), WISP_TEXT_ARGS(tensor->name), tensor->offset);
    }
  }
  return WISP_OK;
}

/* ---- The whole ------------------------------------------------------------------------------------------------------ */

static wisp_status read_metadata(reader *r, wisp_gguf *gguf) {
  gguf->entries = wisp_host_alloc(r->host, (size_t)gguf->entry_count, sizeof *gguf->entries);
  if (!gguf->entries) return wisp_fail_memory(r->host, "the file's metadata", gguf->entry_count * sizeof *gguf->entries);
  for (uint64_t i = 0; i < gguf->entry_count; i++) {
    WISP_TRY(read_entry(r, &gguf->entries[i]));
    gguf->index[i] = &gguf->entries[i];
  }
  WISP_TRY(collect_strings(gguf));
  return sort_names(r, "key", gguf->index, gguf->entry_count);
}

static wisp_status read_tensors(reader *r, wisp_gguf *gguf) {
  uint32_t alignment = DEFAULT_ALIGNMENT;
  WISP_TRY(wisp_gguf_u32(gguf, "general.alignment", false, &alignment));
  if (alignment < MIN_ALIGNMENT || alignment > MAX_ALIGNMENT || (alignment & (alignment - 1))) {
    return wisp_fail(r->host, WISP_ERROR_FORMAT, "%s: general.alignment is %" PRIu32 ", expected a power of two from %d to %d",
                     r->file, alignment, MIN_ALIGNMENT, MAX_ALIGNMENT);
  }
  gguf->tensors = wisp_host_alloc(r->host, (size_t)gguf->tensor_count, sizeof *gguf->tensors);
  if (!gguf->tensors) return wisp_fail_memory(r->host, "the tensor table", gguf->tensor_count * sizeof *gguf->tensors);
  for (uint64_t i = 0; i < gguf->tensor_count; i++) WISP_TRY(read_tensor(r, &gguf->tensors[i]));

  uint64_t start = (r->at + alignment - 1) / alignment * alignment;
  const void **sorted = gguf->index + gguf->entry_count;
  for (uint64_t i = 0; i < gguf->tensor_count; i++) {
    WISP_TRY(place_tensor(r, &gguf->tensors[i], start, alignment));
    sorted[i] = &gguf->tensors[i];
  }
  WISP_TRY(check_overlap(r, sorted, gguf->tensor_count));
  return sort_names(r, "tensor", sorted, gguf->tensor_count);
}

static wisp_status read_all(reader *r, wisp_gguf *gguf) {
  WISP_TRY(read_header(r, gguf));
  uint64_t count = gguf->entry_count + gguf->tensor_count;
  gguf->index = wisp_host_alloc(r->host, (size_t)count, sizeof *gguf->index);
  if (!gguf->index) return wisp_fail_memory(r->host, "the index of keys and tensors", count * sizeof *gguf->index);
  WISP_TRY(read_metadata(r, gguf));
  return read_tensors(r, gguf);
}

wisp_status wisp_gguf_open(wisp_gguf *gguf, const wisp_host *host, const wisp_bytes *bytes) {
  *gguf = (wisp_gguf){.host = host, .name = bytes->name};
  reader r = {.host = host, .file = bytes->name, .bytes = bytes->data, .size = bytes->size};
  wisp_status status = read_all(&r, gguf);
  if (status != WISP_OK) wisp_gguf_close(gguf);
  return status;
}

wisp_status wisp_gguf_set_tensors(wisp_gguf *gguf, wisp_gguf_tensor *tensors, uint64_t count) {
  wisp_host_free(gguf->host, gguf->tensors);
  gguf->tensors = tensors;
  gguf->tensor_count = 0;
  const void **index = wisp_host_resize(gguf->host, gguf->index, (size_t)(gguf->entry_count + count), sizeof *index);
  if (!index) return wisp_fail_memory(gguf->host, "the index of keys and tensors", count * sizeof *index);
  gguf->index = index;
  gguf->tensor_count = count;
  for (uint64_t i = 0; i < count; i++) index[gguf->entry_count + i] = &tensors[i];
  return sort_names(&(reader){.host = gguf->host, .file = gguf->name}, "tensor", index + gguf->entry_count, count);
}

void wisp_gguf_close(wisp_gguf *gguf) {
  wisp_host_free(gguf->host, gguf->entries);
  wisp_host_free(gguf->host, gguf->tensors);
  wisp_host_free(gguf->host, gguf->strings);
  wisp_host_free(gguf->host, gguf->index);
  *gguf = (wisp_gguf){0};
}
