/* SPDX-License-Identifier: Apache-2.0
 * Linked into programs built with AddressSanitizer. Drivers and layers are unloaded before the leak check runs, so what they
 * hold looks lost and cannot be named: they are kept loaded, and what the validation layer itself leaks is ignored. */
#include <dlfcn.h>

#define EXPORTED __attribute__((visibility("default"))) /* the sanitizer, a shared library, calls them */
EXPORTED const char *__lsan_default_suppressions(void);
EXPORTED const char *__lsan_default_options(void);

const char *__lsan_default_suppressions(void) {
  return "leak:libVkLayer_khronos_validation\n";
}

const char *__lsan_default_options(void) {
  return "print_suppressions=0";
}

__attribute__((constructor)) static void keep_loaded(void) {
  static const char *const libraries[] = {"libvulkan_lvp.so", "libVkLayer_khronos_validation.so"};
  for (unsigned i = 0; i < sizeof libraries / sizeof *libraries; i++) dlopen(libraries[i], RTLD_LAZY | RTLD_NODELETE);
}
