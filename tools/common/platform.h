/* SPDX-License-Identifier: Apache-2.0
 * What the commands need of the operating system; the only file of them that is not plain C. */
#ifndef WISP_TOOLS_PLATFORM_H
#define WISP_TOOLS_PLATFORM_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

bool platform_is_terminal(FILE *file);

double platform_now_ms(void);  /* monotonic */
double platform_cpu_ms(void);  /* processor time of this process, all threads, user and system */
uint32_t platform_cores(void); /* processors that this process may use */

/* Keeps this thread, and those it starts later, on the processors of a list ("0-3,6") or a mask ("0xf0"); false, with what is
 * wrong in why, if that is no list, names none that is there, or the system cannot. */
bool platform_set_affinity(const char *processors, const char **why);

/* Largest resident size since the last reset, in bytes; where the system cannot reset, since the start. 0 = unknown. */
uint64_t platform_peak_rss(void);
void platform_reset_peak_rss(void);

/* While on_interrupt is not NULL, Ctrl-C calls it (from a signal handler: it may only set flags); a second Ctrl-C before the
 * next call ends the process. NULL restores the default. Not thread-safe. */
void platform_on_interrupt(void (*on_interrupt)(void));

/* Makes the folder for cached files of this user and writes its path; false if there is none. */
bool platform_cache_folder(char *path, size_t size);

typedef enum platform_file { PLATFORM_ABSENT, PLATFORM_REGULAR, PLATFORM_FOLDER, PLATFORM_OTHER } platform_file;
platform_file platform_file_kind(const char *path);

/* True if both name the same existing file, by whatever path. */
bool platform_same_file(const char *a, const char *b);

/* Has the system put on the disk what was written to the file (which is flushed); false with errno. */
bool platform_sync(FILE *file);

/* Renames, replacing what is at `to` in one step; false with errno. */
bool platform_rename(const char *from, const char *to);

/* Puts text of size bytes into the file in one step, so that readers see the old or the new one. */
bool platform_replace_file(const char *path, const void *data, size_t size);

#endif
