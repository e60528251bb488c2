/* SPDX-License-Identifier: Apache-2.0
 * torch.save files: tensors are found; whatever else a pickle or an archive wants is refused, naming it. */
#include <criterion/criterion.h>

#include "base/little_endian.h"
#include "model/checkpoint.h"
#include "model/pickle.h"
#include "unit/capture.h"
#include "unit/checkpoint_builder.h"

static char file_name[] = "x.bin";

/* ---- The machine --------------------------------------------------------------------------------------------------------- */

static wisp_status run_pickle(capture *said, const void *bytes, size_t size, size_t *count) {
  wisp_host host = capture_host(said);
  wisp_arena arena = {.host = &host};
  wisp_pickled_dict dict;
  uint8_t *block = malloc(size ? size : 1);
  memcpy(block, bytes, size);
  wisp_status status = wisp_pickle_read(&dict, &arena, file_name, block, size);
  if (count) *count = status == WISP_OK ? dict.count : 0;
  wisp_arena_free(&arena);
  free(block);
  return status;
}

static void expect_pickle(const void *bytes, size_t size, wisp_status expected, const char *words) {
  capture said;
  wisp_status status = run_pickle(&said, bytes, size, NULL);
  cr_assert_eq(status, expected, "status %s, expected %s (%s), said: %s", wisp_status_name(status), wisp_status_name(expected),
               words, said.error);
  cr_assert_eq(said.errors, expected == WISP_OK ? 0 : 1);
  if (expected != WISP_OK) {
    cr_assert_not_null(strstr(said.error, words), "'%s' does not name '%s'", said.error, words);
    cr_assert_not_null(strstr(said.error, file_name), "'%s' does not name the file", said.error);
  }
  cr_assert_eq(said.live, 0);
}

#define EXPECT(literal, expected, words) expect_pickle(literal, sizeof literal - 1, expected, words)

/* Programs that would run something. */
Test(pickle, hostile_imports) {
  EXPECT("\x80\x02"
         "cos\nsystem\nX\x02\0\0\0id\x85R.",
         WISP_ERROR_UNSUPPORTED, "import os.system");
  EXPECT("\x80\x02"
         "cposix\nsystem\nX\x02\0\0\0id\x85R.",
         WISP_ERROR_UNSUPPORTED, "import posix.system");
  EXPECT("\x80\x02"
         "c__builtin__\neval\nX\x01\0\0\0"
         "1\x85R.",
         WISP_ERROR_UNSUPPORTED, "import __builtin__.eval");
  EXPECT("\x80\x04\x8c\x08"
         "builtins\x8c\x04"
         "exec\x93\x8c\x04pass\x85R.",
         WISP_ERROR_UNSUPPORTED, "import builtins.exec");
  EXPECT("\x80\x02(ios\nsystem\n.", WISP_ERROR_UNSUPPORTED, "import os.system");
  EXPECT("\x80\x02"
         "ctorch\nload\n.",
         WISP_ERROR_UNSUPPORTED, "import torch.load");
  EXPECT("\x80\x02"
         "ctorch._utils\n_rebuild_tensor_v2.__globals__\n.",
         WISP_ERROR_UNSUPPORTED, "__globals__");
  EXPECT("\x80\x02"
         "ctorch\nLongStorage\n.",
         WISP_ERROR_UNSUPPORTED, "import torch.LongStorage");
  EXPECT("\x80\x02"
         "ccopyreg\n_reconstructor\n.",
         WISP_ERROR_UNSUPPORTED, "copyreg._reconstructor");
  /* Calling what may be named, in ways it is not meant to be. */
  EXPECT("\x80\x02"
         "ccollections\nOrderedDict\nK\x01\x85R.",
         WISP_ERROR_FORMAT, "a call that is none");
  EXPECT("\x80\x02"
         "ctorch\nFloatStorage\n)R.",
         WISP_ERROR_FORMAT, "a call that is none");
  EXPECT("\x80\x02K\x01)R.", WISP_ERROR_FORMAT, "a call that is none");
  EXPECT("\x80\x02"
         "ccollections\nOrderedDict\n)\x81.",
         WISP_ERROR_UNSUPPORTED, "instruction 0x81");
  EXPECT("\x80\x02}K\x01"
         "b.",
         WISP_OK, "");
  EXPECT("\x80\x02K\x01}b.", WISP_ERROR_FORMAT, "attributes of what has none");
  EXPECT("\x80\x02(o.", WISP_ERROR_UNSUPPORTED, "instruction 0x6f");
  EXPECT("\x80\x02P0\n.", WISP_ERROR_UNSUPPORTED, "instruction 0x50");
  EXPECT("\x80\x02\x82\x01.", WISP_ERROR_UNSUPPORTED, "instruction 0x82");
}

