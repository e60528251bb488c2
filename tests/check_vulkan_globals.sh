#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Vulkan is called through tables only: of the runtime's objects, none but instance.c may use volk's globals, and only the loader's.
#   tests/check_vulkan_globals.sh BUILD_DIR
set -euo pipefail
library=${1:?build directory}/runtime/libwisp_runtime.a
found=$(nm -A "$library" | grep -v 'volk_impl' | awk '$(NF-1) == "U" && $NF ~ /^vk[A-Z]/ {print $1, $NF}')
[[ $found == *vkCreateInstance* ]] || { echo "check_vulkan_globals: $library does not call vkCreateInstance: check the check" >&2; exit 1; }
bad=$(grep -Ev ':instance\.c\.o: (vkCreateInstance|vkEnumerateInstance[A-Za-z]*|vkGetInstanceProcAddr)$' <<<"$found" || true)
if [[ -n $bad ]]; then
  echo "check_vulkan_globals: global Vulkan functions used:" >&2
  echo "$bad" >&2
  exit 1
fi
