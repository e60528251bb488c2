#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Gets SwiftShader, a software Vulkan driver with the limits of a weak phone, out of Debian's chromium-common and prints the path
# of its driver file on stdout:
#
#   VK_DRIVER_FILES=$(tools/fetch_swiftshader.sh) build/wisp devices
#
# Nothing is installed, root is not needed. Kept in ${XDG_CACHE_HOME:-~/.cache}/wisp/swiftshader.
set -euo pipefail

folder=${XDG_CACHE_HOME:-$HOME/.cache}/wisp/swiftshader
icd=$folder/vk_swiftshader_icd.json
library=$folder/libvk_swiftshader.so

if [[ -s $icd && -s $library ]]; then
  echo "$icd"
  exit
fi

for tool in apt-get dpkg-deb tar; do
  command -v "$tool" >/dev/null || { echo "fetch_swiftshader: $tool is missing (Debian or Ubuntu is needed)" >&2; exit 1; }
done
mkdir -p "$folder"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"
cd "$work"

echo "fetch_swiftshader: downloading chromium-common (30 MB)" >&2
if ! apt-get download chromium-common >log 2>&1; then
  # No or old package lists: read them anew into a folder of our own.
  mkdir -p state/lists/partial cache/archives/partial
  own=(-o "Dir::State=$work/state" -o "Dir::State::status=/var/lib/dpkg/status" -o "Dir::Cache=$work/cache")
  if ! { apt-get "${own[@]}" update && apt-get "${own[@]}" download chromium-common; } >>log 2>&1; then
    cat log >&2
    echo "fetch_swiftshader: chromium-common could not be downloaded" >&2
    exit 1
  fi
fi
dpkg-deb --fsys-tarfile chromium-common_*.deb | tar x --strip-components=4 ./usr/lib/chromium/libvk_swiftshader.so
[[ -s libvk_swiftshader.so ]] || { echo "fetch_swiftshader: no libvk_swiftshader.so in the package" >&2; exit 1; }
mv libvk_swiftshader.so "$library"
printf '{"file_format_version": "1.0.0", "ICD": {"library_path": "%s", "api_version": "1.1.0"}}\n' "$library" >icd.json
mv icd.json "$icd"
echo "$icd"
