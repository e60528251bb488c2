#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Measures a phone: builds the android-arm64 preset, pushes wisp-bench, wisp-kernels and the model with adb, checks the kernels,
# runs the bench and pulls its JSON into bench/results/.
#
#   ANDROID_NDK=... tools/android/bench.sh [--dry-run] [-m MODEL.gguf] [wisp-bench options]
#
# --dry-run prints the steps and needs none of NDK, adb, device and model. ANDROID_SERIAL chooses among several devices. With
# --synthetic NAME no model is pushed. Where nothing is given, the default model of tools/fetch_model.sh is taken.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

dry= model=${XDG_CACHE_HOME:-$HOME/.cache}/wisp/SmolLM2-135M-Instruct.Q4_1.gguf options=()
while (($#)); do
  case $1 in
    --dry-run) dry=1 ;;
    -m | --model) model=${2:?"-m needs a file"}; shift ;;
    --synthetic | --synthetic=*) model=; options+=("$1") ;;
    --json | --json=*) echo "android/bench: --json is set here, to a file in bench/results/" >&2; exit 2 ;;
    *) options+=("$1") ;;
  esac
  shift
done

fail() {
  echo "android/bench: $*" >&2
  exit 1
}

# run COMMAND...: does it, or with --dry-run says it.
run() {
  if [[ $dry ]]; then printf '%q ' "$@"; echo; else "$@"; fi
}

if [[ ! $dry ]]; then
  missing=()
  if [[ ! -f ${ANDROID_NDK:-}/build/cmake/android.toolchain.cmake ]]; then
    missing+=("an Android NDK (set ANDROID_NDK to its folder)")
  fi
  if [[ $model && ! -f $model ]]; then missing+=("the model $model (tools/fetch_model.sh, or -m FILE)"); fi
  if ! command -v adb >/dev/null; then
    missing+=("adb (apt-get install adb)")
  elif ! adb get-state >/dev/null 2>&1; then
    missing+=("a device (adb devices; ANDROID_SERIAL chooses among several)")
  fi
  if ((${#missing[@]})); then
    list=$(printf ', %s' "${missing[@]}")
    fail "missing: ${list:2}"
  fi
fi

run tools/android/fetch_dependencies.sh
run cmake --preset android-arm64
run cmake --build build-android-arm64 --target wisp-bench wisp-kernels

# What shell users may write and execute.
there=/data/local/tmp/wisp
run adb shell mkdir -p $there
run adb push build-android-arm64/wisp-bench build-android-arm64/wisp-kernels $there/
source=()
if [[ $model ]]; then
  run adb push "$model" "$there/model.gguf"
  source=(-m "$there/model.gguf")
fi

phone=PHONE
if [[ ! $dry ]]; then
  phone=$(adb shell getprop ro.product.model | tr -d '\r' | tr -cs 'A-Za-z0-9.\n' '-')
  mkdir -p bench/results
fi
result=bench/results/$(date -u +%Y-%m-%d)-${phone:-unknown}.json
run adb shell "$there/wisp-kernels" || fail "wisp-kernels failed on this device, see above: right comes before fast"
run adb shell "$(printf '%q ' $there/wisp-bench "${source[@]}" "${options[@]}" --json $there/result.json)"
run adb pull $there/result.json "$result"
[[ $dry ]] || echo "result: $result"
