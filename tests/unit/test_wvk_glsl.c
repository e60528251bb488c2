/* SPDX-License-Identifier: Apache-2.0
 * GLSL at run time, where it is built in; elsewhere a clear no. */
#include "wvk_fixture.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef WISP_RUNTIME_GLSL

Test(wvk_glsl, not_built_in) {
  wvk_witness witness;
  wvk_host host = witness_host(&witness);
  uint32_t *spirv = (uint32_t *)&witness;
  size_t bytes = 1;
  cr_assert(!wvk_glsl_compile(&host, ".", "chain.comp", "", &spirv, &bytes));
  cr_assert(spirv == NULL && bytes == 0);
  cr_assert_eq(witness.lines[WVK_LOG_WARN], 1);
}

#else

static char folder[] = "/tmp/wisp-glsl-XXXXXX";

static void put(const char *name, const char *text) {
  char path[256];
  snprintf(path, sizeof path, "%s/%s", folder, name);
  FILE *file = fopen(path, "w");
  cr_assert_not_null(file);
  cr_assert_geq(fputs(text, file), 0);
  fclose(file);
}

static void make_folder(void) {
  cr_assert_not_null(mkdtemp(folder));
  char path[256];
  snprintf(path, sizeof path, "%s/lib", folder);
  cr_assert_eq(mkdir(path, 0700), 0);
  put("lib/io.glsl", "#ifndef IO\n#define IO\nlayout(set = 0, binding = 0) readonly buffer W { uint window[]; };\n"
                     "layout(set = 0, binding = 1) buffer S { uint sums[]; };\n#endif\n");
  put("lib/both.glsl", "#include \"lib/io.glsl\"\n  #  include \"lib/io.glsl\"");
  put("main.comp", "#version 450\n#extension GL_GOOGLE_include_directive : require\n#include \"lib/both.glsl\"\n"
                   "layout(local_size_x_id = 0) in;\nvoid main() { sums[gl_GlobalInvocationID.x] = VALUE + window[0]; }\n");
  put("missing.comp", "#version 450\n#extension GL_GOOGLE_include_directive : require\n#include \"lib/none.glsl\"\n");
  put("loop.comp", "#version 450\n#extension GL_GOOGLE_include_directive : require\n#include \"loop.comp\"\n");
  put("wrong.comp", "#version 450\n#extension GL_GOOGLE_include_directive : require\n#include \"lib/io.glsl\"\n\n"
                    "void main() { nonsense; }\n");
}

static void remove_folder(void) {
  static const char *const names[] = {"lib/io.glsl", "lib/both.glsl", "main.comp", "missing.comp",
                                      "loop.comp",   "wrong.comp",    "lib",       ""};
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, names[i]);
    remove(path);
  }
}

Test(wvk_glsl, compile_and_run, .init = make_folder, .fini = remove_folder) {
  wvk_witness witness;
  wvk_device *device = open_device(&witness, NULL, false);
  const wvk_host host = {.log = NULL};
  uint32_t *spirv;
  size_t bytes;
  cr_assert(wvk_glsl_compile(&host, folder, "main.comp", "#define VALUE 77u\n", &spirv, &bytes));
  chain c = chain_open(device);
  const uint32_t constants[] = {32};
  const wvk_pipeline_params params = {
      .name = "main", .spirv = spirv, .spirv_bytes = bytes, .constants = constants, .constant_count = 1};
  wvk_pipeline *pipeline;
  cr_assert_eq(wvk_pipeline_create(&pipeline, c.layout, &params), WVK_OK);
  wvk_glsl_free(&host, spirv);
  wvk_commands *commands;
  cr_assert_eq(wvk_commands_create(&commands, device, 0), WVK_OK);
  cr_assert_eq(wvk_commands_begin(commands), WVK_OK);
  wvk_cmd_bind_pipeline(commands, pipeline);
  wvk_cmd_bind_set(commands, c.set, &(uint32_t){0});
  wvk_cmd_dispatch(commands, 1, 1, 1);
  cr_assert_eq(wvk_commands_end(commands), WVK_OK);
  cr_assert_eq(wvk_submit(device, &commands, 1), WVK_OK);
  cr_assert_eq(wvk_wait(commands, UINT64_MAX), WVK_OK);
  wvk_buffer_invalidate(c.sums, 0, 128);
  const uint32_t *sums = wvk_buffer_map(c.sums);
  for (int i = 0; i < 32; i++) cr_assert_eq(sums[i], 77 + 7);
  wvk_commands_destroy(&commands);
  wvk_pipeline_destroy(&pipeline);
  chain_close(&c);
  wvk_device_destroy(&device);
}

Test(wvk_glsl, errors_name_the_file, .init = make_folder, .fini = remove_folder) {
  static const char *const cases[][2] = {{"absent.comp", "absent.comp"},
                                         {"missing.comp", "lib/none.glsl"},
                                         {"loop.comp", "too deep"},
                                         {"wrong.comp", "wrong.comp:5"}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    wvk_witness witness;
    wvk_host host = witness_host(&witness);
    uint32_t *spirv;
    size_t bytes;
    cr_assert(!wvk_glsl_compile(&host, folder, cases[i][0], "", &spirv, &bytes));
    cr_assert_null(spirv);
    cr_assert_eq(witness.lines[WVK_LOG_WARN], 1);
    cr_assert(strstr(witness.last[WVK_LOG_WARN], cases[i][1]), "%s", witness.last[WVK_LOG_WARN]);
    cr_assert_eq(witness.live, 0);
  }
}

#endif
