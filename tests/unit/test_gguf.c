/* SPDX-License-Identifier: Apache-2.0
 * The GGUF reader: what a good file holds is found; each way of being bad is refused with one line that names the thing. */
#include <criterion/criterion.h>
#include <math.h>

#include "base/little_endian.h"
#include "model/gguf.h"
#include "unit/capture.h"
#include "unit/gguf_builder.h"

/* bytes as a file in a block of exactly its size, so that the address sanitizer sees one byte too far. */
static wisp_status open_bytes(wisp_gguf *gguf, const wisp_host *host, const uint8_t *bytes, size_t size, uint8_t **block) {
  static char name[] = "x.gguf";
  *block = malloc(size ? size : 1);
  memcpy(*block, bytes, size);
  return wisp_gguf_open(gguf, host, &(wisp_bytes){.data = *block, .size = size, .name = name});
}

/* Opens and closes; asserts that status comes, with exactly one error line that holds file name and words, and that nothing
 * stays. */
static void expect_open(const uint8_t *bytes, size_t size, wisp_status expected, const char *words) {
  capture said;
  wisp_host host = capture_host(&said);
  wisp_gguf gguf;
  uint8_t *block;
  wisp_status status = open_bytes(&gguf, &host, bytes, size, &block);
  cr_assert_eq(status, expected, "status %s, expected %s (%s), said: %s", wisp_status_name(status), wisp_status_name(expected),
               words, said.error);
  cr_assert_eq(said.errors, expected == WISP_OK ? 0 : 1);
  if (expected != WISP_OK) {
    cr_assert_not_null(strstr(said.error, words), "'%s' does not name '%s'", said.error, words);
    cr_assert_not_null(strstr(said.error, "x.gguf"), "'%s' does not name the file", said.error);
    cr_assert_null(gguf.entries);
  }
  wisp_gguf_close(&gguf);
  cr_assert_eq(said.live, 0);
  free(block);
}

static void expect(const gguf_builder *builder, wisp_status expected, const char *words) {
  size_t size;
  uint8_t *bytes = gguf_finish(builder, &size);
  expect_open(bytes, size, expected, words);
  free(bytes);
}

/* A key of every type, and a few tensors. */
static void build_sample(gguf_builder *b) {
  static const char *const words[] = {"one", "", "three\n"};
  gguf_begin(b);
  gguf_add_string(b, "general.architecture", "llama");
  gguf_add_scalar(b, "u8", WISP_GGUF_U8, &(uint8_t){200});
  gguf_add_scalar(b, "i8", WISP_GGUF_I8, &(int8_t){-3});
  gguf_add_scalar(b, "u16", WISP_GGUF_U16, &(uint16_t){60000});
  gguf_add_scalar(b, "i16", WISP_GGUF_I16, &(int16_t){-300});
  gguf_add_u32(b, "u32", 4000000000u);
  gguf_add_scalar(b, "i32", WISP_GGUF_I32, &(int32_t){-70000});
  gguf_add_f32(b, "f32", 1e-5f);
  gguf_add_bool(b, "bool", true);
  gguf_add_scalar(b, "u64", WISP_GGUF_U64, &(uint64_t){UINT64_MAX});
  gguf_add_scalar(b, "i64", WISP_GGUF_I64, &(int64_t){INT64_MIN});
  gguf_add_scalar(b, "f64", WISP_GGUF_F64, &(double){0.1});
  gguf_add_strings(b, "words", words, 3);
  gguf_add_array(b, "scores", WISP_GGUF_F32, (float[]){0.5f, -2}, 2);
  gguf_add_array(b, "types", WISP_GGUF_I32, (int32_t[]){1, -2, 3}, 3);
  gguf_add_array(b, "empty", WISP_GGUF_U64, NULL, 0);
  gguf_add_strings(b, "no_words", NULL, 0);
  gguf_add_weights(b, "vector", WISP_F32, 1, (uint64_t[]){3}, (float[]){1, 2, 3});
  gguf_add_tensor(b, "matrix", WISP_Q4_0, 2, (uint64_t[]){64, 2}, NULL);
  gguf_add_tensor(b, "cube", WISP_F16, 4, (uint64_t[]){2, 3, 4, 5}, NULL);
}

