/* SPDX-License-Identifier: Apache-2.0
 * A stack machine. Instructions and their arguments: Python's pickletools.py. Values live in the arena, and nothing here
 * recurses into them, so depth costs nothing. */
#include "model/pickle.h"

#include <inttypes.h>
#include <string.h>

#include "base/little_endian.h"

typedef enum kind { MARK, NONE, BOOLEAN, INTEGER, FLOAT, TEXT, SEQUENCE, DICT, GLOBAL, STORAGE, TENSOR } kind;
static const char *const kind_names[] = {
    "a mark",    "None",    "a bool", "an int", "a float", "a string", "a sequence", "a dict", "a function or class",
    "a storage", "a tensor"};

typedef enum known { REBUILD_TENSOR, REBUILD_PARAMETER, ORDERED_DICT, STORAGE_CLASS } known;

static const struct global {
  const char *module, *name;
  known known;
  wisp_dtype dtype; /* of a storage class */
} globals[] = {
    {"torch._utils", "_rebuild_tensor_v2", REBUILD_TENSOR, WISP_F32},
    {"torch._utils", "_rebuild_parameter", REBUILD_PARAMETER, WISP_F32},
    {"collections", "OrderedDict", ORDERED_DICT, WISP_F32},
    {"torch", "FloatStorage", STORAGE_CLASS, WISP_F32},
    {"torch", "HalfStorage", STORAGE_CLASS, WISP_F16},
    {"torch", "BFloat16Storage", STORAGE_CLASS, WISP_BF16},
};

typedef struct value {
  kind kind;
  union {
    int64_t integer;
    wisp_text text;
    struct { /* SEQUENCE: tuple or list; DICT: keys and values by turns */
      struct value **items;
      size_t count, capacity;
    } list;
    const struct global *global;
    struct {
      wisp_text key;
      const wisp_dtype_info *type;
      uint64_t weights;
    } storage;
    wisp_pickled *tensor;
  } as;
} value;

typedef struct table { /* a growing array of values */
  value **items;
  size_t count, capacity;
} table;

typedef struct machine {
  const wisp_host *host;
  const char *file;
  wisp_arena *arena;
  const uint8_t *bytes;
  size_t size, at; /* at <= size */
  table stack, memo;
} machine;

static wisp_status no_memory(const machine *m) {
  return wisp_fail_memory(m->host, m->file, m->size);
}

static wisp_status damaged(const machine *m, const char *what) {
  return wisp_fail(m->host, WISP_ERROR_FORMAT, "%s: damaged pickle: %s at byte %zu", m->file, what, m->at);
}

/* ---- Arguments of instructions ------------------------------------------------------------------------------------------ */

static wisp_status take(machine *m, uint64_t size, const uint8_t **bytes) {
  if (size > m->size - m->at) return damaged(m, "it ends too early");
  *bytes = m->bytes + m->at;
  m->at += (size_t)size;
  return WISP_OK;
}

/* A little-endian number of 1, 2, 4 or 8 bytes. */
static wisp_status take_number(machine *m, unsigned size, uint64_t *number) {
  const uint8_t *bytes;
  WISP_TRY(take(m, size, &bytes));
  *number = 0;
  for (unsigned i = size; i > 0; i--) *number = *number << 8 | bytes[i - 1];
  return WISP_OK;
}

/* A text behind its size, which takes size_bytes. */
static wisp_status take_text(machine *m, unsigned size_bytes, wisp_text *text) {
  const uint8_t *bytes;
  WISP_TRY(take_number(m, size_bytes, &text->size));
  WISP_TRY(take(m, text->size, &bytes));
  text->bytes = (const char *)bytes;
  return WISP_OK;
}

static wisp_status take_line(machine *m, wisp_text *line) {
  const uint8_t *start = m->bytes + m->at, *end = memchr(start, '\n', m->size - m->at);
  if (!end) return damaged(m, "it ends too early");
  *line = (wisp_text){(const char *)start, (uint64_t)(end - start)};
  m->at += (size_t)line->size + 1;
  return WISP_OK;
}

/* ---- Stack and memo ------------------------------------------------------------------------------------------------------ */

/* Room for count items; new ones are NULL. */
static wisp_status reserve(machine *m, table *t, size_t count) {
  if (count <= t->capacity) return WISP_OK;
  size_t capacity = t->capacity ? t->capacity : 64;
  while (capacity < count) capacity *= 2;
  value **grown = wisp_host_resize(m->host, t->items, capacity, sizeof *grown);
  if (!grown) return no_memory(m);
  memset(grown + t->capacity, 0, (capacity - t->capacity) * sizeof *grown);
  t->items = grown;
  t->capacity = capacity;
  return WISP_OK;
}

