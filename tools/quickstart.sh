#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# From a fresh clone to an answer: installs what is missing (Debian, Ubuntu), builds the release preset into build/, fetches the
# default model, lets it answer, and measures GPU beside CPU.
#
#   tools/quickstart.sh ["PROMPT"]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
prompt=${1:-What is the capital of France, and what is it known for?}
log=build/quickstart.log

step() { printf '==> %s\n' "$*"; }

# The last line so far, on a terminal.
show() {
  local line
  while IFS= read -r line; do
    if [[ -t 1 ]]; then printf '\r\033[K%.*s' "$((${COLUMNS:-80} - 1))" "$line"; fi
  done
  if [[ -t 1 ]]; then printf '\r\033[K'; fi
}

# build_step COMMAND...: its output goes to the log, whose end is shown where it fails.
build_step() {
  if ! "$@" 2>&1 | tee -a "$log" | show; then
    tail -n 40 "$log" >&2
    echo "quickstart: the build failed; all of its output: $log" >&2
    exit 1
  fi
}

step "install: packages that are missing"
tools/install_dependencies.sh build run

step "build: release preset into build/"
if ! tools/fetch_glslang.sh >/dev/null; then echo "quickstart: going on without cooperative matrices" >&2; fi
mkdir -p build
: >"$log"
build_step cmake --preset release
build_step cmake --build build --target wisp wisp-bench

step "download: default model"
model=$(tools/fetch_model.sh)

step "answer: build/wisp run -m MODEL -p \"$prompt\" -n 48 --temp 0"
build/wisp run -m "$model" -p "$prompt" -n 48 --temp 0

# A software Vulkan driver takes half a second and more for a token: few of them there.
size=(-p 8 -n 4 -r 1)
gpu_kind='"kind": *"(discrete|integrated|virtual|other)"'
if build/wisp devices --json 2>/dev/null | grep -qE "$gpu_kind"; then size=(-p 128 -n 64 -r 3); fi
step "latency: build/wisp-bench -m MODEL ${size[*]}"
build/wisp-bench -m "$model" "${size[@]}"