Test(gguf, good_file) {
  gguf_builder b;
  build_sample(&b);
  size_t size;
  uint8_t *bytes = gguf_finish(&b, &size), *block;
  capture said;
  wisp_host host = capture_host(&said);
  wisp_gguf gguf;
  cr_assert_eq(open_bytes(&gguf, &host, bytes, size, &block), WISP_OK, "%s", said.error);
  cr_assert_eq(gguf.entry_count, 17);
  cr_assert_eq(gguf.tensor_count, 3);

  wisp_text text;
  cr_assert_eq(wisp_gguf_string(&gguf, "general.architecture", true, &text), WISP_OK);
  cr_assert(text.size == 5 && memcmp(text.bytes, "llama", 5) == 0);
  const wisp_gguf_entry *words = wisp_gguf_find(&gguf, "words");
  cr_assert_not_null(words);
  cr_assert(words->type == WISP_GGUF_ARRAY && words->element == WISP_GGUF_STRING && words->count == 3);
  cr_assert(words->strings[0].size == 3 && memcmp(words->strings[0].bytes, "one", 3) == 0);
  cr_assert_eq(words->strings[1].size, 0);
  cr_assert(words->strings[2].size == 6 && memcmp(words->strings[2].bytes, "three\n", 6) == 0);
  const wisp_gguf_entry *scores = wisp_gguf_find(&gguf, "scores"), *types = wisp_gguf_find(&gguf, "types");
  cr_assert(scores->count == 2 && wisp_gguf_array_float(scores, 0) == 0.5 && wisp_gguf_array_float(scores, 1) == -2);
  cr_assert_eq(wisp_gguf_array_integer(scores, 0), 0);
  cr_assert(types->count == 3 && wisp_gguf_array_integer(types, 1) == -2 && wisp_gguf_array_float(types, 2) == 3);
  cr_assert_eq(wisp_gguf_find(&gguf, "empty")->count, 0);
  cr_assert_eq(wisp_gguf_find(&gguf, "no_words")->count, 0);
  cr_assert_eq(wisp_gguf_array_integer(wisp_gguf_find(&gguf, "u64"), 0), INT64_MAX);
  cr_assert_eq(wisp_gguf_array_integer(wisp_gguf_find(&gguf, "i64"), 0), INT64_MIN);
  cr_assert_null(wisp_gguf_find(&gguf, "word"));
  cr_assert_null(wisp_gguf_find(&gguf, "wordss"));
  cr_assert_null(wisp_gguf_find(&gguf, ""));

  const wisp_gguf_tensor *vector = wisp_gguf_find_tensor(&gguf, "vector"), *matrix = wisp_gguf_find_tensor(&gguf, "matrix");
  cr_assert(vector && matrix && wisp_gguf_find_tensor(&gguf, "cube"));
  cr_assert_null(wisp_gguf_find_tensor(&gguf, "words"));
  cr_assert(vector->dimensions == 1 && vector->shape[0] == 3 && vector->shape[1] == 1 && vector->bytes == 12);
  float weights[3];
  vector->type->dequantize(vector->data, weights, 3);
  cr_assert(weights[0] == 1 && weights[1] == 2 && weights[2] == 3);
  cr_assert(matrix->type->dtype == WISP_Q4_0 && matrix->shape[0] == 64 && matrix->shape[1] == 2 && matrix->bytes == 4 * 18);
  cr_assert_eq(wisp_gguf_find_tensor(&gguf, "cube")->bytes, 240);
  cr_assert_eq(said.errors, 0);

  wisp_gguf_close(&gguf);
  cr_assert_eq(said.live, 0);
  free(block);
  free(bytes);
  gguf_end(&b);
}

