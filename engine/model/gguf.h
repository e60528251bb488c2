/* SPDX-License-Identifier: Apache-2.0
 * GGUF v3 container: metadata and tensor table over bytes that stay mapped. Every length, count and offset in the file is
 * checked before it is used; nothing is copied but the tables. Format: ggml docs/gguf.md. */
#ifndef WISP_MODEL_GGUF_H
#define WISP_MODEL_GGUF_H

#include "base/source.h"
#include "model/dtype.h"

typedef enum wisp_gguf_type {
  WISP_GGUF_U8 = 0,
  WISP_GGUF_I8 = 1,
  WISP_GGUF_U16 = 2,
  WISP_GGUF_I16 = 3,
  WISP_GGUF_U32 = 4,
  WISP_GGUF_I32 = 5,
  WISP_GGUF_F32 = 6,
  WISP_GGUF_BOOL = 7,
  WISP_GGUF_STRING = 8,
  WISP_GGUF_ARRAY = 9,
  WISP_GGUF_U64 = 10,
  WISP_GGUF_I64 = 11,
  WISP_GGUF_F64 = 12
} wisp_gguf_type;

typedef struct wisp_text {
  const char *bytes;
  uint64_t size;
} wisp_text; /* not NUL-terminated */

/* Arguments of "%.*s". */
#define WISP_TEXT_ARGS(text) (int)((text).size < 256 ? (text).size : 256), (text).bytes

typedef struct wisp_gguf_entry {
  wisp_text key;
  wisp_gguf_type type;
  wisp_gguf_type element;   /* of an array; the type itself otherwise */
  uint64_t count;           /* of an array; 1 otherwise */
  const uint8_t *payload;   /* first element, unaligned, little endian */
  const wisp_text *strings; /* [count] if type or element is STRING */
} wisp_gguf_entry;

typedef struct wisp_gguf_tensor {
  wisp_text name;
  uint32_t dimensions; /* 1 to 4 */
  uint64_t shape[4];   /* shape[0] = row length (input features), whole blocks; none is 0, unused ones are 1 */
  const wisp_dtype_info *type;
  const uint8_t *data; /* inside the mapped bytes; aligned in the file, in memory only if the source is */
  uint64_t bytes;
  uint64_t offset; /* of data, from the start of the file's data section */
} wisp_gguf_tensor;

typedef struct wisp_gguf {
  const wisp_host *host;
  const char *name; /* file name for messages; borrowed from the bytes */
  wisp_gguf_entry *entries;
  uint64_t entry_count;
  wisp_gguf_tensor *tensors;
  uint64_t tensor_count;
  wisp_text *strings; /* private: backing of all string arrays */
  const void **index; /* private: the entries sorted by key, then the tensors sorted by name */
} wisp_gguf;

/* host and bytes must outlive the struct. FORMAT and UNSUPPORTED errors name file, key or tensor, and what was expected.
 * Tensors that are out of the file, misaligned, overlapping or of an unknown type are refused, as are arrays of arrays, a key
 * or tensor name that appears twice, and files of more than 65536 keys or tensors. Afterwards the struct is only read: any
 * thread. */
wisp_status wisp_gguf_open(wisp_gguf *gguf, const wisp_host *host, const wisp_bytes *bytes);
void wisp_gguf_close(wisp_gguf *gguf); /* accepts a zeroed struct */

/* For a model that is no GGUF file, of which gguf has the metadata: makes these its tensors. The table, from gguf's host,
 * belongs to gguf from here on, also on failure; names and data must outlive it, offsets mean nothing. A name that appears
 * twice is FORMAT. */
wisp_status wisp_gguf_set_tensors(wisp_gguf *gguf, wisp_gguf_tensor *tensors, uint64_t count);

const wisp_gguf_entry *wisp_gguf_find(const wisp_gguf *gguf, const char *key);          /* NULL if absent */
const wisp_gguf_tensor *wisp_gguf_find_tensor(const wisp_gguf *gguf, const char *name); /* NULL if absent */

/* Scalars of any integer, float or bool type that hold the value without loss (a finite f64 is rounded to f32). Absent key:
 * *value is left as it is and OK is returned, unless required: then FORMAT "missing key". A wrong type or a value out of range
 * is FORMAT. */
wisp_status wisp_gguf_u32(const wisp_gguf *gguf, const char *key, bool required, uint32_t *value);
wisp_status wisp_gguf_f32(const wisp_gguf *gguf, const char *key, bool required, float *value);
wisp_status wisp_gguf_bool(const wisp_gguf *gguf, const char *key, bool required, bool *value);
wisp_status wisp_gguf_string(const wisp_gguf *gguf, const char *key, bool required, wisp_text *value);

/* Element i < count of an array (or scalar, i = 0) of integers, floats or bools; 0 for strings. As an integer a fraction is cut
 * off and what int64_t cannot hold becomes its nearest bound. */
int64_t wisp_gguf_array_integer(const wisp_gguf_entry *entry, uint64_t i);
double wisp_gguf_array_float(const wisp_gguf_entry *entry, uint64_t i);

#endif
