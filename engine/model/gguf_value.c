/* SPDX-License-Identifier: Apache-2.0
 * Look-ups in an open GGUF file: keys, tensors, typed values. */
#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "base/little_endian.h"
#include "model/gguf.h"
#include "model/gguf_private.h"

static const void *find(const void **items, uint64_t count, const char *name) {
  wisp_text wanted = {name, strlen(name)};
  for (uint64_t low = 0, high = count; low < high;) {
    uint64_t middle = low + (high - low) / 2;
    int order = wisp_text_compare(wanted, *(const wisp_text *)items[middle]); /* entries and tensors begin with their name */
    if (order == 0) return items[middle];
    if (order < 0) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  return NULL;
}

const wisp_gguf_entry *wisp_gguf_find(const wisp_gguf *gguf, const char *key) {
  return find(gguf->index, gguf->entry_count, key);
}

const wisp_gguf_tensor *wisp_gguf_find_tensor(const wisp_gguf *gguf, const char *name) {
  return find(gguf->index + gguf->entry_count, gguf->tensor_count, name);
}

/* ---- Numbers of any type --------------------------------------------------------------------------------------------- */

typedef struct number {
  bool integral;   /* integer holds the value exactly */
  int64_t integer; /* otherwise cut off, or the nearest bound; 0 for NaN */
  double real;
} number;

static number of_integer(int64_t value) {
  return (number){true, value, (double)value};
}

static number of_real(double value) {
  if (value >= 0x1p63) return (number){false, INT64_MAX, value};
  if (value < -0x1p63) return (number){false, INT64_MIN, value};
  int64_t integer = value == value ? (int64_t)value : 0;
  return (number){(double)integer == value, integer, value};
}

static number number_at(const wisp_gguf_entry *entry, uint64_t i) {
  const uint8_t *p = entry->payload;
  switch (entry->element) {
  case WISP_GGUF_U8:
  case WISP_GGUF_BOOL:
    return of_integer(p[i]);
  case WISP_GGUF_I8:
    return of_integer((int8_t)p[i]);
  case WISP_GGUF_U16:
    return of_integer(wisp_load_u16(p + 2 * i));
  case WISP_GGUF_I16:
    return of_integer((int16_t)wisp_load_u16(p + 2 * i));
  case WISP_GGUF_U32:
    return of_integer(wisp_load_u32(p + 4 * i));
  case WISP_GGUF_I32:
    return of_integer((int32_t)wisp_load_u32(p + 4 * i));
  case WISP_GGUF_U64: {
    uint64_t value = wisp_load_u64(p + 8 * i);
    return value <= INT64_MAX ? of_integer((int64_t)value) : of_real((double)value);
  }
  case WISP_GGUF_I64:
    return of_integer((int64_t)wisp_load_u64(p + 8 * i));
  case WISP_GGUF_F32:
    return of_real(wisp_load_f32(p + 4 * i));
  case WISP_GGUF_F64:
    return of_real(wisp_load_f64(p + 8 * i));
  case WISP_GGUF_STRING:
  case WISP_GGUF_ARRAY:
    break;
  }
  return (number){0};
}

int64_t wisp_gguf_array_integer(const wisp_gguf_entry *entry, uint64_t i) {
  return number_at(entry, i).integer;
}

double wisp_gguf_array_float(const wisp_gguf_entry *entry, uint64_t i) {
  return number_at(entry, i).real;
}

/* ---- Scalars by key ---------------------------------------------------------------------------------------------------- */

static const char *const type_names[] = {"u8",   "i8",     "u16",   "i16", "u32", "i32", "f32",
                                         "bool", "string", "array", "u64", "i64", "f64"};

/* *entry is NULL with OK where an optional key is absent. */
static wisp_status find_scalar(const wisp_gguf *gguf, const char *key, bool required, bool text,
                               const wisp_gguf_entry **entry) {
  *entry = wisp_gguf_find(gguf, key);
  if (!*entry) return required ? wisp_fail(gguf->host, WISP_ERROR_FORMAT, "%s: missing key '%s'", gguf->name, key) : WISP_OK;
  wisp_gguf_type type = (*entry)->type;
  if (type == WISP_GGUF_ARRAY || (type == WISP_GGUF_STRING) != text) {
    return wisp_fail(gguf->host, WISP_ERROR_FORMAT, "%s: key '%s' is of type %s, expected a %s", gguf->name, key,
                     type_names[type], text ? "string" : "number");
  }
  return WISP_OK;
}

/* As find_scalar for a whole number in [0, limit]. */
static wisp_status find_integer(const wisp_gguf *gguf, const char *key, bool required, int64_t limit,
                                const wisp_gguf_entry **entry) {
  WISP_TRY(find_scalar(gguf, key, required, false, entry));
  if (!*entry) return WISP_OK;
  number n = number_at(*entry, 0);
  if (n.integral && n.integer >= 0 && n.integer <= limit) return WISP_OK;
  return wisp_fail(gguf->host, WISP_ERROR_FORMAT, "%s: key '%s' is %.17g, expected a whole number from 0 to %" PRId64,
                   gguf->name, key, n.real, limit);
}

wisp_status wisp_gguf_u32(const wisp_gguf *gguf, const char *key, bool required, uint32_t *value) {
  const wisp_gguf_entry *entry;
  WISP_TRY(find_integer(gguf, key, required, UINT32_MAX, &entry));
  if (entry) *value = (uint32_t)number_at(entry, 0).integer;
  return WISP_OK;
}

wisp_status wisp_gguf_bool(const wisp_gguf *gguf, const char *key, bool required, bool *value) {
  const wisp_gguf_entry *entry;
  WISP_TRY(find_integer(gguf, key, required, 1, &entry));
  if (entry) *value = number_at(entry, 0).integer != 0;
  return WISP_OK;
}

wisp_status wisp_gguf_f32(const wisp_gguf *gguf, const char *key, bool required, float *value) {
  const wisp_gguf_entry *entry;
  WISP_TRY(find_scalar(gguf, key, required, false, &entry));
  if (!entry) return WISP_OK;
  number n = number_at(entry, 0);
  bool exact = entry->type == WISP_GGUF_F64 || (double)(float)n.real == n.real;
  if (!(fabs(n.real) <= FLT_MAX) || !exact) {
    return wisp_fail(gguf->host, WISP_ERROR_FORMAT, "%s: key '%s' is %.17g, expected a finite number that a float can hold",
                     gguf->name, key, n.real);
  }
  *value = (float)n.real;
  return WISP_OK;
}

wisp_status wisp_gguf_string(const wisp_gguf *gguf, const char *key, bool required, wisp_text *value) {
  const wisp_gguf_entry *entry;
  WISP_TRY(find_scalar(gguf, key, required, true, &entry));
  if (entry) *value = entry->strings[0];
  return WISP_OK;
}
