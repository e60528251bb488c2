/* SPDX-License-Identifier: Apache-2.0
 * The GGUF writer: what it writes reads back as what went in, and a destination that fails is noticed. */
#include <criterion/criterion.h>

#include "model/gguf_write.h"
#include "unit/capture.h"
#include "unit/gguf_builder.h"
#include "unit/memory_file.h"

/* A file with a key of every kind and three tensors, one of them of an odd size. */
static uint8_t *sample(size_t *size) {
  gguf_builder b;
  gguf_begin(&b);
  b.alignment = 64;
  gguf_add_u32(&b, "general.alignment", 64);
  gguf_add_string(&b, "general.architecture", "llama");
  gguf_add_string(&b, "empty", "");
  gguf_add_bool(&b, "flag", true);
  gguf_add_f32(&b, "pi", 3.14159f);
  const uint64_t big = 0x0123456789abcdefu;
  gguf_add_scalar(&b, "big", WISP_GGUF_U64, &big);
  gguf_add_scalar(&b, "signed", WISP_GGUF_I64, &big);
  gguf_add_scalar(&b, "byte", WISP_GGUF_U8, &big);
  const double real = -1e300;
  gguf_add_scalar(&b, "double", WISP_GGUF_F64, &real);
  const char *const words[] = {"a", "", "long word with blanks"};
  gguf_add_strings(&b, "words", words, 3);
  gguf_add_strings(&b, "no words", words, 0);
  const int16_t shorts[] = {-1, 2, -3, 4, -5};
  gguf_add_array(&b, "shorts", WISP_GGUF_I16, shorts, 5);
  gguf_add_array(&b, "nothing", WISP_GGUF_F32, shorts, 0);
  float weights[96];
  for (int i = 0; i < 96; i++) weights[i] = (float)(i - 40) / 16;
  gguf_add_weights(&b, "a.weight", WISP_F32, 1, (const uint64_t[]){7}, weights);
  gguf_add_weights(&b, "b.weight", WISP_Q4_0, 2, (const uint64_t[]){32, 3}, weights);
  gguf_add_weights(&b, "c.weight", WISP_F16, 4, (const uint64_t[]){5, 1, 2, 3}, weights);
  uint8_t *bytes = gguf_finish(&b, size);
  gguf_end(&b);
  return bytes;
}

static void open_bytes(wisp_gguf *gguf, const wisp_host *host, const uint8_t *data, size_t size) {
  static char name[] = "(test)";
  const wisp_bytes bytes = {.data = data, .size = size, .name = name};
  cr_assert_eq(wisp_gguf_open(gguf, host, &bytes), WISP_OK);
}

static void begin_copy(wisp_gguf_writer *writer, const wisp_host *host, const wisp_gguf *source, memory_file *file) {
  cr_assert_eq(wisp_gguf_writer_open(writer, host, memory_write, file), WISP_OK);
  for (uint64_t i = 0; i < source->entry_count; i++) cr_assert_eq(wisp_gguf_writer_set(writer, &source->entries[i]), WISP_OK);
  for (uint64_t i = 0; i < source->tensor_count; i++) {
    const wisp_gguf_tensor *t = &source->tensors[i];
    cr_assert_eq(wisp_gguf_writer_add(writer, t->name, t->type, t->dimensions, t->shape), WISP_OK);
  }
}

/* All tensors' data, in pieces of at most step bytes. */
static wisp_status copy_data(wisp_gguf_writer *writer, const wisp_gguf *source, size_t step) {
  for (uint64_t i = 0; i < source->tensor_count; i++) {
    const wisp_gguf_tensor *t = &source->tensors[i];
    for (size_t at = 0; at < t->bytes; at += step) {
      const size_t left = (size_t)t->bytes - at;
      WISP_TRY(wisp_gguf_writer_data(writer, t->data + at, left < step ? left : step));
    }
  }
  return WISP_OK;
}

static void assert_text(wisp_text a, wisp_text b) {
  cr_assert(a.size == b.size && !memcmp(a.bytes, b.bytes, a.size));
}

static void assert_same_entry(const wisp_gguf_entry *a, const wisp_gguf_entry *b) {
  assert_text(a->key, b->key);
  cr_assert(a->type == b->type && a->element == b->element && a->count == b->count, "%.*s", WISP_TEXT_ARGS(a->key));
  if (a->element == WISP_GGUF_STRING) {
    for (uint64_t i = 0; i < a->count; i++) assert_text(a->strings[i], b->strings[i]);
    return;
  }
  for (uint64_t i = 0; i < a->count; i++) {
    cr_assert_eq(wisp_gguf_array_integer(a, i), wisp_gguf_array_integer(b, i));
    cr_assert_eq(wisp_gguf_array_float(a, i), wisp_gguf_array_float(b, i));
  }
}