Test(gguf, scalars) {
  gguf_builder b;
  build_sample(&b);
  gguf_add_f32(&b, "four", 4);
  gguf_add_f32(&b, "infinite", INFINITY);
  gguf_add_f32(&b, "nan", NAN);
  gguf_add_u32(&b, "odd", 16777217);
  gguf_add_scalar(&b, "huge", WISP_GGUF_F64, &(double){1e300});
  gguf_add_scalar(&b, "bad_bool", WISP_GGUF_BOOL, &(uint8_t){2});
  size_t size;
  uint8_t *bytes = gguf_finish(&b, &size), *block;
  capture said;
  wisp_host host = capture_host(&said);
  wisp_gguf gguf;
  cr_assert_eq(open_bytes(&gguf, &host, bytes, size, &block), WISP_OK, "%s", said.error);

  static const struct {
    const char *key;
    bool ok;
    uint32_t value;
  } integers[] = {{"u8", true, 200},          {"i8", false, 0},   {"u16", true, 60000}, {"i16", false, 0},
                  {"u32", true, 4000000000u}, {"i32", false, 0},  {"bool", true, 1},    {"u64", false, 0},
                  {"i64", false, 0},          {"f32", false, 0},  {"four", true, 4},    {"nan", false, 0},
                  {"infinite", false, 0},     {"huge", false, 0}, {"words", false, 0},  {"general.architecture", false, 0},
                  {"scores", false, 0}};
  for (size_t i = 0; i < sizeof integers / sizeof *integers; i++) {
    uint32_t value = 77;
    said.errors = 0;
    wisp_status status = wisp_gguf_u32(&gguf, integers[i].key, true, &value);
    cr_assert_eq(status, integers[i].ok ? WISP_OK : WISP_ERROR_FORMAT, "%s", integers[i].key);
    cr_assert_eq(value, integers[i].ok ? integers[i].value : 77, "%s", integers[i].key);
    cr_assert_eq(said.errors, integers[i].ok ? 0 : 1);
    if (!integers[i].ok) cr_assert_not_null(strstr(said.error, integers[i].key), "%s", said.error);
  }

  static const struct {
    const char *key;
    bool ok;
    float value;
  } floats[] = {{"f32", true, 1e-5f}, {"f64", true, 0.1f},    {"u8", true, 200},  {"i32", true, -70000}, {"odd", false, 0},
                {"nan", false, 0},    {"infinite", false, 0}, {"huge", false, 0}, {"words", false, 0}};
  for (size_t i = 0; i < sizeof floats / sizeof *floats; i++) {
    float value = 77;
    wisp_status status = wisp_gguf_f32(&gguf, floats[i].key, true, &value);
    cr_assert_eq(status, floats[i].ok ? WISP_OK : WISP_ERROR_FORMAT, "%s", floats[i].key);
    cr_assert_eq(value, floats[i].ok ? floats[i].value : 77, "%s", floats[i].key);
  }

  bool flag = false;
  cr_assert_eq(wisp_gguf_bool(&gguf, "bool", true, &flag), WISP_OK);
  cr_assert(flag);
  cr_assert_eq(wisp_gguf_bool(&gguf, "bad_bool", true, &flag), WISP_ERROR_FORMAT);
  wisp_text text = {0};
  cr_assert_eq(wisp_gguf_string(&gguf, "u8", true, &text), WISP_ERROR_FORMAT);
  cr_assert_eq(wisp_gguf_string(&gguf, "words", true, &text), WISP_ERROR_FORMAT);

  uint32_t kept = 5;
  said.errors = 0;
  cr_assert_eq(wisp_gguf_u32(&gguf, "absent", false, &kept), WISP_OK);
  cr_assert(kept == 5 && said.errors == 0);
  cr_assert_eq(wisp_gguf_u32(&gguf, "absent", true, &kept), WISP_ERROR_FORMAT);
  cr_assert_str_eq(said.error, "x.gguf: missing key 'absent'");

  wisp_gguf_close(&gguf);
  free(block);
  free(bytes);
  gguf_end(&b);
}