Test(pickle, malformed) {
  EXPECT("", WISP_ERROR_FORMAT, "ends too early");
  EXPECT(".", WISP_ERROR_FORMAT, "nothing on the stack");
  EXPECT("\x80\x01}.", WISP_ERROR_UNSUPPORTED, "protocol 1");
  EXPECT("\x80\x02].", WISP_ERROR_UNSUPPORTED, "holds a sequence");
  EXPECT("\x80\x02N.", WISP_ERROR_UNSUPPORTED, "holds None");
  EXPECT("\x80\x02}X\x01\0\0\0aK\x01s.", WISP_ERROR_UNSUPPORTED, "'a' is an int");
  EXPECT("\x80\x02}K\x01K\x01s.", WISP_ERROR_UNSUPPORTED, "is an int");
  EXPECT("\x80\x02}X\xff\xff\xff\xff"
         "a.",
         WISP_ERROR_FORMAT, "ends too early");
  EXPECT("\x80\x02t.", WISP_ERROR_FORMAT, "no mark");
  EXPECT("\x80\x02u.", WISP_ERROR_FORMAT, "no mark");
  EXPECT("\x80\x02}(K\x01u.", WISP_ERROR_FORMAT, "fit nowhere");
  EXPECT("\x80\x02K\x01K\x01s.", WISP_ERROR_FORMAT, "fits nowhere");
  EXPECT("\x80\x02(K\x01R.", WISP_ERROR_FORMAT, "nothing on the stack");
  EXPECT("\x80\x02h\x05.", WISP_ERROR_FORMAT, "unknown memo");
  EXPECT("\x80\x02}r\xff\xff\xff\xff.", WISP_ERROR_FORMAT, "impossible memo");
  EXPECT("\x80\x02"
         "q\x01.",
         WISP_ERROR_FORMAT, "nothing on the stack");
  EXPECT("\x80\x02\x8a\x09"
         "123456789.",
         WISP_ERROR_FORMAT, "more than 64 bits");
  EXPECT("\x80\x02)Q.", WISP_ERROR_FORMAT, "a storage that is none");
  EXPECT("\x80\x02"
         "ctorch._utils\n_rebuild_tensor_v2\n)R.",
         WISP_ERROR_FORMAT, "a tensor that is none");
  EXPECT("\x80\x02}(", WISP_ERROR_FORMAT, "ends too early");
  EXPECT("\x80\x02}}.", WISP_ERROR_UNSUPPORTED, "expected a dict of tensors");
}

/* Depth costs no stack, and a list that holds itself ends nowhere it is walked. */
Test(pickle, depth_and_cycles) {
  blob b = {0};
  blob_text(&b, "\x80\x02}");
  for (int i = 0; i < 200000; i++) blob_text(&b, ")");
  for (int i = 0; i < 199999; i++) blob_text(&b, "\x86");
  blob_text(&b, "00}.");
  capture said;
  cr_assert_eq(run_pickle(&said, b.data, b.size, NULL), WISP_OK);
  cr_assert_leq(said.largest, 64 * b.size + 65536);
  blob_free(&b);
  EXPECT("\x80\x02]q\x01h\x01"
         "a0}.",
         WISP_OK, "");
}

Test(pickle, no_memory) {
  blob b = {0};
  pickle_begin(&b);
  pickle_tensor(&b, "a", "HalfStorage", "0", (uint8_t[]){2, 3}, 2);
  pickle_end(&b);
  for (unsigned fail_at = 1;; fail_at++) {
    capture said;
    wisp_host host = capture_host(&said);
    said.fail_at = fail_at;
    wisp_arena arena = {.host = &host};
    wisp_pickled_dict dict;
    wisp_status status = wisp_pickle_read(&dict, &arena, file_name, b.data, b.size);
    wisp_arena_free(&arena);
    cr_assert_eq(said.live, 0);
    if (status == WISP_OK) break;
    cr_assert_eq(status, WISP_ERROR_MEMORY);
    cr_assert_eq(said.errors, 1);
  }
  for (size_t size = 0; size < b.size; size++) {
    capture said;
    cr_assert_neq(run_pickle(&said, b.data, size, NULL), WISP_OK, "cut at %zu", size);
    cr_assert_eq(said.errors, 1);
  }
  blob_free(&b);
}

/* ---- The archive --------------------------------------------------------------------------------------------------------- */

static wisp_status read_torch(capture *said, const uint8_t *bytes, size_t size, wisp_checkpoint *c, uint8_t **block) {
  static wisp_host host;
  host = capture_host(said);
  *block = malloc(size ? size : 1);
  memcpy(*block, bytes, size);
  *c = (wisp_checkpoint){.host = &host, .arena = {.host = &host}};
  wisp_status status = wisp_torch_read(c, &(wisp_bytes){.data = *block, .size = size, .name = file_name});
  return status == WISP_OK ? wisp_checkpoint_index(c) : status;
}

static void expect_torch(const blob *b, wisp_status expected, const char *words) {
  capture said;
  wisp_checkpoint c;
  uint8_t *block;
  wisp_status status = read_torch(&said, b->data, b->size, &c, &block);
  cr_assert_eq(status, expected, "status %s, expected %s (%s), said: %s", wisp_status_name(status), wisp_status_name(expected),
               words, said.error);
  cr_assert_eq(said.errors, expected == WISP_OK ? 0 : 1);
  if (expected != WISP_OK) cr_assert_not_null(strstr(said.error, words), "'%s' does not name '%s'", said.error, words);
  wisp_checkpoint_close(&c);
  cr_assert_eq(said.live, 0);
  free(block);
}

