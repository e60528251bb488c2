/* SPDX-License-Identifier: Apache-2.0
 * What torch.save writes since version 1.6: a zip archive NAME/data.pkl, NAME/data/KEY for each storage, NAME/byteorder, all
 * members stored as they are. Only the central directory is believed, and a compressed member is refused: nothing unpacks to
 * more than the file holds. Format: PKWARE APPNOTE 6.3. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/little_endian.h"
#include "model/checkpoint.h"
#include "model/gguf_private.h"
#include "model/pickle.h"

enum {
  LOCAL_SIGNATURE = 0x04034b50,
  CENTRAL_SIGNATURE = 0x02014b50,
  END_SIGNATURE = 0x06054b50,
  END64_SIGNATURE = 0x06064b50,
  LOCATOR64_SIGNATURE = 0x07064b50,
  LOCAL_BYTES = 30,
  CENTRAL_BYTES = 46,
  END_BYTES = 22,
  END64_BYTES = 56,
  LOCATOR64_BYTES = 20,
  EXTRA64 = 0x0001, /* id of the extra field with 64-bit sizes */
  MAX_MEMBERS = 200000,
  MAX_PICKLE = 64 << 20, /* bytes; a real one has some hundred a tensor */
  MAX_SHARING = 4,       /* tensors may share storages, but not so that copies of them explode */
};

typedef struct member {
  wisp_text name;
  const uint8_t *data;
  uint64_t size;
} member;

typedef struct archive {
  const wisp_host *host;
  const char *file;
  const uint8_t *bytes;
  uint64_t size;
  uint64_t directory, directory_size, count; /* central directory: offset, bytes, members */
  member *members;                           /* [count] sorted by name */
} archive;

static wisp_status damaged(const archive *a, const char *what) {
  return wisp_fail(a->host, WISP_ERROR_FORMAT, "%s: damaged or truncated zip archive: %s", a->file, what);
}

static bool inside(const archive *a, uint64_t offset, uint64_t size) {
  return offset <= a->size && size <= a->size - offset;
}

/* ---- Central directory ------------------------------------------------------------------------------------------------- */

/* end: offset of the end record. Where it says "see the 64-bit one", that one stands before it, behind its locator. */
static wisp_status read_end64(archive *a, uint64_t end) {
  if (end < LOCATOR64_BYTES || wisp_load_u32(a->bytes + end - LOCATOR64_BYTES) != LOCATOR64_SIGNATURE) return WISP_OK;
  const uint64_t at = wisp_load_u64(a->bytes + end - LOCATOR64_BYTES + 8);
  if (!inside(a, at, END64_BYTES) || wisp_load_u32(a->bytes + at) != END64_SIGNATURE)
    return damaged(a, "no zip64 end record where it is said to be");
  a->count = wisp_load_u64(a->bytes + at + 32);
  a->directory_size = wisp_load_u64(a->bytes + at + 40);
  a->directory = wisp_load_u64(a->bytes + at + 48);
  return WISP_OK;
}

static wisp_status find_directory(archive *a) {
  if (a->size < END_BYTES) return damaged(a, "it is too short");
  /* The end record is last but for a comment of at most 65535 bytes. */
  const uint64_t last = a->size - END_BYTES, first = last > UINT16_MAX ? last - UINT16_MAX : 0;
  for (uint64_t at = last + 1; at > first; at--) {
    const uint8_t *end = a->bytes + at - 1;
    if (wisp_load_u32(end) != END_SIGNATURE || (uint64_t)wisp_load_u16(end + 20) != last - (at - 1)) continue;
    a->count = wisp_load_u16(end + 10);
    a->directory_size = wisp_load_u32(end + 12);
    a->directory = wisp_load_u32(end + 16);
    WISP_TRY(read_end64(a, at - 1));
    if (!inside(a, a->directory, a->directory_size)) return damaged(a, "the directory is not in the file");
    if (a->count > MAX_MEMBERS || a->count > a->directory_size / CENTRAL_BYTES)
      return damaged(a, "an impossible number of members");
    return WISP_OK;
  }
  return damaged(a, "no end record");
}

