/* SPDX-License-Identifier: Apache-2.0 */
#include "unit/checkpoint_builder.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void blob_free(blob *b) {
  free(b->data);
  *b = (blob){0};
}

void blob_add(blob *b, const void *bytes, size_t size) {
  if (b->size + size > b->capacity) {
    b->capacity = 2 * (b->size + size) + 64;
    b->data = realloc(b->data, b->capacity);
    if (!b->data) abort();
  }
  if (size) memcpy(b->data + b->size, bytes, size);
  b->size += size;
}

void blob_text(blob *b, const char *text) {
  blob_add(b, text, strlen(text));
}

void blob_number(blob *b, uint64_t number, unsigned size) {
  for (unsigned i = 0; i < size; i++) blob_add(b, &(uint8_t){i < 8 ? (uint8_t)(number >> 8 * i) : 0}, 1);
}

blob safetensors_blob(const char *header, size_t data_bytes) {
  blob b = {0};
  blob_number(&b, strlen(header), 8);
  blob_text(&b, header);
  for (size_t i = 0; i < data_bytes; i++) blob_number(&b, i & 127, 1);
  return b;
}

/* ---- zip --------------------------------------------------------------------------------------------------------------- */

void zip_add(zip_builder *zip, const char *name, const void *bytes, size_t size) {
  const size_t at = zip->file.size;
  blob fields = {0}; /* what local header and directory entry share */
  blob_number(&fields, 20, 2);
  blob_number(&fields, 0, 2);
  blob_number(&fields, zip->method, 2);
  blob_number(&fields, 0, 8); /* time, date, checksum: not looked at */
  blob_number(&fields, size, 4);
  blob_number(&fields, size, 4);
  blob_number(&fields, strlen(name), 2);
  blob_number(&fields, 0, 2); /* no extra field */
  blob_number(&zip->file, 0x04034b50, 4);
  blob_add(&zip->file, fields.data, fields.size);
  blob_text(&zip->file, name);
  blob_add(&zip->file, bytes, size);
  blob_number(&zip->directory, 0x02014b50, 4);
  blob_number(&zip->directory, 20, 2);
  blob_add(&zip->directory, fields.data, fields.size);
  blob_number(&zip->directory, 0, 2 + 2 + 2 + 4); /* comment, disk, attributes */
  blob_number(&zip->directory, at, 4);
  blob_text(&zip->directory, name);
  blob_free(&fields);
  zip->count++;
}

void zip_finish(zip_builder *zip) {
  const size_t at = zip->file.size;
  blob_add(&zip->file, zip->directory.data, zip->directory.size);
  blob_number(&zip->file, 0x06054b50, 4);
  blob_number(&zip->file, 0, 4);
  blob_number(&zip->file, zip->count, 2);
  blob_number(&zip->file, zip->count, 2);
  blob_number(&zip->file, zip->directory.size, 4);
  blob_number(&zip->file, at, 4);
  blob_number(&zip->file, 0, 2);
}

void zip_free(zip_builder *zip) {
  blob_free(&zip->file);
  blob_free(&zip->directory);
}

/* ---- pickle ------------------------------------------------------------------------------------------------------------ */

static void put_string(blob *b, const char *text) {
  blob_text(b, "X");
  blob_number(b, strlen(text), 4);
  blob_text(b, text);
}

void pickle_begin(blob *b) {
  blob_text(b, "\x80\x02"
               "ccollections\nOrderedDict\n)R(");
}

static void put_shape(blob *b, const uint8_t *numbers, unsigned count) {
  blob_text(b, "(");
  for (unsigned i = 0; i < count; i++) {
    blob_text(b, "K");
    blob_number(b, numbers[i], 1);
  }
  blob_text(b, "t");
}

void pickle_tensor(blob *b, const char *name, const char *storage_class, const char *key, const uint8_t *shape,
                   unsigned dimensions) {
  uint8_t strides[8] = {0};
  unsigned count = 1;
  for (unsigned i = dimensions; i > 0; i--) {
    strides[i - 1] = (uint8_t)count;
    count *= shape[i - 1];
  }
  put_string(b, name);
  blob_text(b, "ctorch._utils\n_rebuild_tensor_v2\n((");
  put_string(b, "storage");
  blob_text(b, "ctorch\n");
  blob_text(b, storage_class);
  blob_text(b, "\n");
  put_string(b, key);
  put_string(b, "cpu");
  blob_text(b, "J");
  blob_number(b, count, 4);
  blob_text(b, "tQ");
  blob_text(b, "K");
  blob_number(b, 0, 1);
  put_shape(b, shape, dimensions);
  put_shape(b, strides, dimensions);
  blob_text(b, "\x89"
               "ccollections\nOrderedDict\n)RtR");
}

void pickle_end(blob *b) {
  blob_text(b, "u.");
}

blob torch_blob(void) {
  blob pickle = {0};
  pickle_begin(&pickle);
  pickle_tensor(&pickle, "a", "FloatStorage", "0", (uint8_t[]){2, 3}, 2);
  pickle_tensor(&pickle, "b", "FloatStorage", "1", (uint8_t[]){4}, 1);
  pickle_end(&pickle);
  zip_builder zip = {0};
  const float a[6] = {0, 1, 2, 3, 4, 5}, b[4] = {10, 11, 12, 13};
  zip_add(&zip, "archive/data.pkl", pickle.data, pickle.size);
  zip_add(&zip, "archive/byteorder", "little", 6);
  zip_add(&zip, "archive/data/0", a, sizeof a);
  zip_add(&zip, "archive/data/1", b, sizeof b);
  zip_finish(&zip);
  blob_free(&pickle);
  blob_free(&zip.directory);
  return zip.file;
}

/* ---- folders ----------------------------------------------------------------------------------------------------------- */

folder folder_make(void) {
  folder f;
  const char *base = getenv("TMPDIR");
  snprintf(f.path, sizeof f.path, "%s/wisp-hf-XXXXXX", base && *base ? base : "/tmp");
  if (!mkdtemp(f.path)) abort();
  return f;
}

void folder_write(const folder *f, const char *name, const void *bytes, size_t size) {
  char path[512];
  snprintf(path, sizeof path, "%s/%s", f->path, name);
  FILE *file = fopen(path, "wb");
  if (!file || fwrite(bytes, 1, size, file) != size || fclose(file)) abort();
}

void folder_text(const folder *f, const char *name, const char *text) {
  folder_write(f, name, text, strlen(text));
}

void folder_remove(const folder *f) {
  char path[1024];
  DIR *directory = opendir(f->path);
  for (struct dirent *entry; directory && (entry = readdir(directory));) {
    snprintf(path, sizeof path, "%s/%s", f->path, entry->d_name);
    if (entry->d_name[0] != '.') unlink(path);
  }
  if (directory) closedir(directory);
  rmdir(f->path);
}