Test(torch_zip, good_file) {
  blob b = torch_blob();
  capture said;
  wisp_checkpoint c;
  uint8_t *block;
  cr_assert_eq(read_torch(&said, b.data, b.size, &c, &block), WISP_OK, "%s", said.error);
  const wisp_stored *a = wisp_checkpoint_find(&c, "a");
  cr_assert(a && wisp_checkpoint_find(&c, "b"));
  cr_assert_eq(a->dimensions, 2);
  cr_assert_eq(a->shape[1], 3);
  cr_assert_eq(a->bytes, 24);
  cr_assert_eq(wisp_load_f32(a->data + 20), 5);
  cr_assert_eq(wisp_load_f32(wisp_checkpoint_find(&c, "b")->data), 10);
  wisp_checkpoint_close(&c);
  free(block);
  /* Cut anywhere, and with each 32-bit word overwritten, it is refused or read, but never both or neither. */
  for (size_t size = 0; size < b.size; size++) {
    cr_assert_neq(read_torch(&said, b.data, size, &c, &block), WISP_OK);
    cr_assert_eq(said.errors, 1);
    wisp_checkpoint_close(&c);
    free(block);
  }
  for (size_t at = 0; at + 4 <= b.size; at++) {
    blob copy = {0};
    blob_add(&copy, b.data, b.size);
    memset(copy.data + at, 0xff, 4);
    wisp_status status = read_torch(&said, copy.data, copy.size, &c, &block);
    cr_assert_eq(said.errors, status == WISP_OK ? 0 : 1);
    wisp_checkpoint_close(&c);
    cr_assert_eq(said.live, 0);
    free(block);
    blob_free(&copy);
  }
  blob_free(&b);
}

/* One tensor "a" of shape, its storage of so many bytes. */
static blob archive_of(const uint8_t *shape, unsigned dimensions, size_t storage_bytes, uint16_t method, const char *order) {
  static const uint8_t zeros[4096];
  blob pickle = {0};
  pickle_begin(&pickle);
  pickle_tensor(&pickle, "a", "FloatStorage", "0", shape, dimensions);
  pickle_end(&pickle);
  zip_builder zip = {0};
  zip_add(&zip, "m/data.pkl", pickle.data, pickle.size);
  zip_add(&zip, "m/byteorder", order, strlen(order));
  zip.method = method;
  if (storage_bytes) zip_add(&zip, "m/data/0", zeros, storage_bytes);
  zip_finish(&zip);
  blob_free(&pickle);
  blob_free(&zip.directory);
  return zip.file;
}

Test(torch_zip, refused) {
  const struct {
    uint8_t shape[4];
    unsigned dimensions;
    size_t bytes;
    uint16_t method;
    const char *order;
    wisp_status expected;
    const char *words;
  } cases[] = {
      {{2, 3}, 2, 24, 0, "little", WISP_OK, ""},
      {{2, 3}, 2, 24, 8, "little", WISP_ERROR_UNSUPPORTED, "'m/data/0' is compressed"},
      {{2, 3}, 2, 24, 0, "big", WISP_ERROR_UNSUPPORTED, "byteorder"},
      {{2, 3}, 2, 20, 0, "little", WISP_ERROR_FORMAT, "does not fit into its storage"},
      {{2, 3}, 2, 0, 0, "little", WISP_ERROR_FORMAT, "no member data/0"},
      {{0, 3}, 2, 24, 0, "little", WISP_ERROR_FORMAT, "is empty"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    blob b = archive_of(cases[i].shape, cases[i].dimensions, cases[i].bytes, cases[i].method, cases[i].order);
    expect_torch(&b, cases[i].expected, cases[i].words);
    blob_free(&b);
  }
  blob old = {0};
  blob_text(&old, "\x80\x02\x8a\nl\xfc\x9c"
                  "F\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.");
  expect_torch(&old, WISP_ERROR_UNSUPPORTED, "since version 1.6");
  blob_free(&old);
  zip_builder zip = {0};
  zip_add(&zip, "m/hello", "x", 1);
  zip_finish(&zip);
  expect_torch(&zip.file, WISP_ERROR_FORMAT, "no member data.pkl");
  zip_free(&zip);
}

/* A small archive whose tensors claim the same storage over and over. */
Test(torch_zip, shared_without_end) {
  static const uint8_t zeros[4096];
  blob pickle = {0};
  pickle_begin(&pickle);
  for (int i = 0; i < 40; i++) {
    char name[16];
    snprintf(name, sizeof name, "t%d", i);
    pickle_tensor(&pickle, name, "FloatStorage", "0", (uint8_t[]){8, 128}, 2);
  }
  pickle_end(&pickle);
  zip_builder zip = {0};
  zip_add(&zip, "m/data.pkl", pickle.data, pickle.size);
  zip_add(&zip, "m/data/0", zeros, sizeof zeros);
  zip_finish(&zip);
  expect_torch(&zip.file, WISP_ERROR_FORMAT, "together more than");
  zip_free(&zip);
  blob_free(&pickle);
}
