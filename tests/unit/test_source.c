/* SPDX-License-Identifier: Apache-2.0
 * Model bytes from a path, memory, a file descriptor, a callback; and each way in which that fails. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/source.h"
#include "unit/capture.h"

enum { SIZE = 20000 };
static uint8_t content[SIZE];
static char path[64];

static void make_file(void) {
  for (int i = 0; i < SIZE; i++) content[i] = (uint8_t)(i * 31 + i / 256);
  strcpy(path, "/tmp/wisp-source-XXXXXX");
  int fd = mkstemp(path);
  cr_assert(fd >= 0 && write(fd, content, SIZE) == SIZE);
  close(fd);
}

static void remove_file(void) {
  unlink(path);
}

TestSuite(source, .init = make_file, .fini = remove_file);

static void expect_bytes(wisp_model_source source, const uint8_t *data, size_t size) {
  capture said;
  wisp_host host = capture_host(&said);
  wisp_bytes bytes;
  cr_assert_eq(wisp_bytes_open(&bytes, &host, &source), WISP_OK, "%s", said.error);
  cr_assert_eq(bytes.size, size);
  cr_assert_eq(memcmp(bytes.data, data, size), 0);
  cr_assert_not_null(bytes.name);
  wisp_bytes_close(&bytes, &host);
  wisp_bytes_close(&bytes, &host); /* accepts a zeroed struct */
  cr_assert_eq(said.live, 0);
}

static void expect_failure(wisp_model_source source, wisp_status expected, const char *words) {
  capture said;
  wisp_host host = capture_host(&said);
  wisp_bytes bytes;
  wisp_status status = wisp_bytes_open(&bytes, &host, &source);
  cr_assert_eq(status, expected, "%s: %s", words, wisp_status_name(status));
  cr_assert_eq(said.errors, 1);
  cr_assert_not_null(strstr(said.error, words), "'%s' lacks '%s'", said.error, words);
  if (source.path) cr_assert_not_null(strstr(said.error, source.path), "'%s' does not name the file", said.error);
  cr_assert_null(bytes.data);
  cr_assert_eq(said.live, 0);
}

static bool read_content(void *user, uint64_t offset, void *buffer, uint64_t size) {
  memcpy(buffer, content + offset, size);
  return true;
}

static bool read_nothing(void *user, uint64_t offset, void *buffer, uint64_t size) {
  return false;
}

Test(source, every_kind) {
  expect_bytes((wisp_model_source){.path = path, .fd = -1}, content, SIZE);
  expect_bytes((wisp_model_source){.path = path}, content, SIZE); /* fd 0 of a zeroed struct is no second source */
  expect_bytes((wisp_model_source){.data = content, .size = SIZE, .fd = -1}, content, SIZE);
  expect_bytes((wisp_model_source){.read = read_content, .size = SIZE, .fd = -1}, content, SIZE);
  int fd = open(path, O_RDONLY);
  expect_bytes((wisp_model_source){.fd = fd}, content, SIZE);
  static const uint64_t offsets[] = {0, 1, 4095, 4096, 4097, 12345, SIZE - 1};
  for (size_t i = 0; i < sizeof offsets / sizeof *offsets; i++) {
    expect_bytes((wisp_model_source){.fd = fd, .offset = offsets[i]}, content + offsets[i], SIZE - offsets[i]);
    expect_bytes((wisp_model_source){.fd = fd, .offset = offsets[i], .size = 1}, content + offsets[i], 1);
  }
  cr_assert_eq(lseek(fd, 0, SEEK_CUR), 0);
  close(fd);
}

Test(source, failures) {
  expect_failure((wisp_model_source){.path = "/nonexistent/model.gguf", .fd = -1}, WISP_ERROR_IO, "No such file");
  expect_failure((wisp_model_source){.path = "/tmp", .fd = -1}, WISP_ERROR_IO, "is a directory");
  expect_failure((wisp_model_source){.path = "/dev/null", .fd = -1}, WISP_ERROR_IO, "not a regular file");
  expect_failure((wisp_model_source){.fd = -1}, WISP_ERROR_ARGUMENT, "exactly one");
  expect_failure((wisp_model_source){.synthetic = "tiny", .fd = -1}, WISP_ERROR_ARGUMENT, "a file is needed");
  expect_failure((wisp_model_source){.data = content, .size = 1, .read = read_content}, WISP_ERROR_ARGUMENT, "exactly one");
  expect_failure((wisp_model_source){.data = content, .size = 1, .fd = 1}, WISP_ERROR_ARGUMENT, "exactly one");
  expect_failure((wisp_model_source){.data = content, .fd = -1}, WISP_ERROR_FORMAT, "(memory): no bytes");
  expect_failure((wisp_model_source){.read = read_content, .fd = -1}, WISP_ERROR_FORMAT, "(read callback): no bytes");
  expect_failure((wisp_model_source){.read = read_nothing, .size = 99, .fd = -1}, WISP_ERROR_IO, "short read: 99 bytes");
  expect_failure((wisp_model_source){.read = read_nothing, .size = UINT64_MAX, .fd = -1}, WISP_ERROR_MEMORY, "(read callback)");
  expect_failure((wisp_model_source){.fd = 12345}, WISP_ERROR_IO, "(fd 12345): cannot read");

  int fd = open(path, O_RDONLY);
  expect_failure((wisp_model_source){.fd = fd, .offset = SIZE}, WISP_ERROR_IO, "but the file has 20000");
  expect_failure((wisp_model_source){.fd = fd, .offset = 1, .size = SIZE}, WISP_ERROR_IO, "but the file has 20000");
  expect_failure((wisp_model_source){.fd = fd, .offset = 1, .size = UINT64_MAX}, WISP_ERROR_IO, "but the file has 20000");
  close(fd);
  cr_assert_eq(truncate(path, 0), 0);
  expect_failure((wisp_model_source){.path = path, .fd = -1}, WISP_ERROR_FORMAT, "file is empty");

  char fifo[sizeof path + 8];
  snprintf(fifo, sizeof fifo, "%s.fifo", path);
  cr_assert_eq(mkfifo(fifo, 0600), 0);
  expect_failure((wisp_model_source){.path = fifo, .fd = -1}, WISP_ERROR_IO, "not a regular file");
  unlink(fifo);

  uid_t user = geteuid();
  cr_assert_eq(chmod(path, 0), 0);
  if (user == 0) cr_assert_eq(seteuid(65534), 0); /* root reads everything */
  expect_failure((wisp_model_source){.path = path, .fd = -1}, WISP_ERROR_IO, "Permission denied");
  cr_assert_eq(seteuid(user), 0);
}