static wisp_status push(machine *m, value *v) {
  WISP_TRY(reserve(m, &m->stack, m->stack.count + 1));
  m->stack.items[m->stack.count++] = v;
  return WISP_OK;
}

static wisp_status push_new(machine *m, value content) {
  value *v = wisp_arena_alloc(m->arena, 1, sizeof *v);
  if (!v) return no_memory(m);
  *v = content;
  return push(m, v);
}

static wisp_status push_integer(machine *m, int64_t integer) {
  return push_new(m, (value){.kind = INTEGER, .as.integer = integer});
}

/* A mark is no value. */
static wisp_status pop(machine *m, value **v) {
  if (m->stack.count == 0 || m->stack.items[m->stack.count - 1]->kind == MARK) return damaged(m, "nothing on the stack");
  *v = m->stack.items[--m->stack.count];
  return WISP_OK;
}

/* Takes all above the last mark, and the mark; items stay valid until the next push. */
static wisp_status pop_mark(machine *m, value ***items, size_t *count) {
  for (size_t i = m->stack.count; i > 0; i--) {
    if (m->stack.items[i - 1]->kind != MARK) continue;
    *items = m->stack.items + i;
    *count = m->stack.count - i;
    m->stack.count = i - 1;
    return WISP_OK;
  }
  return damaged(m, "no mark on the stack");
}

static wisp_status memo_put(machine *m, uint64_t index) {
  if (m->stack.count == 0) return damaged(m, "nothing on the stack");
  if (index > m->size) return damaged(m, "an impossible memo index"); /* memory stays bounded */
  WISP_TRY(reserve(m, &m->memo, (size_t)index + 1));
  m->memo.items[index] = m->stack.items[m->stack.count - 1];
  if (index >= m->memo.count) m->memo.count = (size_t)index + 1;
  return WISP_OK;
}

static wisp_status memo_get(machine *m, uint64_t index) {
  if (index >= m->memo.count || !m->memo.items[index]) return damaged(m, "an unknown memo index");
  return push(m, m->memo.items[index]);
}

/* ---- Values -------------------------------------------------------------------------------------------------------------- */

/* Adds count items to a list or dict. */
static wisp_status append(machine *m, value *list, value *const *items, size_t count) {
  const size_t needed = list->as.list.count + count;
  if (needed > list->as.list.capacity) {
    size_t capacity = 2 * needed;
    value **grown = wisp_arena_alloc(m->arena, capacity, sizeof *grown);
    if (!grown) return no_memory(m);
    if (list->as.list.count) memcpy(grown, list->as.list.items, list->as.list.count * sizeof *grown);
    list->as.list.items = grown;
    list->as.list.capacity = capacity;
  }
  if (count) memcpy(list->as.list.items + list->as.list.count, items, count * sizeof *items);
  list->as.list.count = needed;
  return WISP_OK;
}

static wisp_status push_tuple(machine *m, value *const *items, size_t count) {
  value *tuple = wisp_arena_alloc(m->arena, 1, sizeof *tuple);
  if (!tuple) return no_memory(m);
  tuple->kind = SEQUENCE;
  WISP_TRY(append(m, tuple, items, count));
  return push(m, tuple);
}

static wisp_status push_small_tuple(machine *m, size_t count) {
  value *items[3];
  for (size_t i = count; i > 0; i--) WISP_TRY(pop(m, &items[i - 1]));
  return push_tuple(m, items, count);
}

/* Items between the last mark and the top go into what lies under the mark. */
static wisp_status extend(machine *m, kind wanted) {
  value **items;
  size_t count;
  WISP_TRY(pop_mark(m, &items, &count));
  value *target = m->stack.count ? m->stack.items[m->stack.count - 1] : NULL;
  if (!target || target->kind != wanted || (wanted == DICT && count % 2)) return damaged(m, "items that fit nowhere");
  return append(m, target, items, count);
}

static wisp_status add_item(machine *m, kind wanted) {
  value *items[2];
  const size_t count = wanted == DICT ? 2 : 1;
  for (size_t i = count; i > 0; i--) WISP_TRY(pop(m, &items[i - 1]));
  value *target = m->stack.count ? m->stack.items[m->stack.count - 1] : NULL;
  if (!target || target->kind != wanted) return damaged(m, "an item that fits nowhere");
  return append(m, target, items, count);
}

