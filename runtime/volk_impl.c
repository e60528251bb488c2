/* SPDX-License-Identifier: Apache-2.0
 * volk, compiled into the runtime: finds the Vulkan loader at run time. */
#define VK_NO_PROTOTYPES
#define VOLK_IMPLEMENTATION
#include <volk.h>
