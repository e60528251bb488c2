#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs the Debian packages that the named groups need; does nothing, quickly and without root, where they are all there.
#
#   tools/install_dependencies.sh build run test arm64
#
# README.md has the reason for each package. Progress goes to stderr.
set -euo pipefail

build=(gcc g++ libc6-dev cmake ninja-build glslang-tools libvulkan-dev libvulkan-volk-dev libutf8proc-dev libcjson-dev libedit-dev)
run=(python3 python3-pip ca-certificates libvulkan1 mesa-vulkan-drivers)
test=(git clang clang-format-14 libcriterion-dev libglm-dev glslang-dev spirv-tools vulkan-validationlayers python3-numpy)
arm64=(gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user dpkg-dev)

fail() {
  echo "install_dependencies: $*" >&2
  exit 1
}

packages=()
for group in "$@"; do
  case $group in
    build | run | test | arm64) declare -n members=$group ;;
    *) fail "unknown group '$group': build, run, test or arm64" ;;
  esac
  packages+=("${members[@]}")
done
((${#packages[@]})) || fail "which groups? build, run, test, arm64"

if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
  fail "this is not Debian or Ubuntu; install what these packages hold, then build with CMake: ${packages[*]}"
fi

missing=()
for package in "${packages[@]}"; do
  [[ $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) == installed ]] || missing+=("$package")
done
((${#missing[@]})) || exit 0

as_root=()
if (($(id -u) != 0)); then
  command -v sudo >/dev/null || fail "root is needed: apt-get install ${missing[*]}"
  as_root=(sudo)
fi

log=$(mktemp)
trap 'rm -f "$log"' EXIT
apt() {
  if ! "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -y "$@" >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    fail "apt-get $1 failed; is the network there?"
  fi
}
echo "install_dependencies: installing ${missing[*]}" >&2
apt update
apt install --no-install-recommends "${missing[@]}"