/* Sizes of 4 GiB and more are in an extra field, in this order, only those that did not fit. */
static bool read_extra64(const uint8_t *extra, uint64_t size, uint64_t *values[3]) {
  for (uint64_t at = 0; size - at >= 4; at += 4 + wisp_load_u16(extra + at + 2)) {
    const uint64_t field = wisp_load_u16(extra + at + 2);
    if (field > size - at - 4) return false;
    if (wisp_load_u16(extra + at) != EXTRA64) continue;
    for (uint64_t i = 0, from = 0; i < 3; i++) {
      if (*values[i] != UINT32_MAX) continue;
      if (field - from < 8) return false;
      *values[i] = wisp_load_u64(extra + at + 4 + from);
      from += 8;
    }
  }
  return true;
}

/* The directory's entry at *at; *at is moved behind it. */
static wisp_status read_member(const archive *a, uint64_t *at, member *m) {
  const uint64_t end = a->directory + a->directory_size;
  const uint8_t *entry = a->bytes + *at;
  if (end - *at < CENTRAL_BYTES || wisp_load_u32(entry) != CENTRAL_SIGNATURE) return damaged(a, "a directory entry is none");
  const uint64_t name = wisp_load_u16(entry + 28), extra = wisp_load_u16(entry + 30), comment = wisp_load_u16(entry + 32);
  if (name + extra + comment > end - *at - CENTRAL_BYTES) return damaged(a, "a directory entry is too long");
  *at += CENTRAL_BYTES + name + extra + comment;
  m->name = (wisp_text){(const char *)entry + CENTRAL_BYTES, name};
  m->size = wisp_load_u32(entry + 24);
  uint64_t packed = wisp_load_u32(entry + 20), local = wisp_load_u32(entry + 42);
  if (!read_extra64(entry + CENTRAL_BYTES + name, extra, (uint64_t *[3]){&m->size, &packed, &local}))
    return damaged(a, "a directory entry has a broken extra field");
  if (wisp_load_u16(entry + 10) != 0 || packed != m->size || wisp_load_u16(entry + 8) & 1)
    return wisp_fail(a->host, WISP_ERROR_UNSUPPORTED,
                     "%s: member '%.*s' is compressed or encrypted: refused, torch.save stores members as they are", a->file,
                     WISP_TEXT_ARGS(m->name));
  if (!inside(a, local, LOCAL_BYTES) || wisp_load_u32(a->bytes + local) != LOCAL_SIGNATURE)
    return damaged(a, "a member is not where it is said to be");
  const uint64_t data = local + LOCAL_BYTES + wisp_load_u16(a->bytes + local + 26) + wisp_load_u16(a->bytes + local + 28);
  if (!inside(a, data, m->size)) return damaged(a, "a member is not in the file");
  m->data = a->bytes + data;
  return WISP_OK;
}

static int compare_members(const void *a, const void *b) {
  return wisp_text_compare(((const member *)a)->name, ((const member *)b)->name);
}

static wisp_status read_directory(archive *a) {
  WISP_TRY(find_directory(a));
  a->members = wisp_host_alloc(a->host, (size_t)a->count, sizeof *a->members);
  if (!a->members) return wisp_fail_memory(a->host, a->file, a->count * sizeof *a->members);
  uint64_t at = a->directory;
  for (uint64_t i = 0; i < a->count; i++) WISP_TRY(read_member(a, &at, &a->members[i]));
  qsort(a->members, (size_t)a->count, sizeof *a->members, compare_members);
  return WISP_OK;
}

/* Member "FOLDER PART NAME" without the spaces, or NULL. */
static const member *find_member(const archive *a, wisp_text folder, const char *part, wisp_text name) {
  char path[512];
  const size_t part_size = strlen(part);
  if (folder.size > sizeof path || name.size > sizeof path || folder.size + part_size + name.size > sizeof path) return NULL;
  const member wanted = {.name = {path, folder.size + part_size + name.size}};
  memcpy(path, folder.bytes, (size_t)folder.size);
  memcpy(path + folder.size, part, part_size);
  if (name.size) memcpy(path + folder.size + part_size, name.bytes, (size_t)name.size);
  return bsearch(&wanted, a->members, (size_t)a->count, sizeof wanted, compare_members);
}

