/* SPDX-License-Identifier: Apache-2.0
 * The Vulkan loader and instances, with the validation layer on demand. */
#include "internal.h"

#include <string.h>

#define VALIDATION_LAYER "VK_LAYER_KHRONOS_validation"

/* volk keeps the loader's entry points in globals: written once or under this lock, read only in this file. */
static pthread_mutex_t loader_lock = PTHREAD_MUTEX_INITIALIZER;

/* The loader's version, 0 = no loader. */
static uint32_t open_loader(void) {
  pthread_mutex_lock(&loader_lock);
  uint32_t version = volkGetInstanceVersion();
  if (version == 0 && volkInitialize() == VK_SUCCESS) version = volkGetInstanceVersion();
  pthread_mutex_unlock(&loader_lock);
  return version;
}

void wvk_load_device_table(const struct wvk_instance *instance, struct VolkDeviceTable *table, VkDevice device) {
  pthread_mutex_lock(&loader_lock);
  volkLoadInstanceOnly(instance->handle); /* sets the vkGetDeviceProcAddr that the table is read through */
  volkLoadDeviceTable(table, device);
  pthread_mutex_unlock(&loader_lock);
}

static bool has_layer(const wvk_host *host, const char *name) {
  uint32_t count = 0;
  if (vkEnumerateInstanceLayerProperties(&count, NULL) != VK_SUCCESS || count == 0) return false;
  VkLayerProperties *layers = wvk_host_alloc(host, count, sizeof *layers);
  bool found = false;
  if (layers && vkEnumerateInstanceLayerProperties(&count, layers) >= VK_SUCCESS)
    for (uint32_t i = 0; i < count; i++) found |= strcmp(layers[i].layerName, name) == 0;
  wvk_host_free(host, layers);
  return found;
}

static bool has_extension(const wvk_host *host, const char *layer, const char *name) {
  uint32_t count = 0;
  if (vkEnumerateInstanceExtensionProperties(layer, &count, NULL) != VK_SUCCESS || count == 0) return false;
  VkExtensionProperties *extensions = wvk_host_alloc(host, count, sizeof *extensions);
  bool found = false;
  if (extensions && vkEnumerateInstanceExtensionProperties(layer, &count, extensions) >= VK_SUCCESS)
    for (uint32_t i = 0; i < count; i++) found |= strcmp(extensions[i].extensionName, name) == 0;
  wvk_host_free(host, extensions);
  return found;
}

static VKAPI_ATTR VkBool32 VKAPI_CALL on_message(VkDebugUtilsMessageSeverityFlagBitsEXT severity,
                                                 VkDebugUtilsMessageTypeFlagsEXT types,
                                                 const VkDebugUtilsMessengerCallbackDataEXT *data, void *user) {
  struct wvk_instance *instance = user;
  atomic_fetch_add(&instance->validation_messages, 1);
  bool error = severity >= VK_DEBUG_UTILS_MESSAGE_SEVERITY_ERROR_BIT_EXT;
  wvk_log(&instance->host, error ? WVK_LOG_ERROR : WVK_LOG_WARN, "validation: %s", data->pMessage);
  return VK_FALSE;
}