Test(gguf, vocabulary_only) {
  gguf_builder b;
  gguf_begin(&b);
  expect(&b, WISP_OK, "");
  gguf_add_string(&b, "general.architecture", "llama");
  expect(&b, WISP_OK, "");
  gguf_end(&b);
}

/* Cut anywhere, down to nothing. */
Test(gguf, truncated_at_every_byte) {
  gguf_builder b;
  build_sample(&b);
  size_t size;
  uint8_t *bytes = gguf_finish(&b, &size);
  expect_open(bytes, size, WISP_OK, "");
  for (size_t cut = 0; cut < size; cut++) expect_open(bytes, cut, WISP_ERROR_FORMAT, "truncated");
  free(bytes);
  gguf_end(&b);
}

Test(gguf, truncated_at_every_4_kib) {
  gguf_builder b;
  gguf_begin(&b);
  static const char *words[4000];
  for (int i = 0; i < 4000; i++) words[i] = "some token";
  gguf_add_strings(&b, "tokenizer.ggml.tokens", words, 4000);
  for (int i = 0; i < 30; i++) {
    char name[32];
    snprintf(name, sizeof name, "blk.%d.weight", i);
    gguf_add_tensor(&b, name, WISP_Q8_0, 2, (uint64_t[]){256, 64}, NULL);
  }
  size_t size;
  uint8_t *bytes = gguf_finish(&b, &size);
  cr_assert_gt(size, 500000);
  expect_open(bytes, size, WISP_OK, "");
  for (size_t cut = 0; cut < size; cut += 4096) {
    expect_open(bytes, cut, WISP_ERROR_FORMAT,
                cut >= 73728  ? "tensor 'blk."
                : cut >= 4096 ? "tokenizer.ggml.tokens"
                              : "truncated");
  }
  free(bytes);
  gguf_end(&b);
}

/* Any single bit: either refused with one line, or read without harm. */
Test(gguf, every_bit_flipped) {
  gguf_builder b;
  build_sample(&b);
  size_t size;
  uint8_t *bytes = gguf_finish(&b, &size);
  unsigned refused = 0;
  for (size_t i = 0; i < size * 8; i++) {
    bytes[i / 8] ^= (uint8_t)(1 << i % 8);
    capture said;
    wisp_host host = capture_host(&said);
    wisp_gguf gguf;
    uint8_t *block;
    wisp_status status = open_bytes(&gguf, &host, bytes, size, &block);
    cr_assert_eq(said.errors, status == WISP_OK ? 0 : 1, "bit %zu", i);
    cr_assert_leq(said.largest, 16 * size, "bit %zu", i);
    refused += status != WISP_OK;
    wisp_gguf_close(&gguf);
    cr_assert_eq(said.live, 0, "bit %zu", i);
    free(block);
    bytes[i / 8] ^= (uint8_t)(1 << i % 8);
  }
  cr_assert_gt(refused, 1000);
  free(bytes);
  gguf_end(&b);
}

Test(gguf, every_allocation_failing) {
  gguf_builder b;
  build_sample(&b);
  size_t size;
  uint8_t *bytes = gguf_finish(&b, &size);
  unsigned failures = 0;
  for (wisp_status status = WISP_ERROR_MEMORY; status != WISP_OK; failures++) {
    capture said;
    wisp_host host = capture_host(&said);
    said.fail_at = failures + 1;
    wisp_gguf gguf;
    uint8_t *block;
    status = open_bytes(&gguf, &host, bytes, size, &block);
    if (status != WISP_OK) {
      cr_assert_eq(status, WISP_ERROR_MEMORY);
      cr_assert_eq(said.errors, 1);
      cr_assert_not_null(strstr(said.error, "out of memory"));
    }
    wisp_gguf_close(&gguf);
    cr_assert_eq(said.live, 0);
    free(block);
  }
  cr_assert_gt(failures, 3);
  free(bytes);
  gguf_end(&b);
}

