/* SPDX-License-Identifier: Apache-2.0
 *
 * What the runtime's files share. Vulkan is called only through a table: an instance's or a device's, never a global. */
#ifndef WVK_INTERNAL_H
#define WVK_INTERNAL_H

#define VK_NO_PROTOTYPES
#define VOLK_NO_DEVICE_PROTOTYPES /* honoured by newer volks: a global device call does not compile */
#include "wvk.h"
#include <pthread.h>
#include <stdatomic.h>
#include <volk.h>

#include "cooperative_matrix.h"

#if defined(__GNUC__)
#define WVK_PRINTF(format_index, first) __attribute__((format(printf, format_index, first)))
#else
#define WVK_PRINTF(format_index, first)
#endif

/* ---- Host: memory and words (host.c) ------------------------------------------------------------------------------- */

void *wvk_host_alloc(const wvk_host *host, size_t count, size_t size); /* zeroed, NULL when there is none; logs nothing */
void wvk_host_free(const wvk_host *host, void *pointer);               /* accepts NULL */

void wvk_log(const wvk_host *host, wvk_log_level level, const char *format, ...) WVK_PRINTF(3, 4);
/* Logs at ERROR and returns status: once, where the failure is found. */
wvk_status wvk_fail(const wvk_host *host, wvk_status status, const char *format, ...) WVK_PRINTF(3, 4);
wvk_status wvk_fail_memory(const wvk_host *host, const char *what);
const char *wvk_result_name(VkResult result);

#define WVK_TRY(expression)                                                                                                    \
  do {                                                                                                                         \
    wvk_status wvk_try_status = (expression);                                                                                  \
    if (wvk_try_status != WVK_OK) return wvk_try_status;                                                                       \
  } while (0)

/* ---- Instance (instance.c) ------------------------------------------------------------------------------------------ */

#define WVK_INSTANCE_FUNCTIONS(X)                                                                                              \
  X(DestroyInstance)                                                                                                           \
  X(EnumeratePhysicalDevices)                                                                                                  \
  X(GetPhysicalDeviceProperties)                                                                                               \
  X(GetPhysicalDeviceProperties2)                                                                                              \
  X(GetPhysicalDeviceFeatures2)                                                                                                \
  X(GetPhysicalDeviceMemoryProperties)                                                                                         \
  X(GetPhysicalDeviceQueueFamilyProperties)                                                                                    \
  X(EnumerateDeviceExtensionProperties)                                                                                        \
  X(CreateDevice)                                                                                                              \
  X(GetPhysicalDeviceCooperativeMatrixPropertiesKHR)                                                                           \
  X(CreateDebugUtilsMessengerEXT)                                                                                              \
  X(DestroyDebugUtilsMessengerEXT)

struct wvk_instance {
  wvk_host host;
  VkInstance handle;
  uint32_t api_version; /* asked for: what the loader has, at most 1.3 */
  VkDebugUtilsMessengerEXT messenger;
  atomic_uint validation_messages;
#define WVK_MEMBER(name) PFN_vk##name name;
  WVK_INSTANCE_FUNCTIONS(WVK_MEMBER)
#undef WVK_MEMBER
};

/* The instance must not move while it lives. No loader, no driver or too old: NO_DEVICE, said at absent_level. */
wvk_status wvk_instance_init(struct wvk_instance *instance, const wvk_host *host, bool validate, wvk_log_level absent_level);
void wvk_instance_finish(struct wvk_instance *instance); /* accepts a zeroed one */
void wvk_load_device_table(const struct wvk_instance *instance, struct VolkDeviceTable *table, VkDevice device);

/* ---- Physical devices (caps.c, profiles.c) --------------------------------------------------------------------------- */

enum wvk_extension {
  WVK_EXT_FLOAT16_INT8,
  WVK_EXT_STORAGE8,
  WVK_EXT_MEMORY_MODEL,
  WVK_EXT_ATOMIC64,
  WVK_EXT_TIMELINE,
  WVK_EXT_DRIVER_PROPERTIES,
  WVK_EXT_SUBGROUP_SIZE,
  WVK_EXT_INT_DOT,
  WVK_EXT_CREATION_FEEDBACK,
  WVK_EXT_EXECUTABLES,
  WVK_EXT_PORTABILITY,
  WVK_EXT_COOPERATIVE_MATRIX,
  WVK_EXT_CORES_NVIDIA, /* only asked for the number of cores, as the next two */
  WVK_EXT_CORES_AMD,
  WVK_EXT_CORES_ARM,
  WVK_EXT_COUNT
};
struct wvk_extension_info {
  const char *name;
  uint32_t core; /* the version that made it core, 0 = none */
};
extern const struct wvk_extension_info wvk_extensions[WVK_EXT_COUNT];