static bool same(wisp_text text, const char *other) {
  return text.size == strlen(other) && !memcmp(text.bytes, other, (size_t)text.size);
}

static wisp_status push_global(machine *m, wisp_text module, wisp_text name) {
  for (size_t i = 0; i < sizeof globals / sizeof *globals; i++) {
    if (same(module, globals[i].module) && same(name, globals[i].name))
      return push_new(m, (value){.kind = GLOBAL, .as.global = &globals[i]});
  }
  return wisp_fail(
      m->host, WISP_ERROR_UNSUPPORTED,
      "%s: the pickle would import %.*s.%.*s: refused, only plain float tensors are read; save the model as safetensors",
      m->file, WISP_TEXT_ARGS(module), WISP_TEXT_ARGS(name));
}

/* ("storage", class, key, location, weights) */
static wisp_status push_storage(machine *m) {
  value *id;
  WISP_TRY(pop(m, &id));
  value **items = id->as.list.items;
  if (id->kind != SEQUENCE || id->as.list.count != 5 || items[0]->kind != TEXT || !same(items[0]->as.text, "storage") ||
      items[1]->kind != GLOBAL || items[1]->as.global->known != STORAGE_CLASS || items[2]->kind != TEXT ||
      items[4]->kind != INTEGER || items[4]->as.integer < 0)
    return damaged(m, "a storage that is none");
  return push_new(m, (value){.kind = STORAGE,
                             .as.storage = {.key = items[2]->as.text,
                                            .type = wisp_dtype_find(items[1]->as.global->dtype),
                                            .weights = (uint64_t)items[4]->as.integer}});
}

/* ---- Functions ----------------------------------------------------------------------------------------------------------- */

/* Whether strides are those of a row-major tensor without gaps; the stride of a dimension of one is free. */
static bool is_contiguous(const wisp_pickled *tensor, value *const *strides) {
  uint64_t expected = 1;
  for (uint32_t i = tensor->dimensions; i > 0; i--) {
    const uint64_t size = tensor->shape[i - 1];
    if (size != 1 && (strides[i - 1]->kind != INTEGER || strides[i - 1]->as.integer != (int64_t)expected)) return false;
    if (size && expected > ((uint64_t)1 << 48) / size) return false;
    expected *= size;
  }
  return true;
}

/* (storage, offset, shape, strides, requires_grad, hooks[, metadata]) */
static wisp_status rebuild_tensor(machine *m, const value *arguments) {
  value *const *items = arguments->as.list.items;
  if (arguments->as.list.count < 4 || items[0]->kind != STORAGE || items[1]->kind != INTEGER || items[1]->as.integer < 0 ||
      items[2]->kind != SEQUENCE || items[3]->kind != SEQUENCE || items[2]->as.list.count != items[3]->as.list.count)
    return damaged(m, "a tensor that is none");
  const size_t dimensions = items[2]->as.list.count;
  if (dimensions > 4)
    return wisp_fail(m->host, WISP_ERROR_UNSUPPORTED, "%s: a tensor of %zu dimensions, expected at most 4", m->file,
                     dimensions);
  wisp_pickled *tensor = wisp_arena_alloc(m->arena, 1, sizeof *tensor);
  if (!tensor) return no_memory(m);
  *tensor = (wisp_pickled){.storage = items[0]->as.storage.key,
                           .type = items[0]->as.storage.type,
                           .storage_weights = items[0]->as.storage.weights,
                           .offset = (uint64_t)items[1]->as.integer,
                           .dimensions = (uint32_t)dimensions};
  for (size_t i = 0; i < dimensions; i++) {
    const value *size = items[2]->as.list.items[i];
    if (size->kind != INTEGER || size->as.integer < 0) return damaged(m, "a tensor that is none");
    tensor->shape[i] = (uint64_t)size->as.integer;
  }
  if (!is_contiguous(tensor, items[3]->as.list.items))
    return wisp_fail(m->host, WISP_ERROR_UNSUPPORTED,
                     "%s: a tensor of storage %.*s is not contiguous; save the model as safetensors", m->file,
                     WISP_TEXT_ARGS(tensor->storage));
  return push_new(m, (value){.kind = TENSOR, .as.tensor = tensor});
}

