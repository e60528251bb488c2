/* SPDX-License-Identifier: Apache-2.0
 *
 * The Vulkan runtime: devices, memory, pipelines, recorded commands. Knows nothing of language models.
 *
 * device -> buffers -> layout + descriptor set -> pipelines -> recorded commands -> submit and wait.
 * Handles are opaque; _destroy takes the address, sets it to NULL and accepts NULL. Errors are said once through the log
 * callback. A device's creating calls are thread-safe (pipelines are built on several threads); a commands object belongs to
 * one thread at a time; submits are serialised inside. No device-level Vulkan global is used: every device has its own function
 * table.
 */
#ifndef WVK_H
#define WVK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum wvk_status {
  WVK_OK = 0,
  WVK_ERROR_NO_DEVICE, /* no driver, no such index, or below tier T0 */
  WVK_ERROR_MEMORY,    /* host or device */
  WVK_ERROR_DRIVER,    /* a Vulkan call failed */
  WVK_ERROR_LOST,      /* device lost; sticky: every later call on the device returns it */
  WVK_TIMEOUT          /* a wait ran out of time; the work goes on */
} wvk_status;

typedef enum wvk_log_level { WVK_LOG_ERROR = 0, WVK_LOG_WARN = 1, WVK_LOG_INFO = 2, WVK_LOG_DEBUG = 3 } wvk_log_level;

typedef struct wvk_host {
  void (*log)(void *user, wvk_log_level level, const char *text); /* may be NULL; any thread */
  void *log_user;
  void *(*reallocate)(void *user, void *pointer, size_t size); /* as wisp_host; NULL = realloc/free */
  void *memory_user;
} wvk_host;

/* ---- Capabilities -------------------------------------------------------------------------------------------------- */

typedef enum wvk_kind { WVK_KIND_OTHER, WVK_KIND_INTEGRATED, WVK_KIND_DISCRETE, WVK_KIND_VIRTUAL, WVK_KIND_SOFTWARE } wvk_kind;

/* What the engine may believe of a device: what the driver says, lowered by the environment variable WISP_CAPS (grammar:
 * profiles.c). A device is created with exactly these features on, and limits are enforced: buffers, sets, layouts and
 * workgroups past them are refused. */
typedef struct wvk_caps {
  char name[256];
  char driver[256]; /* driver name and info */
  uint32_t vendor_id, device_id, driver_version, api_version;
  uint8_t driver_uuid[16], device_uuid[16];
  wvk_kind kind;
  bool usable;       /* meets tier T0 */
  char why_not[128]; /* the first limit missed, with both numbers */

  uint32_t max_workgroup; /* invocations, also x size */
  uint32_t max_groups_x;
  uint32_t shared_memory;           /* bytes a workgroup */
  uint32_t push_constants;          /* bytes */
  uint32_t storage_buffers;         /* a stage */
  uint32_t dynamic_storage_buffers; /* a set */
  uint64_t max_storage_range;       /* bytes of one binding */
  uint64_t storage_alignment;       /* of offsets */
  uint64_t non_coherent_atom;
  uint64_t max_allocation; /* bytes of one allocation */
  uint64_t device_heap;    /* bytes of the largest device-local heap */
  bool unified_memory;     /* device-local memory is host-visible as a whole: write weights in place */

  uint32_t cores; /* that run workgroups side by side; 0 = the driver does not tell */

  uint32_t subgroup_size, subgroup_min, subgroup_max;
  bool subgroup_size_control;                 /* a required size can be asked for in compute */
  bool subgroup_arithmetic, subgroup_shuffle; /* only true for sizes >= 4 */
  bool float16, int8, storage16, storage8;
  bool wrong_float16; /* this driver's arithmetic in f16 is known to give wrong results */
  bool int_dot;       /* and accelerated for packed unsigned 4x8; WISP_CAPS=+int_dot lets a slow one count */
  bool memory_model;  /* vulkanMemoryModel + device scope */
  bool atomic64;      /* 64-bit integers, and atomics on them in buffers */
  bool cooperative_matrix, timeline_semaphore;
  uint32_t cooperative_m, cooperative_n, cooperative_k; /* shape of the matrices f16 x f16 -> f32, [m][k] x [k][n] */
  bool pipeline_statistics;                             /* VK_KHR_pipeline_executable_properties */
  float timestamp_ns;                                   /* a tick; 0 = no timestamps */
} wvk_caps;

/* "T0", "T1", "T1s", "T2": reference tiers of docs/portability.md; "-" if not usable. */
const char *wvk_caps_tier(const wvk_caps *caps);

/* Lists the machine's devices: *count of them, the first capacity (may be 0) in caps. No driver at all: count 0, OK, and the
 * reason at WARN. NO_DEVICE: WISP_CAPS is not understood. */
wvk_status wvk_enumerate(const wvk_host *host, wvk_caps *caps, uint32_t capacity, uint32_t *count);

/* ---- Device -------------------------------------------------------------------------------------------------------- */