/* ---- Tensors ----------------------------------------------------------------------------------------------------------- */

static bool ends_with(wisp_text text, const char *end) {
  const size_t size = strlen(end);
  return text.size >= size && !memcmp(text.bytes + text.size - size, end, size);
}

static wisp_status add_tensor(wisp_checkpoint *c, const archive *a, const wisp_pickled *pickled, const member *storage,
                              uint64_t *total) {
  if (!storage)
    return wisp_fail(a->host, WISP_ERROR_FORMAT, "%s: tensor '%.*s': there is no member data/%.*s", a->file,
                     WISP_TEXT_ARGS(pickled->name), WISP_TEXT_ARGS(pickled->storage));
  uint64_t weights;
  const uint64_t room = storage->size / pickled->type->block_bytes;
  if (!wisp_stored_weights(pickled->shape, pickled->dimensions, &weights) || pickled->storage_weights > room ||
      pickled->offset > room || weights > room - pickled->offset)
    return wisp_fail(a->host, WISP_ERROR_FORMAT,
                     "%s: tensor '%.*s' is empty, or does not fit into its storage data/%.*s of %" PRIu64 " bytes", a->file,
                     WISP_TEXT_ARGS(pickled->name), WISP_TEXT_ARGS(pickled->storage), storage->size);
  *total += weights * pickled->type->block_bytes;
  if (*total > MAX_SHARING * a->size)
    return wisp_fail(a->host, WISP_ERROR_FORMAT, "%s: the tensors are together more than %d times the file", a->file,
                     MAX_SHARING);
  wisp_stored stored = {.name = pickled->name,
                        .type = pickled->type,
                        .dimensions = pickled->dimensions,
                        .data = storage->data + pickled->offset * pickled->type->block_bytes,
                        .file = a->file};
  memcpy(stored.shape, pickled->shape, sizeof stored.shape);
  return wisp_checkpoint_add(c, &stored);
}

static wisp_status read_archive(wisp_checkpoint *c, archive *a, wisp_arena *arena) {
  static const char pickle_name[] = "/data.pkl";
  WISP_TRY(read_directory(a));
  const member *pickle = NULL;
  for (uint64_t i = 0; i < a->count && !pickle; i++) {
    if (ends_with(a->members[i].name, pickle_name)) pickle = &a->members[i];
  }
  if (!pickle) return damaged(a, "no member data.pkl: not written by torch.save");
  if (pickle->size > MAX_PICKLE) return damaged(a, "data.pkl is too large");
  const wisp_text folder = {pickle->name.bytes, pickle->name.size - strlen(pickle_name)}, none = {0};
  const member *order = find_member(a, folder, "/byteorder", none);
  if (order && !(order->size == 6 && !memcmp(order->data, "little", 6)))
    return wisp_fail(a->host, WISP_ERROR_UNSUPPORTED, "%s: its byteorder is not little", a->file);

  wisp_pickled_dict dict;
  uint64_t total = 0;
  WISP_TRY(wisp_pickle_read(&dict, arena, a->file, pickle->data, (size_t)pickle->size));
  for (size_t i = 0; i < dict.count; i++) {
    const member *storage = find_member(a, folder, "/data/", dict.tensors[i].storage);
    WISP_TRY(add_tensor(c, a, &dict.tensors[i], storage, &total));
  }
  return WISP_OK;
}

wisp_status wisp_torch_read(wisp_checkpoint *checkpoint, const wisp_bytes *file) {
  archive a = {.host = checkpoint->host, .file = file->name, .bytes = file->data, .size = file->size};
  wisp_arena arena = {.host = checkpoint->host};
  if (file->size >= 4 && wisp_load_u32(file->data) != LOCAL_SIGNATURE)
    return wisp_fail(a.host, WISP_ERROR_UNSUPPORTED,
                     "%s: not a zip archive as torch.save writes since version 1.6; save the model again, or as safetensors",
                     file->name);
  wisp_status status = read_archive(checkpoint, &a, &arena);
  wisp_arena_free(&arena);
  wisp_host_free(a.host, a.members);
  return status;
}