static wisp_status call(machine *m) {
  value *arguments, *function;
  WISP_TRY(pop(m, &arguments));
  WISP_TRY(pop(m, &function));
  if (function->kind == GLOBAL && arguments->kind == SEQUENCE) {
    switch (function->as.global->known) {
    case REBUILD_TENSOR:
      return rebuild_tensor(m, arguments);
    case REBUILD_PARAMETER: /* (tensor, requires_grad, hooks) */
      if (arguments->as.list.count < 1 || arguments->as.list.items[0]->kind != TENSOR) break;
      return push(m, arguments->as.list.items[0]);
    case ORDERED_DICT:
      if (arguments->as.list.count != 0) break;
      return push_new(m, (value){.kind = DICT});
    case STORAGE_CLASS:
      break;
    }
  }
  return damaged(m, "a call that is none");
}

/* BUILD sets attributes of an object; a state dict has one, the versions of its modules, which is dropped. */
static wisp_status build(machine *m) {
  value *state;
  WISP_TRY(pop(m, &state));
  if (m->stack.count && m->stack.items[m->stack.count - 1]->kind == DICT) return WISP_OK;
  return damaged(m, "attributes of what has none");
}

/* ---- Instructions -------------------------------------------------------------------------------------------------------- */

static wisp_status push_long(machine *m) {
  const uint8_t *bytes;
  uint64_t size, bits = 0;
  WISP_TRY(take_number(m, 1, &size));
  WISP_TRY(take(m, size, &bytes));
  if (size > 8) return damaged(m, "an int of more than 64 bits");
  if (size && bytes[size - 1] & 0x80) bits = UINT64_MAX;
  for (uint64_t i = size; i > 0; i--) bits = bits << 8 | bytes[i - 1];
  return push_integer(m, (int64_t)bits);
}

static wisp_status push_text(machine *m, unsigned size_bytes) {
  wisp_text text;
  WISP_TRY(take_text(m, size_bytes, &text));
  return push_new(m, (value){.kind = TEXT, .as.text = text});
}

static wisp_status stack_global(machine *m) {
  value *module, *name;
  WISP_TRY(pop(m, &name));
  WISP_TRY(pop(m, &module));
  if (module->kind != TEXT || name->kind != TEXT) return damaged(m, "an import without a name");
  return push_global(m, module->as.text, name->as.text);
}

