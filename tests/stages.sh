# SPDX-License-Identifier: Apache-2.0
# The stages of tools/test.sh, one function each, called as FUNCTION ARGUMENTS... in the repository's root. A stage says how it
# went by a line "N passed, N failed, N skipped" (Criterion by its own summary) and by its exit code.
# Given: $builds, where the builds are; $model, a path; $cores, how many compilers at a time.
# shellcheck shell=bash

totals() { echo "$1 passed, $2 failed, $3 skipped"; }

# driver NAME: the environment variable that lets the Vulkan loader see only this driver.
driver() {
  case $1 in
    lavapipe) echo VK_DRIVER_FILES="$(echo /usr/share/vulkan/icd.d/lvp_icd*.json)" ;;
    swiftshader) echo VK_DRIVER_FILES="$(tools/fetch_swiftshader.sh)" ;;
  esac
}

# ---- What comes over the network: then the others find it in the cache --------------------------------------------------
downloads() {
  local got=0 failed=0 command
  for command in tools/fetch_model.sh tools/fetch_swiftshader.sh tools/fetch_glslang.sh "tools/android/fetch_dependencies.sh $builds/dependencies"; do
    if $command; then got=$((got + 1)); else failed=$((failed + 1)); fi
  done
  totals $got $failed 0
}

# ---- Builds, warnings as errors; one passed for the build, one for each further check -----------------------------------
build() {
  local name=$1 options=()
  case $name in
    release) options=(-DCMAKE_BUILD_TYPE=Release -DCMAKE_C_COMPILER=gcc) ;;
    # -O1 is built in half the time; gcc warns of other things there, some of them wrong.
    asan)
      options=(-DCMAKE_BUILD_TYPE=RelWithDebInfo -DCMAKE_C_FLAGS_RELWITHDEBINFO="-O1 -g1 -DNDEBUG" -DWISP_WERROR=OFF
        -DCMAKE_C_COMPILER=gcc -DWISP_SANITIZE=address,undefined)
      ;;
    tsan) options=(-DCMAKE_BUILD_TYPE=RelWithDebInfo -DCMAKE_C_COMPILER=gcc -DWISP_SANITIZE=thread) ;;
    clang) options=(-DCMAKE_BUILD_TYPE=Debug -DCMAKE_C_COMPILER=clang -DWISP_RUNTIME_GLSL=ON) ;;
    arm64)
      options=(-DCMAKE_TOOLCHAIN_FILE="$PWD/cmake/aarch64-linux-gnu.cmake" -DWISP_DEPS_DIR="$builds/dependencies"
        -DWISP_BUILD_TESTS=OFF)
      ;;
  esac
  local target=all
  if [[ $name == tsan ]]; then target=wisp-tsan; fi
  cmake -S . -B "$builds/$name" -G Ninja -DWISP_WERROR=ON "${options[@]}" && ninja -C "$builds/$name" -j "$cores" $target || return
  if [[ $name == release ]]; then
    library_manners "$builds/$name"
    return
  fi
  totals 1 0 0
}

# The library prints nothing, never ends its host's process, and calls Vulkan through tables.
library_manners() {
  local found
  found=$(nm --undefined-only "$1"/engine/libwisp.a "$1"/runtime/libwisp_runtime.a |
    grep -wE 'printf|fprintf|vprintf|vfprintf|puts|fputs|putchar|fputc|perror|stdout|stderr|abort|exit|_exit|__assert_fail' | sort | uniq -c)
  if [[ $found ]]; then
    echo "the library uses:"
    echo "$found"
    totals 1 1 0
    return 1
  fi
  tests/check_vulkan_globals.sh "$1" || return
  totals 3 0 0
}

# ---- Tests --------------------------------------------------------------------------------------------------------------
# unit BUILD DRIVER FILTER [VARIABLE=VALUE...]
unit() {
  local name=$1 vulkan=$2 filter=$3
  shift 3
  env "$(driver "$vulkan")" WISP_TEST_MODEL="$model" UBSAN_OPTIONS=print_stacktrace=1 "$@" "$builds/$name/wisp-unit" --filter "$filter" 2>&1
}

threads() {
  local said
  said=$("$builds/tsan/wisp-tsan") || return
  totals "${said%% *}" 0 0
}

# The persistent kernel translated to C++, with a check that it sees faults; its compiler's errors are failures.
emulation() { tests/emulation/run.sh "$builds/release" 2>&1; }

# kernels DRIVER [VARIABLE=VALUE...]
kernels() {
  local vulkan=$1
  shift
  env "$(driver "$vulkan")" "$@" "$builds/release/wisp-kernels" --seed 1 2>&1
}

# behaviour SCRIPT BUILD [VARIABLE=VALUE...]
behaviour() {
  local script=$1 name=$2
  shift 2
  env "$(driver lavapipe)" "$@" "$script" "$builds/$name" "$model"
}

# truth DEVICE [OPTIONS...]: the default model against the vectors of tests/truth
truth() {
  local device=vulkan vulkan=$1
  shift
  if [[ $vulkan == cpu ]]; then device=cpu vulkan=lavapipe; fi
  env "$(driver $vulkan)" "$builds/release/wisp-truth" -m "$model" --device $device "$@"
}

