/* SPDX-License-Identifier: Apache-2.0
 * Writes small checkpoints in memory and folders on disk for tests. Nothing is checked, so that malformed ones can be written
 * too. Out of memory or disk aborts the test. */
#ifndef WISP_TESTS_CHECKPOINT_BUILDER_H
#define WISP_TESTS_CHECKPOINT_BUILDER_H

#include <stddef.h>
#include <stdint.h>

typedef struct blob {
  uint8_t *data;
  size_t size, capacity;
} blob;

void blob_free(blob *b);
void blob_add(blob *b, const void *bytes, size_t size);
void blob_text(blob *b, const char *text);                 /* without its NUL */
void blob_number(blob *b, uint64_t number, unsigned size); /* little endian */

/* A safetensors file: header text, and so many bytes of data 0, 1, 2, ... */
blob safetensors_blob(const char *header, size_t data_bytes);

/* A zip archive: begin with a zeroed struct, members, finish; then blob has the file. */
typedef struct zip_builder {
  blob file, directory;
  uint16_t count;
  uint16_t method; /* of the next members; 0 = stored */
} zip_builder;

void zip_add(zip_builder *zip, const char *name, const void *bytes, size_t size);
void zip_finish(zip_builder *zip);
void zip_free(zip_builder *zip);

/* Pieces of pickles, protocol 2. */
void pickle_begin(blob *b); /* PROTO 2, an OrderedDict, MARK */
void pickle_tensor(blob *b, const char *name, const char *storage_class, const char *key, const uint8_t *shape,
                   unsigned dimensions);
void pickle_end(blob *b); /* SETITEMS, STOP */

/* A whole torch.save file with float tensors "a" [2, 3] and "b" [4]. */
blob torch_blob(void);

/* A folder of its own under the system's temporary one; path is valid until folder_remove, which deletes its files too. */
typedef struct folder {
  char path[256];
} folder;

folder folder_make(void);
void folder_write(const folder *f, const char *name, const void *bytes, size_t size);
void folder_text(const folder *f, const char *name, const char *text);
void folder_remove(const folder *f);

#endif