typedef struct wvk_device wvk_device;

typedef struct wvk_device_params {
  wvk_host host;
  int32_t index; /* as wvk_enumerate lists them; -1 = best usable one: discrete, integrated, virtual, software */
  bool validate; /* validation layer with synchronization validation; also by WISP_VALIDATE=1; missing layer = WARN */
} wvk_device_params;

wvk_status wvk_device_create(wvk_device **device, const wvk_device_params *params);
void wvk_device_destroy(wvk_device **device);
const wvk_caps *wvk_device_caps(const wvk_device *device);
uint32_t wvk_device_index(const wvk_device *device);

typedef struct wvk_counters { /* since creation */
  uint64_t allocated_bytes, peak_allocated_bytes;
  uint32_t allocations, descriptor_writes, maps;
  uint32_t pipelines_built;               /* less those that the driver says came from the cache */
  uint64_t dispatches, barriers, submits; /* executed: what is recorded counts at each submit */
  uint32_t validation_messages;           /* errors and warnings of the validation layer */
  double instance_ms, list_ms, device_ms; /* that the creation took: loader and instance, asking all devices, the device */
} wvk_counters;
wvk_counters wvk_device_counters(const wvk_device *device);

/* ---- Memory -------------------------------------------------------------------------------------------------------- */

typedef enum wvk_memory {
  WVK_MEMORY_DEVICE = 0,   /* fastest for the device; mapped only where caps.unified_memory */
  WVK_MEMORY_SHARED = 1,   /* written by the host now and then, read by the device often: device-local if the host can see it */
  WVK_MEMORY_READBACK = 2, /* written by the device, read by the host: cached if there is such memory */
  WVK_MEMORY_STAGING = 3   /* written by the host, copied by the device: host memory, cached if there is such memory */
} wvk_memory;

typedef struct wvk_buffer wvk_buffer;

/* size is rounded up to caps.storage_alignment. Usage: storage, transfer source and destination. The contents are zero
 * for WVK_MEMORY_SHARED and _READBACK, undefined for _DEVICE and _STAGING. MEMORY errors name the buffer and the bytes asked
 * for. */
wvk_status wvk_buffer_create(wvk_buffer **buffer, wvk_device *device, const char *name, uint64_t size, wvk_memory memory);
void wvk_buffer_destroy(wvk_buffer **buffer); /* the device must not use it any more */
uint64_t wvk_buffer_size(const wvk_buffer *buffer);
void *wvk_buffer_map(wvk_buffer *buffer); /* persistent pointer, NULL where not host-visible */
/* No-ops on coherent memory. Flush after host writes and before the submit; invalidate after the wait and before host reads. */
void wvk_buffer_flush(wvk_buffer *buffer, uint64_t offset, uint64_t size);
void wvk_buffer_invalidate(wvk_buffer *buffer, uint64_t offset, uint64_t size);

/* Fills device buffers from the host with bounded staging: write size bytes at the pointer that map gives, again and again,
 * then finish. On unified memory the pointer is the buffer itself. size <= WVK_UPLOAD_CHUNK. A lane belongs to one thread at a
 * time; staging is two chunks for each, all freed by destroy. */
#define WVK_UPLOAD_CHUNK (1u << 20)
#define WVK_UPLOAD_LANES 8
typedef struct wvk_uploader wvk_uploader;
wvk_status wvk_uploader_create(wvk_uploader **uploader, wvk_device *device, uint32_t lanes); /* <= WVK_UPLOAD_LANES */
wvk_status wvk_uploader_map(wvk_uploader *uploader, uint32_t lane, wvk_buffer *buffer, uint64_t offset, uint64_t size,
                            void **pointer);
wvk_status wvk_uploader_finish(wvk_uploader *uploader); /* all of it is in place when this returns */
void wvk_uploader_destroy(wvk_uploader **uploader);

/* ---- Layout, descriptor set, pipelines ------------------------------------------------------------------------------ */

typedef struct wvk_layout wvk_layout;
/* count storage buffers at set 0, binding 0 .. count-1; bit i of dynamic_mask makes binding i dynamic. */
wvk_status wvk_layout_create(wvk_layout **layout, wvk_device *device, uint32_t count, uint32_t dynamic_mask,
                             uint32_t push_bytes);
void wvk_layout_destroy(wvk_layout **layout);

typedef struct wvk_binding {
  wvk_buffer *buffer;
  uint64_t offset, range;
} wvk_binding;

/* offset aligned to caps.storage_alignment, 0 < range <= caps.max_storage_range, inside the buffer; else DRIVER. With a dynamic
 * offset added it must be inside too, which only the validation layer checks. */
typedef struct wvk_set wvk_set;
wvk_status wvk_set_create(wvk_set **set, wvk_layout *layout, const wvk_binding *bindings); /* [count of layout] */
void wvk_set_destroy(wvk_set **set);