/* The feature structs of one pNext chain, to ask a device with or to create it with. Not to be copied once chained. */
struct wvk_features {
  VkPhysicalDeviceFeatures2 head;
  VkPhysicalDevice16BitStorageFeatures storage16;
  VkPhysicalDeviceShaderFloat16Int8Features float16_int8;
  VkPhysicalDevice8BitStorageFeatures storage8;
  VkPhysicalDeviceVulkanMemoryModelFeatures memory_model;
  VkPhysicalDeviceShaderAtomicInt64Features atomic64;
  VkPhysicalDeviceTimelineSemaphoreFeatures timeline;
  VkPhysicalDeviceSubgroupSizeControlFeatures subgroup_size;
  VkPhysicalDeviceShaderIntegerDotProductFeatures int_dot;
  VkPhysicalDevicePipelineExecutablePropertiesFeaturesKHR executables;
  VkPhysicalDeviceCooperativeMatrixFeaturesKHR cooperative_matrix;
};
void wvk_features_chain(struct wvk_features *features, const bool has[WVK_EXT_COUNT]);

struct wvk_physical {
  VkPhysicalDevice handle;
  wvk_caps caps;           /* lowered by WISP_CAPS */
  bool has[WVK_EXT_COUNT]; /* as an extension or in the core */
  bool full_subgroups;
  uint32_t api_version; /* usable: the lower of instance and device */
  uint32_t queue_family;
  uint32_t timestamp_bits;
  uint8_t cache_uuid[VK_UUID_SIZE];
  VkPhysicalDeviceMemoryProperties memory;
};

/* All physical devices of the instance, freed with wvk_host_free. NO_DEVICE where WISP_CAPS cannot be understood. */
wvk_status wvk_physical_list(struct wvk_instance *instance, struct wvk_physical **list, uint32_t *count);

/* Applies the text of WISP_CAPS to caps; have is the most that +feature can restore. NULL or "" changes nothing. */
wvk_status wvk_caps_clamp(wvk_caps *caps, const wvk_caps *have, const char *text, const wvk_host *host);
void wvk_caps_judge(wvk_caps *caps); /* sets usable and why_not */

/* ---- Device (device.c) ------------------------------------------------------------------------------------------------ */

/* One vkQueueSubmit's fence, shared by its commands objects; free again when none of them refers to it. */
struct wvk_submission {
  VkFence fence;
  uint32_t references;
  struct wvk_submission *next; /* in the list of free ones */
};

struct wvk_device {
  wvk_host host;
  struct wvk_instance instance;
  struct wvk_physical physical;
  uint32_t index;
  VkDevice handle;
  VkQueue queue;
  struct VolkDeviceTable vk;
  VkPipelineCache cache;
  atomic_bool lost;

  pthread_mutex_t queue_lock; /* the queue and the free submissions */
  struct wvk_submission *submissions;
  pthread_mutex_t counter_lock; /* the counters and cache_used */
  wvk_counters counters;
  bool cache_used; /* a pipeline was created: too late for wvk_cache_load */
};

/* WVK_ERROR_LOST once the device is lost. */
wvk_status wvk_device_check(const struct wvk_device *device);
/* The status of a failed Vulkan call, logged at ERROR; device loss becomes sticky. */
wvk_status wvk_device_fail(struct wvk_device *device, VkResult result, const char *call, const char *what);

/* ---- Objects ------------------------------------------------------------------------------------------------------------ */

struct wvk_buffer {
  struct wvk_device *device;
  VkBuffer handle;
  VkDeviceMemory memory;
  uint64_t size;      /* bytes usable */
  uint64_t allocated; /* bytes of memory */
  unsigned char *map; /* NULL where not mapped */
  bool coherent;
};

struct wvk_layout {
  struct wvk_device *device;
  VkDescriptorSetLayout set_layout;
  VkPipelineLayout pipeline_layout;
  uint32_t count, dynamic_mask, dynamic_count, push_bytes;
};

struct wvk_set {
  struct wvk_device *device;
  VkDescriptorPool pool;
  VkDescriptorSet handle;
  VkPipelineLayout pipeline_layout;
  uint32_t dynamic_count;
};

struct wvk_pipeline {
  struct wvk_device *device;
  VkPipeline handle;
  bool statistics;
  char name[64];
};

#define WVK_MAX_BINDINGS 32 /* of a set */

struct wvk_commands {
  struct wvk_device *device;
  VkCommandPool pool;
  VkCommandBuffer handle;
  VkQueryPool queries;
  uint32_t timestamps;
  uint32_t dispatches, barriers; /* recorded */
  const struct wvk_set *bound;   /* recorded last, with its offsets: binding it again is left out */
  uint32_t bound_offsets[WVK_MAX_BINDINGS];
  struct wvk_submission *submission; /* the last one, NULL before it */
};

/* Drops a reference, NULL is none; under queue_lock (submit.c). */
void wvk_submission_release(struct wvk_device *device, struct wvk_submission *submission);

/* FNV-1a, to be chained: start with WVK_HASH_START. */
#define WVK_HASH_START 0xcbf29ce484222325u
uint64_t wvk_hash(uint64_t hash, const void *data, size_t size);

#endif
