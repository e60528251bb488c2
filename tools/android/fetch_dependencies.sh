#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Fills a folder with what a cross build needs besides the compiler (CMake: -DWISP_DEPS_DIR=FOLDER): Vulkan headers and volk from
# the installed Debian packages, utf8proc's and cJSON's C sources from Debian's source packages, checked by apt. Nothing is installed.
#
#   tools/android/fetch_dependencies.sh [FOLDER]      FOLDER/include, .../utf8proc, .../cjson; default: build-android-deps
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
folder=$(realpath -m "${1:-build-android-deps}")

fail() {
  echo "fetch_dependencies: $*" >&2
  exit 1
}

if [[ -s $folder/utf8proc/utf8proc.c && -s $folder/cjson/cJSON.c && -s $folder/include/volk.h && -s $folder/include/vulkan/vulkan.h ]]; then exit 0; fi
for tool in apt-get dpkg-source; do
  command -v $tool >/dev/null || fail "$tool is missing: Debian or Ubuntu with dpkg-dev is needed"
done
for header in vulkan/vulkan.h volk.h; do
  [[ -s /usr/include/$header ]] || fail "/usr/include/$header is missing: tools/install_dependencies.sh build"
done

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"
mkdir -p "$work/state/lists/partial" "$work/cache/archives/partial" "$folder/include"

# The machine's own package sources, once more as sources of source packages, in an apt state of our own.
apt-get indextargets --format 'deb-src $(REPO_URI) $(RELEASE) main' 'Identifier: Packages' | sort -u >"$work/sources.list"
[[ -s $work/sources.list ]] || fail "apt has no package sources: apt-get update"
own=(-o "Dir::Etc::SourceList=$work/sources.list" -o Dir::Etc::SourceParts=- -o "Dir::State=$work/state"
  -o Dir::State::status=/var/lib/dpkg/status -o "Dir::Cache=$work/cache")
echo "fetch_dependencies: downloading the sources of utf8proc and cJSON" >&2
if ! (cd "$work" && { apt-get -q "${own[@]}" update || true; } && apt-get -q "${own[@]}" --download-only source utf8proc cjson) >"$work/log" 2>&1; then
  tail -n 5 "$work/log" >&2
  fail "the source packages utf8proc and cjson could not be downloaded"
fi
for package in utf8proc cjson; do
  (cd "$work" && dpkg-source --no-check -x "$package"_*.dsc "$package" >log 2>&1) || fail "the source package $package could not be unpacked"
done

cp -r /usr/include/vulkan /usr/include/volk.h "$folder/include/"
if [[ -d /usr/include/vk_video ]]; then cp -r /usr/include/vk_video "$folder/include/"; fi
mkdir -p "$folder/utf8proc" "$folder/cjson" "$folder/include/cjson"
cp "$work/utf8proc/utf8proc.h" "$folder/include/"
cp "$work/cjson/cJSON.h" "$folder/include/cjson/"
cp "$work/cjson/cJSON.h" "$work/cjson/LICENSE" "$folder/cjson/"
cp "$work/cjson/cJSON.c" "$folder/cjson/"
cp "$work/utf8proc/utf8proc_data.c" "$work/utf8proc/LICENSE.md" "$folder/utf8proc/"
cp "$work/utf8proc/utf8proc.c" "$folder/utf8proc/" # last: it says that all is there