Test(gguf_write, round_trip) {
  capture said;
  const wisp_host host = capture_host(&said);
  size_t size;
  uint8_t *bytes = sample(&size);
  wisp_gguf source, copy;
  open_bytes(&source, &host, bytes, size);
  static const size_t steps[] = {1, 3, 1000};
  for (size_t s = 0; s < 3; s++) {
    memory_file file = {0};
    wisp_gguf_writer writer;
    begin_copy(&writer, &host, &source, &file);
    cr_assert_eq(wisp_gguf_writer_begin(&writer), WISP_OK);
    cr_assert_eq(copy_data(&writer, &source, steps[s]), WISP_OK);
    cr_assert_eq(wisp_gguf_writer_end(&writer), WISP_OK);
    wisp_gguf_writer_close(&writer);

    open_bytes(&copy, &host, file.data, file.size);
    cr_assert_eq(copy.entry_count, source.entry_count);
    cr_assert_eq(wisp_gguf_array_integer(wisp_gguf_find(&copy, "general.alignment"), 0), WISP_GGUF_ALIGNMENT);
    for (uint64_t i = 1; i < source.entry_count; i++) assert_same_entry(&source.entries[i], &copy.entries[i]);
    cr_assert_eq(copy.tensor_count, source.tensor_count);
    for (uint64_t i = 0; i < source.tensor_count; i++) {
      const wisp_gguf_tensor *a = &source.tensors[i], *b = &copy.tensors[i];
      assert_text(a->name, b->name);
      cr_assert(a->type == b->type && a->dimensions == b->dimensions && a->bytes == b->bytes);
      cr_assert_eq(memcmp(a->shape, b->shape, sizeof a->shape), 0);
      cr_assert_eq(memcmp(a->data, b->data, a->bytes), 0, "tensor %d", (int)i);
      cr_assert_eq((b->data - file.data) % WISP_GGUF_ALIGNMENT, 0);
    }
    wisp_gguf_close(&copy);
    free(file.data);
  }
  wisp_gguf_close(&source);
  free(bytes);
  cr_assert_eq(said.live, 0);
  cr_assert_eq(said.errors, 0, "%s", said.error);
}

Test(gguf_write, keys) {
  capture said;
  const wisp_host host = capture_host(&said);
  memory_file file = {0};
  wisp_gguf_writer writer;
  cr_assert_eq(wisp_gguf_writer_open(&writer, &host, memory_write, &file), WISP_OK);
  char key[100][8];
  for (int i = 0; i < 100; i++) { /* more than the table's first size */
    snprintf(key[i], sizeof key[i], "k%d", i);
    cr_assert_eq(wisp_gguf_writer_set_u32(&writer, key[i], (uint32_t)i), WISP_OK);
  }
  cr_assert_eq(wisp_gguf_writer_set_u32(&writer, "k7", 7000), WISP_OK);
  cr_assert_eq(wisp_gguf_writer_set_string(&writer, "k8", "eight"), WISP_OK);
  wisp_gguf_writer_remove(&writer, "k9");
  wisp_gguf_writer_remove(&writer, "absent");
  cr_assert_eq(wisp_gguf_writer_begin(&writer), WISP_OK);
  cr_assert_eq(wisp_gguf_writer_end(&writer), WISP_OK);
  wisp_gguf_writer_close(&writer);

  wisp_gguf gguf;
  open_bytes(&gguf, &host, file.data, file.size);
  cr_assert_eq(gguf.entry_count, 100); /* general.alignment came, k9 went */
  cr_assert_null(wisp_gguf_find(&gguf, "k9"));
  cr_assert_eq(wisp_gguf_array_integer(wisp_gguf_find(&gguf, "k7"), 0), 7000);
  cr_assert_eq(wisp_gguf_array_integer(wisp_gguf_find(&gguf, "k99"), 0), 99);
  wisp_text text;
  cr_assert_eq(wisp_gguf_string(&gguf, "k8", true, &text), WISP_OK);
  cr_assert(text.size == 5 && !memcmp(text.bytes, "eight", 5));
  wisp_gguf_close(&gguf);
  free(file.data);
  cr_assert_eq(said.live, 0);
}

/* Wherever the destination fails, there is one error line, and the status says so. */
Test(gguf_write, full_destination) {
  capture said;
  wisp_host host = capture_host(&said);
  size_t size;
  uint8_t *bytes = sample(&size);
  for (size_t limit = 1; limit < 700; limit += 97) {
    wisp_gguf source;
    host = capture_host(&said);
    open_bytes(&source, &host, bytes, size);
    memory_file file = {.limit = limit};
    wisp_gguf_writer writer;
    begin_copy(&writer, &host, &source, &file);
    wisp_status status = wisp_gguf_writer_begin(&writer);
    if (status == WISP_OK) status = copy_data(&writer, &source, 16);
    if (status == WISP_OK) status = wisp_gguf_writer_end(&writer);
    cr_assert_eq(status, WISP_ERROR_IO);
    cr_assert_eq(said.errors, 1);
    wisp_gguf_writer_close(&writer);
    wisp_gguf_close(&source);
    free(file.data);
    cr_assert_eq(said.live, 0);
  }
  free(bytes);
}

Test(gguf_write, wrong_amount_of_data) {
  capture said;
  const wisp_host host = capture_host(&said);
  memory_file file = {0};
  wisp_gguf_writer writer;
  const uint64_t shape[2] = {8, 2};
  const float values[20] = {0};
  cr_assert_eq(wisp_gguf_writer_open(&writer, &host, memory_write, &file), WISP_OK);
  cr_assert_eq(wisp_gguf_writer_add(&writer, (wisp_text){"x", 1}, wisp_dtype_find(WISP_F32), 2, shape), WISP_OK);
  cr_assert_eq(wisp_gguf_writer_begin(&writer), WISP_OK);
  cr_assert_eq(wisp_gguf_writer_data(&writer, values, 68), WISP_ERROR_ARGUMENT);
  cr_assert_eq(wisp_gguf_writer_data(&writer, values, 60), WISP_OK);
  cr_assert_eq(wisp_gguf_writer_end(&writer), WISP_ERROR_ARGUMENT);
  cr_assert_eq(wisp_gguf_writer_data(&writer, values, 4), WISP_OK);
  cr_assert_eq(wisp_gguf_writer_data(&writer, values, 1), WISP_ERROR_ARGUMENT);
  cr_assert_eq(wisp_gguf_writer_end(&writer), WISP_OK);
  cr_assert_eq(said.errors, 3);
  wisp_gguf_writer_close(&writer);
  free(file.data);
}
