/* SPDX-License-Identifier: Apache-2.0 */
#ifndef _FILE_OFFSET_BITS
#define _FILE_OFFSET_BITS 64
#endif
#include "base/source.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#ifdef _WIN32
#include <io.h>
#include <windows.h>
#else
#include <sys/mman.h>
#include <unistd.h>
#endif

/* ---- What differs between systems: opening, size, mapping and reading of a file descriptor ------------------------- */

#ifdef _WIN32

static int open_file(const char *path) { /* path is UTF-8 */
  wchar_t wide[1024];
  if (!MultiByteToWideChar(CP_UTF8, MB_ERR_INVALID_CHARS, path, -1, wide, 1024)) {
    errno = ENOENT;
    return -1;
  }
  /* _wopen says "permission denied" of a directory; open it as POSIX does, so that the caller can tell. */
  HANDLE handle = CreateFileW(wide, GENERIC_READ, FILE_SHARE_READ, NULL, OPEN_EXISTING, FILE_FLAG_BACKUP_SEMANTICS, NULL);
  if (handle == INVALID_HANDLE_VALUE) {
    errno = GetLastError() == ERROR_ACCESS_DENIED ? EACCES : ENOENT;
    return -1;
  }
  int fd = _open_osfhandle((intptr_t)handle, _O_RDONLY | _O_BINARY);
  if (fd < 0) CloseHandle(handle);
  return fd;
}

static void close_file(int fd) {
  _close(fd);
}

static uint64_t page_size(void) {
  SYSTEM_INFO info;
  GetSystemInfo(&info);
  return info.dwAllocationGranularity;
}

static void *map(int fd, uint64_t offset, uint64_t size) {
  HANDLE mapping = CreateFileMappingW((HANDLE)_get_osfhandle(fd), NULL, PAGE_READONLY, 0, 0, NULL);
  if (!mapping) return NULL;
  void *base = MapViewOfFile(mapping, FILE_MAP_READ, (DWORD)(offset >> 32), (DWORD)offset, (SIZE_T)size);
  CloseHandle(mapping); /* the view keeps it alive */
  return base;
}

static void unmap(void *base, uint64_t size) {
  UnmapViewOfFile(base);
}

static void release(void *base, uint64_t size) {
  VirtualUnlock(base, (SIZE_T)size); /* of pages that are not locked: takes them out of the working set */
}

static int64_t read_at(int fd, void *buffer, uint64_t size, uint64_t offset) {
  OVERLAPPED at = {.Offset = (DWORD)offset, .OffsetHigh = (DWORD)(offset >> 32)};
  DWORD done = 0;
  DWORD wanted = size < (1u << 30) ? (DWORD)size : 1u << 30;
  if (ReadFile((HANDLE)_get_osfhandle(fd), buffer, wanted, &done, &at)) return done;
  if (GetLastError() == ERROR_HANDLE_EOF) return 0;
  errno = EIO;
  return -1;
}

typedef struct _stat64 file_stat;
static int stat_file(int fd, file_stat *info) {
  return _fstat64(fd, info);
}

#else

static int open_file(const char *path) {
  return open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a FIFO is refused, not waited for */
}

static void close_file(int fd) {
  close(fd);
}

static uint64_t page_size(void) {
  return (uint64_t)sysconf(_SC_PAGESIZE);
}

static void *map(int fd, uint64_t offset, uint64_t size) {
  void *base = mmap(NULL, (size_t)size, PROT_READ, MAP_PRIVATE, fd, (off_t)offset);
  return base == MAP_FAILED ? NULL : base;
}

static void unmap(void *base, uint64_t size) {
  munmap(base, (size_t)size);
}

static void release(void *base, uint64_t size) {
  madvise(base, (size_t)size, MADV_DONTNEED);
}

static int64_t read_at(int fd, void *buffer, uint64_t size, uint64_t offset) {
  ssize_t done;
  do {
    done = pread(fd, buffer, size < (1u << 30) ? (size_t)size : (size_t)1 << 30, (off_t)offset);
  } while (done < 0 && errno == EINTR);
  return done;
}

typedef struct stat file_stat;
static int stat_file(int fd, file_stat *info) {
  return fstat(fd, info);
}

#endif

/* ---- Kinds of source ----------------------------------------------------------------------------------------------- */

/* Room for size bytes read into memory. */
static wisp_status own(wisp_bytes *bytes, const wisp_host *host, uint64_t size) {
  if (size > SIZE_MAX || !(bytes->owned = wisp_host_alloc(host, (size_t)size, 1)))
    return wisp_fail_memory(host, bytes->name, size);
  bytes->data = bytes->owned;
  bytes->size = size;
  return WISP_OK;
}

static wisp_status read_file(wisp_bytes *bytes, const wisp_host *host, int fd, uint64_t offset, uint64_t size) {
  WISP_TRY(own(bytes, host, size));
  for (uint64_t done = 0; done < size;) {
    int64_t part = read_at(fd, (uint8_t *)bytes->owned + done, size - done, offset + done);
    if (part < 0) return wisp_fail(host, WISP_ERROR_IO, "%s: cannot read: %s", bytes->name, strerror(errno));
    if (part == 0) {
      return wisp_fail(host, WISP_ERROR_IO, "%s: short read: %" PRIu64 " of %" PRIu64 " bytes", bytes->name, done, size);
    }
    done += (uint64_t)part;
  }
  return WISP_OK;
}

