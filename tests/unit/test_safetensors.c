/* SPDX-License-Identifier: Apache-2.0
 * The safetensors reader: what a good file holds is found; each way of being bad is refused with one line that names it. */
#include <criterion/criterion.h>

#include "model/checkpoint.h"
#include "unit/capture.h"
#include "unit/checkpoint_builder.h"

static char file_name[] = "x.safetensors";

/* Reads and indexes bytes in a block of exactly their size. */
static wisp_status read_bytes(wisp_checkpoint *c, const wisp_host *host, const uint8_t *bytes, size_t size, uint8_t **block) {
  *block = malloc(size ? size : 1);
  memcpy(*block, bytes, size);
  *c = (wisp_checkpoint){.host = host, .arena = {.host = host}};
  wisp_status status = wisp_safetensors_read(c, &(wisp_bytes){.data = *block, .size = size, .name = file_name});
  return status == WISP_OK ? wisp_checkpoint_index(c) : status;
}

static void expect_bytes(const uint8_t *bytes, size_t size, wisp_status expected, const char *words) {
  capture said;
  wisp_host host = capture_host(&said);
  wisp_checkpoint c;
  uint8_t *block;
  wisp_status status = read_bytes(&c, &host, bytes, size, &block);
  cr_assert_eq(status, expected, "status %s, expected %s (%s), said: %s", wisp_status_name(status), wisp_status_name(expected),
               words, said.error);
  cr_assert_eq(said.errors, expected == WISP_OK ? 0 : 1);
  if (expected != WISP_OK) {
    cr_assert_not_null(strstr(said.error, words), "'%s' does not name '%s'", said.error, words);
    cr_assert_not_null(strstr(said.error, file_name), "'%s' does not name the file", said.error);
  }
  wisp_checkpoint_close(&c);
  cr_assert_eq(said.live, 0);
  free(block);
}

/* A header over 24 bytes of data. */
static void expect(const char *header, wisp_status expected, const char *words) {
  blob b = safetensors_blob(header, 24);
  expect_bytes(b.data, b.size, expected, words);
  blob_free(&b);
}

#define A(dtype, shape, offsets) "{\"a\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offsets "}}"

Test(safetensors, good_file) {
  blob b = safetensors_blob("{\"__metadata__\":{\"format\":\"pt\"},"
                            "\"z\":{\"dtype\":\"BF16\",\"shape\":[2,2],\"data_offsets\":[16,24]},"
                            "\"a\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,12]},"
                            "\"s\":{\"dtype\":\"F16\",\"shape\":[],\"data_offsets\":[12,14]}}   ",
                            24);
  capture said;
  wisp_host host = capture_host(&said);
  wisp_checkpoint c;
  uint8_t *block;
  cr_assert_eq(read_bytes(&c, &host, b.data, b.size, &block), WISP_OK, "%s", said.error);
  cr_assert_eq(c.count, 3);
  const wisp_stored *z = wisp_checkpoint_find(&c, "z"), *s = wisp_checkpoint_find(&c, "s");
  cr_assert(z && s && wisp_checkpoint_find(&c, "a") && !wisp_checkpoint_find(&c, "b"));
  cr_assert_eq(z->type->dtype, WISP_BF16);
  cr_assert_eq(z->dimensions, 2);
  cr_assert_eq(z->shape[0], 2);
  cr_assert_eq(z->bytes, 8);
  cr_assert_eq(z->data[0], 16);
  cr_assert_eq(s->dimensions, 0);
  cr_assert_eq(s->bytes, 2);
  wisp_checkpoint_close(&c);
  cr_assert_eq(said.live, 0);
  free(block);
  blob_free(&b);
}