#define WVK_MAX_CONSTANTS 80
typedef struct wvk_pipeline_params {
  const char *name;      /* for debuggers, messages and statistics */
  const uint32_t *spirv; /* entry point "main" */
  size_t spirv_bytes;
  const uint32_t *constants; /* specialisation constant i has value constants[i] (floats by their bits); 0 = local size x */
  uint32_t constant_count;   /* <= WVK_MAX_CONSTANTS */
  uint32_t subgroup_size;    /* required; 0 = the driver's choice */
  bool statistics;           /* capture for wvk_pipeline_statistics */
  bool passing;              /* only tried: the device's pipeline cache does not keep it */
} wvk_pipeline_params;

typedef struct wvk_pipeline wvk_pipeline;
/* A driver that refuses gives DRIVER and a WARN line: pipelines are replaceable. */
wvk_status wvk_pipeline_create(wvk_pipeline **pipeline, wvk_layout *layout, const wvk_pipeline_params *params);
void wvk_pipeline_destroy(wvk_pipeline **pipeline);
const char *wvk_pipeline_name(const wvk_pipeline *pipeline);
/* "Instruction Count=123; ..." into text; empty where the driver tells nothing. Returns the whole length. */
size_t wvk_pipeline_statistics(const wvk_pipeline *pipeline, char *text, size_t capacity);

/* The device's pipeline cache as bytes, headed so that foreign or damaged bytes are refused by load (returns false, harmless).
 * key: file-name-safe, differs by driver and device. */
void wvk_cache_key(const wvk_device *device, char key[64]);
bool wvk_cache_load(wvk_device *device, const void *data, size_t size);  /* before the first pipeline is created */
wvk_status wvk_cache_save(wvk_device *device, void *data, size_t *size); /* data NULL: asks for the size */

/* GLSL to SPIR-V at run time (builds with WISP_RUNTIME_GLSL). file: read from directory, #include relative to it. The result is
 * released with wvk_glsl_free. false: not built in, or an error that the log names: use the embedded SPIR-V. */
bool wvk_glsl_compile(const wvk_host *host, const char *directory, const char *file, const char *defines, uint32_t **spirv,
                      size_t *bytes);
void wvk_glsl_free(const wvk_host *host, uint32_t *spirv);

/* ---- Commands ------------------------------------------------------------------------------------------------------- */

typedef struct wvk_commands wvk_commands;
/* timestamps: how many wvk_cmd_timestamp slots to keep (0 = none). */
wvk_status wvk_commands_create(wvk_commands **commands, wvk_device *device, uint32_t timestamps);
void wvk_commands_destroy(wvk_commands **commands);    /* must not be running */
wvk_status wvk_commands_begin(wvk_commands *commands); /* forgets what was recorded; must not be running */
/* Adds the barrier to what follows and to the host (not counted in barriers). */
wvk_status wvk_commands_end(wvk_commands *commands); /* then it can be submitted any number of times, one at a time */

void wvk_cmd_bind_pipeline(wvk_commands *commands, const wvk_pipeline *pipeline);
void wvk_cmd_bind_set(wvk_commands *commands, const wvk_set *set,
                      const uint32_t *dynamic_offsets); /* one for each dynamic binding */
void wvk_cmd_push(wvk_commands *commands, const wvk_layout *layout, const void *data, uint32_t bytes);
void wvk_cmd_dispatch(wvk_commands *commands, uint32_t groups_x, uint32_t groups_y, uint32_t groups_z);
/* Between dispatches: all shader reads and writes. The MEMORY access bits would cost 3.2 us more a barrier on an H100. */
void wvk_cmd_barrier(wvk_commands *commands);
/* Between dispatches, copies and fills, in any order: all accesses. */
void wvk_cmd_transfer_barrier(wvk_commands *commands);
void wvk_cmd_copy(wvk_commands *commands, wvk_buffer *from, uint64_t from_offset, wvk_buffer *to, uint64_t to_offset,
                  uint64_t size);
void wvk_cmd_fill(wvk_commands *commands, wvk_buffer *buffer, uint64_t offset, uint64_t size, uint32_t word);
void wvk_cmd_timestamp(wvk_commands *commands, uint32_t slot);
uint32_t wvk_commands_dispatches(const wvk_commands *commands); /* recorded */
uint32_t wvk_commands_barriers(const wvk_commands *commands);

/* Submits the commands objects one after the other in one vkQueueSubmit, with a fence. Host writes before it are visible. Every
 * commands object ends with device writes made visible to the host. */
wvk_status wvk_submit(wvk_device *device, wvk_commands *const *commands, uint32_t count);
/* Waits for the last submit that contained commands; TIMEOUT after timeout_ns (UINT64_MAX: 30 s then WARN lines, on and on up
 * to 10 min, then LOST). */
wvk_status wvk_wait(wvk_commands *commands, uint64_t timeout_ns);
/* Nanoseconds from slot 0 to slot i in the last finished run, ns[timestamps]. False where the device has none or a slot was not
 * written. */
bool wvk_commands_times(wvk_commands *commands, double *ns);

#endif