/* One instruction. */
static wisp_status step(machine *m, uint8_t instruction) {
  const uint8_t *skipped;
  uint64_t number;
  value **items, *top;
  size_t count;
  wisp_text module, name;
  switch (instruction) {
  case 0x80: /* PROTO */
    WISP_TRY(take_number(m, 1, &number));
    if (number >= 2 && number <= 5) return WISP_OK;
    return wisp_fail(m->host, WISP_ERROR_UNSUPPORTED, "%s: pickle protocol %" PRIu64 ", expected 2 to 5", m->file, number);
  case 0x95: /* FRAME */
    return take(m, 8, &skipped);
  case '(': /* MARK */
    return push_new(m, (value){.kind = MARK});
  case '0': /* POP */
    if (m->stack.count == 0) return damaged(m, "nothing on the stack");
    m->stack.count--;
    return WISP_OK;
  case '1': /* POP_MARK */
    return pop_mark(m, &items, &count);
  case 'N': /* NONE */
    return push_new(m, (value){.kind = NONE});
  case 0x88: /* NEWTRUE, NEWFALSE */
  case 0x89:
    return push_new(m, (value){.kind = BOOLEAN, .as.integer = instruction == 0x88});
  case 'K': /* BININT1, BININT2, BININT */
  case 'M':
    WISP_TRY(take_number(m, instruction == 'K' ? 1 : 2, &number));
    return push_integer(m, (int64_t)number);
  case 'J':
    WISP_TRY(take_number(m, 4, &number));
    return push_integer(m, (int32_t)(uint32_t)number);
  case 0x8a: /* LONG1 */
    return push_long(m);
  case 'G': /* BINFLOAT: none of interest */
    WISP_TRY(take(m, 8, &skipped));
    return push_new(m, (value){.kind = FLOAT});
  case 'X': /* BINUNICODE */
  case 'T': /* BINSTRING */
    return push_text(m, 4);
  case 0x8c: /* SHORT_BINUNICODE */
  case 'U':  /* SHORT_BINSTRING */
    return push_text(m, 1);
  case ')': /* EMPTY_TUPLE, TUPLE1, TUPLE2, TUPLE3 */
    return push_small_tuple(m, 0);
  case 0x85:
  case 0x86:
  case 0x87:
    return push_small_tuple(m, instruction - 0x84u);
  case 't': /* TUPLE */
    WISP_TRY(pop_mark(m, &items, &count));
    return push_tuple(m, items, count);
  case ']': /* EMPTY_LIST */
    return push_new(m, (value){.kind = SEQUENCE});
  case '}': /* EMPTY_DICT */
    return push_new(m, (value){.kind = DICT});
  case 'a': /* APPEND, APPENDS, SETITEM, SETITEMS */
    return add_item(m, SEQUENCE);
  case 'e':
    return extend(m, SEQUENCE);
  case 's':
    return add_item(m, DICT);
  case 'u':
    return extend(m, DICT);
  case 'q': /* BINPUT, LONG_BINPUT, MEMOIZE */
  case 'r':
    WISP_TRY(take_number(m, instruction == 'q' ? 1 : 4, &number));
    return memo_put(m, number);
  case 0x94:
    return memo_put(m, m->memo.count);
  case 'h': /* BINGET, LONG_BINGET */
  case 'j':
    WISP_TRY(take_number(m, instruction == 'h' ? 1 : 4, &number));
    return memo_get(m, number);
  case 'c': /* GLOBAL; INST, which also calls, is refused by the name */
  case 'i':
    WISP_TRY(take_line(m, &module));
    WISP_TRY(take_line(m, &name));
    WISP_TRY(push_global(m, module, name));
    return instruction == 'c' ? WISP_OK : damaged(m, "an instance of an old class");
  case 0x93: /* STACK_GLOBAL */
    return stack_global(m);
  case 'Q': /* BINPERSID */
    return push_storage(m);
  case 'R': /* REDUCE */
    return call(m);
  case 'b': /* BUILD */
    return build(m);
  default:
    top = m->stack.count ? m->stack.items[m->stack.count - 1] : NULL;
    return wisp_fail(
        m->host, WISP_ERROR_UNSUPPORTED,
        "%s: pickle instruction 0x%02x at byte %zu, behind %s: refused, a state dict needs none such; save the model "
        "as safetensors",
        m->file, instruction, m->at - 1, top ? kind_names[top->kind] : "nothing");
  }
}

/* The dict's tensors. */
static wisp_status collect(machine *m, wisp_pickled_dict *dict) {
  value *state;
  WISP_TRY(pop(m, &state));
  if (m->stack.count || state->kind != DICT)
    return wisp_fail(m->host, WISP_ERROR_UNSUPPORTED, "%s: the pickle holds %s, expected a dict of tensors", m->file,
                     kind_names[state->kind]);
  dict->count = state->as.list.count / 2;
  dict->tensors = wisp_arena_alloc(m->arena, dict->count, sizeof *dict->tensors);
  if (!dict->tensors) return no_memory(m);
  for (size_t i = 0; i < dict->count; i++) {
    const value *name = state->as.list.items[2 * i], *tensor = state->as.list.items[2 * i + 1];
    if (name->kind != TEXT || tensor->kind != TENSOR)
      return wisp_fail(m->host, WISP_ERROR_UNSUPPORTED, "%s: '%.*s' is %s, expected a tensor", m->file,
                       name->kind == TEXT ? (int)(name->as.text.size < 200 ? name->as.text.size : 200) : 1,
                       name->kind == TEXT ? name->as.text.bytes : "?", kind_names[tensor->kind]);
    dict->tensors[i] = *tensor->as.tensor;
    dict->tensors[i].name = name->as.text;
  }
  return WISP_OK;
}

static wisp_status run(machine *m, wisp_pickled_dict *dict) {
  enum { STOP = '.' };
  for (;;) {
    const uint8_t *instruction;
    WISP_TRY(take(m, 1, &instruction));
    if (*instruction == STOP) return collect(m, dict);
    WISP_TRY(step(m, *instruction));
  }
}

wisp_status wisp_pickle_read(wisp_pickled_dict *dict, wisp_arena *arena, const char *file, const uint8_t *bytes, size_t size) {
  machine m = {.host = arena->host, .file = file, .arena = arena, .bytes = bytes, .size = size};
  *dict = (wisp_pickled_dict){0};
  wisp_status status = run(&m, dict);
  wisp_host_free(m.host, m.stack.items);
  wisp_host_free(m.host, m.memo.items);
  return status;
}