Test(gguf, bad_header) {
  gguf_builder b;
  build_sample(&b);
  memcpy(b.magic, "GGML", 4);
  expect(&b, WISP_ERROR_FORMAT, "not a GGUF file");
  memcpy(b.magic, "GGUF", 4);
  static const struct {
    uint32_t version;
    const char *words;
  } versions[] = {{0, "endian"}, {1, "version 1"}, {2, "version 2"}, {4, "version 4"}, {0x03000000, "big-endian"}};
  for (size_t i = 0; i < sizeof versions / sizeof *versions; i++) {
    b.version = versions[i].version;
    expect(&b, WISP_ERROR_UNSUPPORTED, versions[i].words);
  }
  gguf_end(&b);
}

Test(gguf, absurd_counts) {
  static const uint64_t absurd[] = {18, 1000, 65537, UINT32_MAX, (uint64_t)1 << 32, (uint64_t)1 << 60, UINT64_MAX};
  gguf_builder b;
  build_sample(&b);
  uint64_t tensors = b.tensor_count, entries = b.entry_count;
  for (size_t i = 0; i < sizeof absurd / sizeof *absurd; i++) {
    b.tensor_count = absurd[i];
    expect(&b, WISP_ERROR_FORMAT, i ? "tensors" : "x.gguf"); /* a few too many: nonsense is read as a tensor */
    b.tensor_count = tensors;
    b.entry_count = absurd[i];
    expect(&b, WISP_ERROR_FORMAT, i ? "keys" : "x.gguf");
    b.entry_count = entries;
  }
  gguf_end(&b);
}

/* 70,000 keys are there, but no model has so many. */
Test(gguf, too_many_keys) {
  gguf_builder b;
  gguf_begin(&b);
  for (int i = 0; i < 70000; i++) {
    char key[16];
    snprintf(key, sizeof key, "key%d", i);
    gguf_add_bool(&b, key, true);
  }
  expect(&b, WISP_ERROR_FORMAT, "claims 70000 keys, at most 65536");
  gguf_end(&b);
}

Test(gguf, bad_metadata) {
  static const uint64_t absurd[] = {1u << 20, UINT64_MAX / 4 + 2, UINT64_MAX};
  gguf_builder b;

#define BAD_ENTRY(status, words, add)                                                                                          \
  gguf_begin(&b);                                                                                                              \
  gguf_add_u32(&b, "first", 1);                                                                                                \
  add;                                                                                                                         \
  expect(&b, status, words);                                                                                                   \
  gguf_end(&b)

  BAD_ENTRY(WISP_ERROR_FORMAT, "'odd' has unknown value type 13", gguf_add_raw(&b, "odd", 13, "xxxxxxxx", 8));
  BAD_ENTRY(WISP_ERROR_FORMAT, "'odd' has unknown value type 4294967295", gguf_add_raw(&b, "odd", UINT32_MAX, "xxxxxxxx", 8));
  BAD_ENTRY(WISP_ERROR_FORMAT, "'odd' has unknown value type 99", gguf_add_raw(&b, "odd", 9, (uint32_t[]){99, 1, 0, 0}, 16));
  BAD_ENTRY(WISP_ERROR_UNSUPPORTED, "'nested' is an array of arrays", gguf_add_raw(&b, "nested", 9, (uint32_t[]){9, 0, 0}, 12));
  BAD_ENTRY(WISP_ERROR_FORMAT, "key 'first' appears twice", gguf_add_u32(&b, "first", 2));
  BAD_ENTRY(WISP_ERROR_FORMAT, "key of 0 bytes", gguf_add_u32(&b, "", 2));
  BAD_ENTRY(WISP_ERROR_FORMAT, "'two??lines'", gguf_add_raw(&b, "two\r\nlines", 13, "xxxxxxxx", 8));
  for (size_t i = 0; i < 3; i++) {
    uint8_t array[12] = {0};
    memcpy(array + 4, &absurd[i], 8);
    for (array[0] = 0; array[0] <= 12; array[0]++) {
      if (array[0] == WISP_GGUF_ARRAY) continue;
      BAD_ENTRY(WISP_ERROR_FORMAT, "'long'", gguf_add_raw(&b, "long", WISP_GGUF_ARRAY, array, 12));
    }
    BAD_ENTRY(WISP_ERROR_FORMAT, "'long'", gguf_add_raw(&b, "long", WISP_GGUF_STRING, &absurd[i], 8));
  }
#undef BAD_ENTRY

  char key[70000];
  memset(key, 'k', sizeof key);
  key[65536] = 0;
  gguf_begin(&b);
  gguf_add_u32(&b, key, 1);
  expect(&b, WISP_ERROR_FORMAT, "key of 65536 bytes");
  gguf_end(&b);
}

