/* SPDX-License-Identifier: Apache-2.0
 * GLSL to SPIR-V at run time, for tuning kernels on a device (builds with WISP_RUNTIME_GLSL). Files are put together here,
 * since older glslangs offer C no include callbacks. */
#include "internal.h"

#ifndef WISP_RUNTIME_GLSL

bool wvk_glsl_compile(const wvk_host *host, const char *directory, const char *file, const char *defines, uint32_t **spirv,
                      size_t *bytes) {
  *spirv = NULL;
  *bytes = 0;
  wvk_log(host, WVK_LOG_WARN, "%s/%s: built without WISP_RUNTIME_GLSL: the embedded SPIR-V is used", directory, file);
  return false;
}

#else

#include <glslang/Include/glslang_c_interface.h>
#include <glslang/Public/resource_limits_c.h>
#include <stdio.h>
#include <string.h>

#define MAX_DEPTH 8

struct source {
  const wvk_host *host;
  char *text; /* NUL-terminated */
  size_t length, capacity;
};

static bool add(struct source *source, const char *text, size_t length) {
  if (source->capacity - source->length <= length) {
    size_t capacity = (source->length + length + 1) * 2;
    char *grown = wvk_host_alloc(source->host, capacity, 1);
    if (!grown) return false;
    if (source->text) memcpy(grown, source->text, source->length);
    wvk_host_free(source->host, source->text);
    source->text = grown;
    source->capacity = capacity;
  }
  memcpy(source->text + source->length, text, length);
  source->length += length;
  source->text[source->length] = '\0';
  return true;
}

/* NUL-terminated, NULL where it cannot be read. */
static char *read_file(const wvk_host *host, const char *path) {
  FILE *file = fopen(path, "rb");
  if (!file) return NULL;
  struct source source = {.host = host};
  char piece[4096];
  size_t got;
  bool good = add(&source, "", 0);
  while (good && (got = fread(piece, 1, sizeof piece, file)) > 0) good = add(&source, piece, got);
  good = good && !ferror(file);
  fclose(file);
  if (good) return source.text;
  wvk_host_free(host, source.text);
  return NULL;
}

/* The name in a line `#include "name"`; false for any other line. */
static bool include_name(const char *line, size_t length, char name[256]) {
  char text[300];
  snprintf(text, sizeof text, "%.*s", (int)(length < sizeof text ? length : sizeof text - 1), line);
  return sscanf(text, " # include \"%255[^\"]\"", name) == 1;
}

/* Adds the file at path with what it includes: names are relative to directory. */
static bool add_file(struct source *source, const char *directory, const char *name, int depth) {
  char path[1024], marker[1100];
  snprintf(path, sizeof path, "%s/%s", directory, name);
  char *text = depth < MAX_DEPTH ? read_file(source->host, path) : NULL;
  if (!text) {
    wvk_log(source->host, WVK_LOG_WARN, "%s: %s", path, depth < MAX_DEPTH ? "cannot be read" : "included too deep");
    return false;
  }
  bool good = true;
  int line_number = 1;
  for (const char *line = text; *line && good; line_number++) {
    size_t length = strcspn(line, "\n");
    char included[256];
    if (include_name(line, length, included)) {
      snprintf(marker, sizeof marker, "#line 1 \"%s\"\n", included);
      good = add(source, marker, strlen(marker)) && add_file(source, directory, included, depth + 1);
      snprintf(marker, sizeof marker, "\n#line %d \"%s\"\n", line_number + 1, name);
      good = good && add(source, marker, strlen(marker));
    } else {
      good = add(source, line, length) && add(source, "\n", 1);
    }
    line += length;
    if (*line) line++;
  }
  wvk_host_free(source->host, text);
  return good;
}

static bool to_spirv(const wvk_host *host, const char *name, const char *code, const char *defines, uint32_t **spirv,
                     size_t *bytes) {
  const glslang_input_t input = {
      .language = GLSLANG_SOURCE_GLSL,
      .stage = GLSLANG_STAGE_COMPUTE,
      .client = GLSLANG_CLIENT_VULKAN,
      .client_version = GLSLANG_TARGET_VULKAN_1_1,
      .target_language = GLSLANG_TARGET_SPV,
      .target_language_version = GLSLANG_TARGET_SPV_1_3,
      .code = code,
      .default_version = 450,
      .default_profile = GLSLANG_NO_PROFILE,
      .messages = (glslang_messages_t)(GLSLANG_MSG_SPV_RULES_BIT | GLSLANG_MSG_VULKAN_RULES_BIT),
      .resource = glslang_default_resource(),
  };
  glslang_shader_t *shader = glslang_shader_create(&input);
  glslang_program_t *program = glslang_program_create();
  bool good = false;
  glslang_shader_set_preamble(shader, defines ? defines : "");
  if (!glslang_shader_preprocess(shader, &input) || !glslang_shader_parse(shader, &input)) {
    wvk_log(host, WVK_LOG_WARN, "%s: %s", name, glslang_shader_get_info_log(shader));
  } else {
    glslang_program_add_shader(program, shader);
    if (!glslang_program_link(program, input.messages)) {
      wvk_log(host, WVK_LOG_WARN, "%s: %s", name, glslang_program_get_info_log(program));
    } else {
      glslang_program_SPIRV_generate(program, GLSLANG_STAGE_COMPUTE);
      size_t words = glslang_program_SPIRV_get_size(program);
      *spirv = wvk_host_alloc(host, words, sizeof **spirv);
      *bytes = words * sizeof **spirv;
      good = words > 0 && *spirv;
      if (good) memcpy(*spirv, glslang_program_SPIRV_get_ptr(program), *bytes);
    }
  }
  glslang_program_delete(program);
  glslang_shader_delete(shader);
  return good;
}

bool wvk_glsl_compile(const wvk_host *host, const char *directory, const char *file, const char *defines, uint32_t **spirv,
                      size_t *bytes) {
  *spirv = NULL;
  *bytes = 0;
  struct source source = {.host = host};
  bool good = add_file(&source, directory, file, 0);
  if (good) {
    glslang_initialize_process(); /* counted inside */
    good = to_spirv(host, file, source.text, defines, spirv, bytes);
    glslang_finalize_process();
  }
  wvk_host_free(host, source.text);
  return good;
}

#endif

void wvk_glsl_free(const wvk_host *host, uint32_t *spirv) {
  wvk_host_free(host, spirv);
}