Test(safetensors, header) {
  expect_bytes((const uint8_t *)"", 0, WISP_ERROR_FORMAT, "0 bytes");
  expect_bytes((const uint8_t *)"\1\0\0\0", 4, WISP_ERROR_FORMAT, "not a safetensors file");
  expect_bytes((const uint8_t *)"\0\0\0\0\0\0\0\0", 8, WISP_ERROR_FORMAT, "a header of 0 bytes");
  expect_bytes((const uint8_t *)"\xff\xff\xff\xff\xff\xff\xff\xff{}", 10, WISP_ERROR_FORMAT, "18446744073709551615");
  expect_bytes((const uint8_t *)"\x03\0\0\0\0\0\0\0{}", 10, WISP_ERROR_FORMAT, "a header of 3 bytes");
  expect("[]", WISP_ERROR_FORMAT, "not a JSON object");
  expect("{\"a\":", WISP_ERROR_FORMAT, "not valid JSON");
  expect("{\"a\":1}", WISP_ERROR_FORMAT, "'a' is not an object");
  char deep[4096];
  memset(deep, '[', sizeof deep);
  memcpy(deep, "{\"a\":", 5);
  deep[sizeof deep - 1] = 0;
  expect(deep, WISP_ERROR_FORMAT, "not valid JSON");
}

Test(safetensors, tensors) {
  expect(A("F32", "[6]", "[0,24]"), WISP_OK, "");
  expect("{\"a\":{\"shape\":[6],\"data_offsets\":[0,24]}}", WISP_ERROR_FORMAT, "has no \"dtype\"");
  expect(A("I64", "[3]", "[0,24]"), WISP_ERROR_UNSUPPORTED, "'a' has dtype I64");
  expect(A("F8_E4M3", "[24]", "[0,24]"), WISP_ERROR_UNSUPPORTED, "F8_E4M3");
  expect(A("F32", "6", "[0,24]"), WISP_ERROR_FORMAT, "has no \"shape\"");
  expect(A("F32", "[6.5]", "[0,24]"), WISP_ERROR_FORMAT, "not of whole numbers");
  expect(A("F32", "[-6]", "[0,24]"), WISP_ERROR_FORMAT, "not of whole numbers");
  expect(A("F32", "[0]", "[0,0]"), WISP_ERROR_FORMAT, "impossible shape");
  expect(A("F32", "[1,1,1,1,6]", "[0,24]"), WISP_ERROR_FORMAT, "more than 4 dimensions");
  expect(A("F32", "[281474976710656,65536]", "[0,24]"), WISP_ERROR_FORMAT, "impossible shape");
  expect(A("F32", "[6]", "[0,20]"), WISP_ERROR_FORMAT, "20 bytes between its data_offsets");
  expect(A("F32", "[6]", "[24,0]"), WISP_ERROR_FORMAT, "data_offsets 24 to 0");
  expect(A("F32", "[7]", "[0,28]"), WISP_ERROR_FORMAT, "there are 24 bytes");
  expect(A("F32", "[6]", "[0]"), WISP_ERROR_FORMAT, "has no \"data_offsets\"");
  expect(A("F32", "[6]", "[0,1e300]"), WISP_ERROR_FORMAT, "has no \"data_offsets\"");
}

Test(safetensors, between_tensors) {
  expect("{\"a\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,12]},"
         "\"b\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[8,20]}}",
         WISP_ERROR_FORMAT, "'a' and 'b' overlap");
  expect("{\"a\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,12]},"
         "\"a\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[12,24]}}",
         WISP_ERROR_FORMAT, "'a' appears twice");
}

/* Cut anywhere, the file is refused; an allocation that fails is a clean error. */
Test(safetensors, cut_and_no_memory) {
  blob b = safetensors_blob(A("F32", "[6]", "[0,24]"), 24);
  for (size_t size = 0; size < b.size; size++) {
    capture said;
    wisp_host host = capture_host(&said);
    wisp_checkpoint c;
    uint8_t *block;
    cr_assert_eq(read_bytes(&c, &host, b.data, size, &block), WISP_ERROR_FORMAT);
    cr_assert_eq(said.errors, 1);
    wisp_checkpoint_close(&c);
    free(block);
  }
  for (unsigned fail_at = 1;; fail_at++) {
    capture said;
    wisp_host host = capture_host(&said);
    said.fail_at = fail_at;
    wisp_checkpoint c;
    uint8_t *block;
    wisp_status status = read_bytes(&c, &host, b.data, b.size, &block);
    wisp_checkpoint_close(&c);
    free(block);
    cr_assert_eq(said.live, 0);
    if (status == WISP_OK) break;
    cr_assert_eq(status, WISP_ERROR_MEMORY);
    cr_assert_eq(said.errors, 1);
  }
  blob_free(&b);
}