Test(gguf, alignment) {
  static const uint32_t good[] = {8, 16, 32, 4096, 65536}, bad[] = {0, 1, 4, 24, 33, 131072, 1u << 31, UINT32_MAX};
  gguf_builder b;
  for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
    gguf_begin(&b);
    b.alignment = good[i];
    gguf_add_u32(&b, "general.alignment", good[i]);
    gguf_add_weights(&b, "a", WISP_F32, 1, (uint64_t[]){1}, (float[]){5});
    gguf_add_weights(&b, "b", WISP_F32, 1, (uint64_t[]){1}, (float[]){6});
    size_t size;
    uint8_t *bytes = gguf_finish(&b, &size), *block;
    wisp_gguf gguf;
    cr_assert_eq(open_bytes(&gguf, NULL, bytes, size, &block), WISP_OK, "%u", good[i]);
    cr_assert_eq(wisp_load_f32(wisp_gguf_find_tensor(&gguf, "a")->data), 5);
    cr_assert_eq(wisp_load_f32(wisp_gguf_find_tensor(&gguf, "b")->data), 6);
    wisp_gguf_close(&gguf);
    free(block);
    free(bytes);
    gguf_end(&b);
  }
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    gguf_begin(&b);
    gguf_add_u32(&b, "general.alignment", bad[i]);
    gguf_add_weights(&b, "a", WISP_F32, 1, (uint64_t[]){1}, (float[]){5});
    expect(&b, WISP_ERROR_FORMAT, "general.alignment");
    gguf_end(&b);
  }
  gguf_begin(&b);
  gguf_add_string(&b, "general.alignment", "32");
  expect(&b, WISP_ERROR_FORMAT, "general.alignment");
  gguf_end(&b);
}

