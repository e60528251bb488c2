/* SPDX-License-Identifier: Apache-2.0
 * Opens the model that the common options name. */
#ifndef WISP_TOOLS_MODEL_H
#define WISP_TOOLS_MODEL_H

#include <wisp/wisp.h>

#include "args.h"

typedef struct model_options {
  const char *path, *synthetic, *type; /* path or synthetic */
  const char *device;                  /* NULL = "auto" */
  const char *affinity;                /* processors to stay on; NULL = as the process may */
  uint32_t threads, context;           /* 0 = default */
  unsigned kv;                         /* wisp_kv_type */
  bool verbose;
} model_options;

enum { MODEL_THREADS_MAX = 256 };

extern const char *const model_kv_types[]; /* in the order of wisp_kv_type */

#define MODEL_OPTION_FILE(o) ARG_TEXT("-m", "--model", &(o).path, "MODEL", "a GGUF file or a Hugging Face folder")
#define MODEL_OPTIONS_SYNTHETIC(o)                                                                                             \
  ARG_TEXT("--synthetic", NULL, &(o).synthetic, "NAME", "random weights of a named shape instead of a file"),                  \
      ARG_TEXT("--type", NULL, &(o).type, "TYPE", "its weight type: q4_0 (default), q8_0, f16, ...")
#define MODEL_OPTIONS_THREADS(o)                                                                                               \
  ARG_U32("--threads", "-t", &(o).threads, 1, MODEL_THREADS_MAX, "CPU threads; default one for each fast core"),               \
      ARG_TEXT("--affinity", NULL, &(o).affinity, "CPUS", "processors to use: a list 0-3,6 or a mask 0xf0; default all")
#define MODEL_OPTIONS_DEVICE(o)                                                                                                \
  ARG_TEXT("--device", NULL, &(o).device, "D", "auto (default), cpu, vulkan or vulkan:INDEX; see wisp devices"),               \
      MODEL_OPTIONS_THREADS(o), ARG_U32("--ctx", "-c", &(o).context, 1, UINT32_MAX, "tokens that the context has room for")
#define MODEL_OPTION_KV(o)                                                                                                     \
  ARG_CHOICE("--kv", NULL, &(o).kv, "TYPE", model_kv_types, "type of the KV cache: f16 (default), f32 or q8_0")
#define MODEL_OPTION_VERBOSE(o) ARG_FLAG("-v", "--verbose", &(o).verbose, "say what was chosen: device, kernels")

/* True for what --device takes. */
bool model_device_valid(const char *device);
/* True for a name that --synthetic takes. */
bool model_synthetic_valid(const char *name);

/* Checks the options against each other and moves to the processors asked for; ARGS_OK or the exit code. */
int model_check(const model_options *options, const args_command *command);

/* Whether output, which may be NULL, is another file than the model. */
bool model_is_safe(const model_options *options, const char *output);

/* What the options ask for, with the user's pipeline cache. */
wisp_engine_params model_params(const model_options *options);

/* Opens it. REPORT_DONE, or the exit code after an error line. */
wisp_status model_create(const model_options *options, wisp_load load, wisp_engine **engine); /* says nothing */
int model_open(const model_options *options, wisp_load load, wisp_engine **engine);

#endif
