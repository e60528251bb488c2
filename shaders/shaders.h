/* SPDX-License-Identifier: Apache-2.0
 * The shader variants of manifest.txt, compiled and embedded. */
#ifndef WISP_SHADERS_H
#define WISP_SHADERS_H

#include <stddef.h>
#include <stdint.h>

enum {                                   /* what a variant needs of a device beyond tier T0 */
       WISP_NEEDS_SUBGROUP = 1 << 0,     /* subgroup arithmetic and shuffle in compute, size >= 4 */
       WISP_NEEDS_FLOAT16 = 1 << 1,      /* shaderFloat16 */
       WISP_NEEDS_STORAGE16 = 1 << 2,    /* storageBuffer16BitAccess */
       WISP_NEEDS_INT8 = 1 << 3,         /* shaderInt8 */
       WISP_NEEDS_STORAGE8 = 1 << 4,     /* storageBuffer8BitAccess */
       WISP_NEEDS_INT_DOT = 1 << 5,      /* shaderIntegerDotProduct, accelerated for packed unsigned 4x8 */
       WISP_NEEDS_MEMORY_MODEL = 1 << 6, /* vulkanMemoryModel with device scope */
       WISP_NEEDS_ATOMIC64 = 1 << 8,     /* 64-bit integers, and atomics on them in buffers */
       WISP_NEEDS_COOPMAT = 1 << 7       /* cooperative matrix f16 -> f32 */
};

typedef struct wisp_shader {
  const char *name;    /* variant: first word of its manifest line */
  const char *source;  /* file in shaders/ */
  const char *defines; /* preamble of #define lines, for compiling source at run time */
  uint32_t needs;      /* WISP_NEEDS_* */
  const uint32_t *spirv;
  size_t bytes;
} wisp_shader;

extern const wisp_shader wisp_shaders[];
extern const uint32_t wisp_shader_count;

#endif