/* Bytes [offset, offset + size) of fd; size 0 = to its end. */
static wisp_status open_fd(wisp_bytes *bytes, const wisp_host *host, int fd, uint64_t offset, uint64_t size) {
  file_stat info;
  if (stat_file(fd, &info)) return wisp_fail(host, WISP_ERROR_IO, "%s: cannot read: %s", bytes->name, strerror(errno));
  if ((info.st_mode & S_IFMT) == S_IFDIR) {
    return wisp_fail(host, WISP_ERROR_IO, "%s: is a directory; name a model file", bytes->name);
  }
  if ((info.st_mode & S_IFMT) != S_IFREG) {
    return wisp_fail(host, WISP_ERROR_IO, "%s: not a regular file; it cannot be mapped", bytes->name);
  }
  uint64_t end = (uint64_t)info.st_size;
  if (end == 0) return wisp_fail(host, WISP_ERROR_FORMAT, "%s: file is empty", bytes->name);
  if (offset >= end || size > end - offset) {
    return wisp_fail(host, WISP_ERROR_IO, "%s: bytes %" PRIu64 " + %" PRIu64 " asked for, but the file has %" PRIu64,
                     bytes->name, offset, size, end);
  }
  if (size == 0) size = end - offset;

  uint64_t lead = offset % page_size();
  if (size <= SIZE_MAX - lead && (bytes->mapping = map(fd, offset - lead, lead + size))) {
    bytes->mapped = lead + size;
    bytes->data = (const uint8_t *)bytes->mapping + lead;
    bytes->size = size;
    return WISP_OK;
  }
  return read_file(bytes, host, fd, offset, size); /* a file system that cannot map */
}

static wisp_status open_path(wisp_bytes *bytes, const wisp_host *host, const char *path) {
  int fd = open_file(path);
  if (fd < 0) return wisp_fail(host, WISP_ERROR_IO, "%s: cannot open: %s", path, strerror(errno));
  wisp_status status = open_fd(bytes, host, fd, 0, 0);
  close_file(fd); /* a mapping stays */
  return status;
}

static wisp_status open_memory(wisp_bytes *bytes, const wisp_host *host, const wisp_model_source *source) {
  if (source->size == 0) return wisp_fail(host, WISP_ERROR_FORMAT, "%s: no bytes", bytes->name);
  bytes->data = source->data;
  bytes->size = source->size;
  return WISP_OK;
}

static wisp_status open_callback(wisp_bytes *bytes, const wisp_host *host, const wisp_model_source *source) {
  if (source->size == 0) return wisp_fail(host, WISP_ERROR_FORMAT, "%s: no bytes", bytes->name);
  WISP_TRY(own(bytes, host, source->size));
  if (source->read(source->read_user, 0, bytes->owned, source->size)) return WISP_OK;
  return wisp_fail(host, WISP_ERROR_IO, "%s: short read: %" PRIu64 " bytes asked for", bytes->name, source->size);
}

wisp_status wisp_source_check(const wisp_host *host, const wisp_model_source *source) {
  /* fd 0 beside another kind is a struct that was zeroed, not a wish to read standard input. */
  const int kinds = !!source->path + !!source->data + !!source->read + !!source->synthetic;
  if (kinds > 1 || (kinds == 1 && source->fd > 0) || (kinds == 0 && source->fd < 0))
    return wisp_fail(host, WISP_ERROR_ARGUMENT, "model source: set exactly one of path, data, fd, read and synthetic");
  return WISP_OK;
}

wisp_status wisp_bytes_open(wisp_bytes *bytes, const wisp_host *host, const wisp_model_source *source) {
  *bytes = (wisp_bytes){0};
  WISP_TRY(wisp_source_check(host, source));
  if (source->synthetic) return wisp_fail(host, WISP_ERROR_ARGUMENT, "synthetic %s: a file is needed here", source->synthetic);
  char fd_name[32];
  snprintf(fd_name, sizeof fd_name, "(fd %d)", source->fd);
  const char *name = source->path ? source->path : source->data ? "(memory)" : source->read ? "(read callback)" : fd_name;
  bytes->name = wisp_host_strndup(host, name, strlen(name));
  if (!bytes->name) return wisp_fail_memory(host, "a file name", strlen(name) + 1);

  wisp_status status = source->path   ? open_path(bytes, host, source->path)
                       : source->data ? open_memory(bytes, host, source)
                       : source->read ? open_callback(bytes, host, source)
                                      : open_fd(bytes, host, source->fd, source->offset, source->size);
  if (status != WISP_OK) wisp_bytes_close(bytes, host);
  return status;
}

void wisp_bytes_close(wisp_bytes *bytes, const wisp_host *host) {
  if (bytes->mapping) unmap(bytes->mapping, bytes->mapped);
  wisp_host_free(host, bytes->owned);
  wisp_host_free(host, bytes->name);
  *bytes = (wisp_bytes){0};
}

void wisp_bytes_release(const wisp_bytes *bytes, const void *data, uint64_t size) {
  const uintptr_t base = (uintptr_t)bytes->mapping, from = (uintptr_t)data, page = (uintptr_t)page_size();
  if (!bytes->mapping || from < base || from - base > bytes->mapped || size > bytes->mapped - (from - base)) return;
  /* Whole pages; the one that is shared with what lies before goes too, as that has been used already. */
  const uintptr_t first = from / page * page, end = (from + (uintptr_t)size) / page * page;
  if (end > first) release((void *)first, end - first);
}

/* The file type bits of what path names; 0 if that cannot be opened. */
static unsigned type_of(const char *path) {
  file_stat info = {0};
  int fd = open_file(path);
  if (fd < 0) return 0;
  if (stat_file(fd, &info)) info.st_mode = 0;
  close_file(fd);
  return info.st_mode & S_IFMT;
}

bool wisp_is_folder(const char *path) {
  return type_of(path) == S_IFDIR;
}

bool wisp_file_exists(const char *path) {
  const unsigned type = type_of(path);
  return type != 0 && type != S_IFDIR;
}