# truth_set SET [OPTIONS...]: on the CPU with one kernel set
truth_set() {
  local set=$1
  shift
  WISP_CPU=$set truth cpu "$@"
}

# Every kernel set that this processor has beside the reference.
truth_sets() {
  local set said failed=0
  local -a sum=(0 0 0)
  read -ra sets < <("$builds/release/wisp-cpu-kernels" --list)
  for set in "${sets[@]}"; do
    if [[ $set == c ]]; then continue; fi
    echo "WISP_CPU=$set"
    said=$(truth_set "$set" "$@") || failed=1
    echo "$said" | sed '$d'
    [[ $said =~ ([0-9]+)\ passed,\ ([0-9]+)\ failed,\ ([0-9]+)\ skipped$ ]] || { failed=1; continue; }
    for i in 0 1 2; do sum[i]=$((sum[i] + BASH_REMATCH[i + 1])); done
  done
  totals "${sum[@]}"
  return $failed
}

# Every kernel set that this processor has against formulas; arm64's on emulated processors without dot products, with them, and
# with matrix products.
cpu_kernels() { "$builds/release/wisp-cpu-kernels"; }
cpu_kernels_arm64() {
  local processor set said passed=0 failed=0
  local -A last=([cortex-a53]=neon [cortex-a76]=dotprod [max]=i8mm)
  for processor in cortex-a53 cortex-a76 max; do
    set=${last[$processor]}
    said=$(qemu-aarch64 -cpu "$processor" "$builds/arm64/wisp-cpu-kernels" --set "$set")
    echo "$processor: $said" | sed 's/ passed, / were good, /' # not this stage's totals
    if [[ $said =~ ([0-9]+)\ passed,\ 0\ failed,\ 0\ skipped$ && $said == *"here: c"*" $set"$'\n'* ]]; then
      passed=$((passed + BASH_REMATCH[1]))
    else
      failed=$((failed + 1))
    fi
  done
  totals $passed $failed 0
  return $failed
}

# A run under the validation layer with synchronization validation says nothing, and deliberate errors are reported.
validation() {
  local vulkan passed=0 failed=0 text=$builds/logs/validation.text
  for vulkan in lavapipe swiftshader; do
    if env "$(driver $vulkan)" WISP_VALIDATE=1 "$builds/release/wisp" run -m "$model" --raw -p "One two" -n 2 --temp 0 \
      --device vulkan >"$text" 2>&1 && ! grep -i validation "$text"; then
      passed=$((passed + 1))
    else
      echo "wisp run on $vulkan under the validation layer:"
      cat "$text"
      failed=$((failed + 1))
    fi
  done
  if canaries; then passed=$((passed + 1)); else failed=$((failed + 1)); fi
  totals $passed $failed 0
}

canaries() {
  local said
  said=$(unit release lavapipe 'wvk_compute/canary_*')
  echo "canaries: $said" | sed 's/Synthesis: //' # not a summary of this stage's
  [[ $said =~ Tested:\ ([0-9]+)\ \|\ Passing:\ ([0-9]+) ]] && ((BASH_REMATCH[1] >= 3 && BASH_REMATCH[1] == BASH_REMATCH[2]))
}

# Each fuzzer for some seconds with a fixed seed, under the sanitizers.
fuzz() {
  local program passed=0 failed=0
  for program in "$builds"/asan/wisp-fuzz-*; do
    if "$program" 20000 1; then passed=$((passed + 1)); else failed=$((failed + 1)); fi
  done
  totals $passed $failed 0
}

# Random checkpoints of every architecture in Hugging Face folders against a forward pass in NumPy.
# models BUILD DEVICE LIMIT [NAME...]
models() {
  local name=$1 device=$2 limit=$3
  shift 3
  env "$(driver lavapipe)" /usr/bin/python3 tests/model/check.py "$builds/$name/wisp" "$builds/models" --device "$device" --limit "$limit" "$@"
}

# What wisp calibrate sees in them, and what wisp convert makes of it: importance BUILD
importance() {
  /usr/bin/python3 tests/model/check_importance.py "$builds/$1/wisp" "$builds/importance"
}

# The arm64 build under qemu gives the ids and the text of this machine's build.
arm64() {
  local text="Hello, wörld 123 こんにちは" ids answer passed=0 failed=0 name
  local -A runner=([release]="" [arm64]="env QEMU_LD_PREFIX=/usr/aarch64-linux-gnu qemu-aarch64") said=()
  for name in release arm64; do
    ids=$(${runner[$name]} "$builds/$name/wisp" tokenize -m "$model" "$text")
    answer=$(${runner[$name]} "$builds/$name/wisp" run -m "$model" --raw -p "The capital of France is" -n 2 --temp 0 --device cpu)
    said[$name-ids]=$ids said[$name-answer]=$answer
    echo "$name: $ids |$answer"
  done
  for name in ids answer; do
    if [[ ${said[release-$name]} && ${said[release-$name]} == "${said[arm64-$name]}" ]]; then
      passed=$((passed + 1))
    else
      failed=$((failed + 1))
    fi
  done
  totals $passed $failed 0
}
