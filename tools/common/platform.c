/* SPDX-License-Identifier: Apache-2.0 */
#include "platform.h"

#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

bool platform_is_terminal(FILE *file) {
  return isatty(fileno(file)) == 1;
}

double platform_now_ms(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec * 1e3 + (double)time.tv_nsec * 1e-6;
}

double platform_cpu_ms(void) {
  struct rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1e3 +
         (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1e-3;
}

uint32_t platform_cores(void) {
  long count = sysconf(_SC_NPROCESSORS_ONLN);
  return count > 0 ? (uint32_t)count : 1;
}

#if defined(__linux__)

/* Adds processors [first, last] to the set. */
static bool add_processors(cpu_set_t *set, unsigned long first, unsigned long last) {
  for (unsigned long i = first; i <= last && i < CPU_SETSIZE; i++) CPU_SET(i, set);
  return first <= last && last < CPU_SETSIZE;
}

static bool parse_mask(const char *digits, cpu_set_t *set) {
  const size_t count = strlen(digits);
  for (size_t i = 0; i < count; i++) {
    const char *const hex = "0123456789abcdef", *at = strchr(hex, digits[i] | 32);
    if (!at) return false;
    for (unsigned bit = 0; bit < 4; bit++) {
      const unsigned long processor = 4 * (count - 1 - i) + bit;
      if ((at - hex) >> bit & 1 && !add_processors(set, processor, processor)) return false;
    }
  }
  return count > 0;
}

static bool parse_list(const char *text, cpu_set_t *set) {
  for (;; text++) {
    char *rest;
    if (*text < '0' || *text > '9') return false;
    unsigned long first = strtoul(text, &rest, 10), last = first;
    if (*rest == '-') {
      text = rest + 1;
      if (*text < '0' || *text > '9') return false;
      last = strtoul(text, &rest, 10);
    }
    if (!add_processors(set, first, last)) return false;
    text = rest;
    if (*text != ',') return !*text;
  }
}

bool platform_set_affinity(const char *processors, const char **why) {
  cpu_set_t set;
  CPU_ZERO(&set);
  const bool mask = processors[0] == '0' && (processors[1] | 32) == 'x';
  *why = "is neither a list like 0-3,6 nor a mask like 0xf0";
  if (!(mask ? parse_mask(processors + 2, &set) : parse_list(processors, &set))) return false;
  *why = "names no processor that this process may use";
  return sched_setaffinity(0, sizeof set, &set) == 0;
}

#else

bool platform_set_affinity(const char *processors, const char **why) {
  *why = "cannot be had on this system";
  return false;
}

#endif

/* getrusage's figure cannot be reset; the kernel's own high-water mark can. */
uint64_t platform_peak_rss(void) {
  unsigned long long kilobytes = 0;
  FILE *file = fopen("/proc/self/status", "r");
  if (file) {
    char line[256];
    while (!kilobytes && fgets(line, sizeof line, file)) sscanf(line, "VmHWM: %llu", &kilobytes);
    fclose(file);
  }
  if (!kilobytes) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    kilobytes = (unsigned long long)usage.ru_maxrss;
  }
  return kilobytes * 1024;
}

void platform_reset_peak_rss(void) {
  FILE *file = fopen("/proc/self/clear_refs", "w");
  if (!file) return;
  fputs("5", file);
  fclose(file);
}

static void (*volatile interrupt_handler)(void);

static void on_signal(int signal_number) {
  if (interrupt_handler) interrupt_handler();
}

void platform_on_interrupt(void (*on_interrupt)(void)) {
  struct sigaction action = {.sa_flags = (int)(SA_RESETHAND | SA_RESTART)};
  sigemptyset(&action.sa_mask);
  action.sa_handler = on_interrupt ? on_signal : SIG_DFL;
  interrupt_handler = on_interrupt;
  sigaction(SIGINT, &action, NULL);
}

bool platform_cache_folder(char *path, size_t size) {
  const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
  int length;
  if (cache && cache[0] == '/') {
    length = snprintf(path, size, "%s/wisp", cache);
  } else if (home && home[0] == '/') {
    length = snprintf(path, size, "%s/.cache/wisp", home);
  } else {
    return false;
  }
  if (length < 0 || (size_t)length >= size) return false;
  for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
    *slash = '\0';
    mkdir(path, 0700);
    *slash = '/';
  }
  mkdir(path, 0700);
  return access(path, W_OK) == 0;
}

platform_file platform_file_kind(const char *path) {
  struct stat info;
  if (stat(path, &info)) return PLATFORM_ABSENT;
  return S_ISREG(info.st_mode) ? PLATFORM_REGULAR : S_ISDIR(info.st_mode) ? PLATFORM_FOLDER : PLATFORM_OTHER;
}

bool platform_same_file(const char *a, const char *b) {
  struct stat first, second;
  return !stat(a, &first) && !stat(b, &second) && first.st_dev == second.st_dev && first.st_ino == second.st_ino;
}

bool platform_sync(FILE *file) {
  return fsync(fileno(file)) == 0;
}

bool platform_rename(const char *from, const char *to) {
  return rename(from, to) == 0;
}

bool platform_replace_file(const char *path, const void *data, size_t size) {
  char temporary[4096];
  int length = snprintf(temporary, sizeof temporary, "%s.%ld.tmp", path, (long)getpid());
  if (length < 0 || (size_t)length >= sizeof temporary) return false;
  FILE *file = fopen(temporary, "wb");
  if (!file) return false;
  bool written = fwrite(data, 1, size, file) == size;
  written = fclose(file) == 0 && written;
  written = written && platform_rename(temporary, path);
  if (!written) remove(temporary);
  return written;
}