wvk_status wvk_instance_init(struct wvk_instance *instance, const wvk_host *host, bool validate, wvk_log_level absent_level) {
  memset(instance, 0, sizeof *instance);
  instance->host = *host;
  uint32_t loader_version = open_loader();
  if (loader_version == 0) {
    wvk_log(host, absent_level, "no Vulkan loader on this machine (libvulkan.so.1): install a Vulkan driver or use the CPU");
    return WVK_ERROR_NO_DEVICE;
  }
  if (loader_version < VK_API_VERSION_1_1) {
    wvk_log(host, absent_level, "the Vulkan loader has version 1.0, 1.1 is needed");
    return WVK_ERROR_NO_DEVICE;
  }
  instance->api_version = loader_version < VK_API_VERSION_1_3 ? loader_version : VK_API_VERSION_1_3;

  if (validate && !has_layer(host, VALIDATION_LAYER)) {
    wvk_log(host, WVK_LOG_WARN,
            "validation asked for, but the layer " VALIDATION_LAYER " is not installed: nothing is validated");
    validate = false;
  }
  const char *extensions[4];
  uint32_t extension_count = 0;
  bool portability = has_extension(host, NULL, VK_KHR_PORTABILITY_ENUMERATION_EXTENSION_NAME);
  if (portability) extensions[extension_count++] = VK_KHR_PORTABILITY_ENUMERATION_EXTENSION_NAME;
  bool features = validate && has_extension(host, VALIDATION_LAYER, VK_EXT_VALIDATION_FEATURES_EXTENSION_NAME);
  if (features) extensions[extension_count++] = VK_EXT_VALIDATION_FEATURES_EXTENSION_NAME;
  if (validate) extensions[extension_count++] = VK_EXT_DEBUG_UTILS_EXTENSION_NAME;
  if (validate && !features) wvk_log(host, WVK_LOG_WARN, "the validation layer offers no synchronization validation");

  const VkDebugUtilsMessengerCreateInfoEXT messenger = {
      .sType = VK_STRUCTURE_TYPE_DEBUG_UTILS_MESSENGER_CREATE_INFO_EXT,
      .messageSeverity = VK_DEBUG_UTILS_MESSAGE_SEVERITY_ERROR_BIT_EXT | VK_DEBUG_UTILS_MESSAGE_SEVERITY_WARNING_BIT_EXT,
      .messageType = VK_DEBUG_UTILS_MESSAGE_TYPE_VALIDATION_BIT_EXT,
      .pfnUserCallback = on_message,
      .pUserData = instance,
  };
  const VkValidationFeatureEnableEXT enable = VK_VALIDATION_FEATURE_ENABLE_SYNCHRONIZATION_VALIDATION_EXT;
  const VkValidationFeaturesEXT validation = {
      .sType = VK_STRUCTURE_TYPE_VALIDATION_FEATURES_EXT,
      .pNext = &messenger,
      .enabledValidationFeatureCount = 1,
      .pEnabledValidationFeatures = &enable,
  };
  const char *layers[] = {VALIDATION_LAYER};
  const VkApplicationInfo application = {
      .sType = VK_STRUCTURE_TYPE_APPLICATION_INFO,
      .pApplicationName = "wisp",
      .pEngineName = "wisp",
      .apiVersion = instance->api_version,
  };
  const VkInstanceCreateInfo info = {
      .sType = VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO,
      .pNext = features   ? (const void *)&validation
               : validate ? (const void *)&messenger
                          : NULL,
      .flags = portability ? VK_INSTANCE_CREATE_ENUMERATE_PORTABILITY_BIT_KHR : 0,
      .pApplicationInfo = &application,
      .enabledLayerCount = validate ? 1 : 0,
      .ppEnabledLayerNames = layers,
      .enabledExtensionCount = extension_count,
      .ppEnabledExtensionNames = extensions,
  };
  VkResult result = vkCreateInstance(&info, NULL, &instance->handle);
  if (result == VK_ERROR_INCOMPATIBLE_DRIVER) {
    wvk_log(host, absent_level, "no Vulkan driver on this machine: install one (Debian: mesa-vulkan-drivers) or use the CPU");
    return WVK_ERROR_NO_DEVICE;
  }
  if (result != VK_SUCCESS) return wvk_fail(host, WVK_ERROR_DRIVER, "vkCreateInstance: %s", wvk_result_name(result));

#define LOAD(name) instance->name = (PFN_vk##name)vkGetInstanceProcAddr(instance->handle, "vk" #name);
  WVK_INSTANCE_FUNCTIONS(LOAD)
#undef LOAD
  if (validate && instance->CreateDebugUtilsMessengerEXT) {
    result = instance->CreateDebugUtilsMessengerEXT(instance->handle, &messenger, NULL, &instance->messenger);
    if (result != VK_SUCCESS)
      wvk_log(host, WVK_LOG_WARN, "vkCreateDebugUtilsMessengerEXT: %s: nothing is validated", wvk_result_name(result));
  }
  return WVK_OK;
}

void wvk_instance_finish(struct wvk_instance *instance) {
  if (instance->messenger) instance->DestroyDebugUtilsMessengerEXT(instance->handle, instance->messenger, NULL);
  if (instance->handle) instance->DestroyInstance(instance->handle, NULL);
  instance->messenger = VK_NULL_HANDLE;
  instance->handle = VK_NULL_HANDLE;
}
