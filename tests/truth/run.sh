#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# wisp-truth on the CPU, on lavapipe and on SwiftShader. Ends with "N passed, N failed, N skipped".
#   tests/truth/run.sh BUILD_DIR MODEL.gguf [--full]     --full compares everything on the software drivers too: hours
# What was measured stands in BUILD_DIR/truth/DEVICE.json and DEVICE.log.
set -uo pipefail
if [[ $# -lt 2 || ! -x $1/wisp-truth || ! -f $2 || ${3:---full} != --full ]]; then
  echo "usage: $0 BUILD_DIR MODEL.gguf [--full]" >&2
  exit 2
fi
build=$(realpath "$1") model=$(realpath "$2")
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1
mkdir -p "$build/truth"
passed=0 failed=0
# Some minutes each on 2 cores: lavapipe takes 0.1 s for a token of a batch, SwiftShader 1.7 s.
few=(--tokens 16 --decode-prompts 3 --decode-tokens 8 --windows 1)
fewer=(--prompts 5 --tokens 8 --decode-prompts 1 --decode-tokens 4 --windows 0)
if [[ ${3:-} ]]; then few=() fewer=(); fi

# compare NAME DRIVER_FILE OPTIONS...: a run that crashes or says no totals is one failure.
compare() {
  local name=$1 driver=$2 start=$SECONDS log=$build/truth/$1.log
  shift 2
  VK_DRIVER_FILES=$driver "$build/wisp-truth" -m "$model" --json "$build/truth/$name.json" "$@" >"$log" 2>&1
  local code=$?
  if [[ $(tail -n 1 "$log") =~ ^([0-9]+)\ passed,\ ([0-9]+)\ failed, ]]; then
    passed=$((passed + BASH_REMATCH[1])) failed=$((failed + BASH_REMATCH[2]))
  else
    failed=$((failed + 1))
  fi
  echo "== $name, $((SECONDS - start)) s, exit code $code"
  grep -E '^FAIL|error' "$log"
  sed -n '/^largest values:/,$p' "$log"
}

compare cpu "" --device cpu --threads 2,1,3
compare lavapipe "$(echo /usr/share/vulkan/icd.d/lvp_icd*.json)" --device vulkan "${few[@]}"
compare swiftshader "$(tools/fetch_swiftshader.sh)" --device vulkan "${fewer[@]}"
echo "$passed passed, $failed failed, 0 skipped"
((failed == 0))