Test(gguf, bad_tensors) {
  gguf_builder b;
  gguf_builder_tensor *t;

#define BAD_TENSOR(status, words, change)                                                                                      \
  gguf_begin(&b);                                                                                                              \
  gguf_add_tensor(&b, "first", WISP_F32, 1, (uint64_t[]){64}, NULL);                                                           \
  t = gguf_add_tensor(&b, "bad", WISP_Q8_0, 2, (uint64_t[]){64, 2}, NULL);                                                     \
  change;                                                                                                                      \
  expect(&b, status, words);                                                                                                   \
  gguf_end(&b)

  BAD_TENSOR(WISP_OK, "", (void)t);
  BAD_TENSOR(WISP_ERROR_UNSUPPORTED, "tensor 'bad' has type 10", t->type = 10); /* q2_k */
  BAD_TENSOR(WISP_ERROR_UNSUPPORTED, "tensor 'bad' has type 4294967295", t->type = UINT32_MAX);
  BAD_TENSOR(WISP_ERROR_FORMAT, "tensor 'bad' has 0 dimensions", t->dimensions = 0);
  BAD_TENSOR(WISP_ERROR_FORMAT, "tensor 'bad' has 5 dimensions", t->dimensions = 5);
  BAD_TENSOR(WISP_ERROR_FORMAT, "tensor 'bad' has an impossible shape", t->shape[1] = 0);
  BAD_TENSOR(WISP_ERROR_FORMAT, "tensor 'bad' has an impossible shape", t->shape[1] = UINT64_MAX / 32);
  BAD_TENSOR(WISP_ERROR_FORMAT, "tensor 'bad' has rows of 48", t->shape[0] = 48);
  BAD_TENSOR(WISP_ERROR_FORMAT, "tensor 'bad' needs", t->shape[1] = 3);
  BAD_TENSOR(WISP_ERROR_FORMAT, "tensor 'bad' needs", t->shape[1] = (uint64_t)1 << 40);
  BAD_TENSOR(WISP_ERROR_FORMAT, "tensor 'bad' needs", t->shape[1] = UINT64_MAX / 64);
  BAD_TENSOR(WISP_ERROR_FORMAT, "tensor 'bad' is misaligned", t->offset = 4);
  BAD_TENSOR(WISP_ERROR_FORMAT, "tensor 'bad' needs", t->offset += 32);
  BAD_TENSOR(WISP_ERROR_FORMAT, "tensor 'bad' needs", t->offset = UINT64_MAX - 31);
  BAD_TENSOR(WISP_ERROR_FORMAT, "tensors 'first' and 'bad' overlap", t->offset -= 32);
  BAD_TENSOR(WISP_ERROR_FORMAT, "overlap", t->offset = 0);
  BAD_TENSOR(WISP_ERROR_FORMAT, "tensor 'first' appears twice", strcpy(t->name, "first"));
  BAD_TENSOR(WISP_ERROR_FORMAT, "tensor name of 0 bytes", t->name[0] = 0);
  BAD_TENSOR(WISP_ERROR_FORMAT, "tensor name of 65 bytes", memset(t->name, 'n', 65));
  BAD_TENSOR(WISP_OK, "", memset(t->name, 'n', 64));
#undef BAD_TENSOR
}

/* Tables in any order: names and offsets are sorted by the reader. */
Test(gguf, order_does_not_matter) {
  enum { COUNT = 300 };
  gguf_builder b;
  gguf_begin(&b);
  for (int i = 0; i < COUNT; i++) {
    char name[16];
    snprintf(name, sizeof name, "t%d", i * 7 % COUNT);
    gguf_add_u32(&b, name, (uint32_t)(i * 7 % COUNT));
    gguf_add_weights(&b, name, WISP_F32, 1, (uint64_t[]){1}, &(float){(float)(i * 7 % COUNT)});
  }
  for (int i = 0; i < COUNT / 2; i += 2) { /* descriptions away from the order of the data */
    gguf_builder_tensor swapped = b.tensors[i];
    b.tensors[i] = b.tensors[COUNT - 1 - i];
    b.tensors[COUNT - 1 - i] = swapped;
  }
  size_t size;
  uint8_t *bytes = gguf_finish(&b, &size), *block;
  wisp_gguf gguf;
  cr_assert_eq(open_bytes(&gguf, NULL, bytes, size, &block), WISP_OK);
  for (int i = 0; i < COUNT; i++) {
    char name[16];
    snprintf(name, sizeof name, "t%d", i);
    uint32_t value = COUNT;
    cr_assert_eq(wisp_gguf_u32(&gguf, name, true, &value), WISP_OK);
    cr_assert_eq(value, (uint32_t)i);
    const wisp_gguf_tensor *tensor = wisp_gguf_find_tensor(&gguf, name);
    cr_assert_not_null(tensor, "%s", name);
    cr_assert_eq(wisp_load_f32(tensor->data), (float)i);
  }
  wisp_gguf_close(&gguf);
  free(block);
  free(bytes);
  gguf_end(&b);
}
