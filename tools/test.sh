#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Passes all tests, installing what they need (Debian, Ubuntu). Ends with "N passed, N failed, N skipped", exit code 0 only where
# nothing failed.
#
#   tools/test.sh [--list] [--jobs N] [STAGE...]      a stage by its name or the beginning of it: tools/test.sh style unit
#
# Logs: build-test/logs/STAGE.log; summary: build-test/results.json. docs/testing.md says what each stage checks.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

# ---- The stages: name, seconds at most, stages that must have passed, function of tests/stages.sh with arguments ---------
names=()
declare -A limit after call
stage() {
  names+=("$1")
  limit[$1]=$2 after[$1]=$3
  shift 3
  call[${names[-1]}]=$*
}
vulkan_suites='@(wvk|gpu)*/*' # what depends on the driver; sessions take minutes where pipelines are slow to build
# Software drivers decode a token or two a second.
few=(--prompts 6 --tokens 8 --decode-prompts 2 --decode-tokens 8 --windows 1 --depth 31)
# The reference is slow, and the other kernel sets are held to the same vectors in full.
reference=(--decode-prompts 3 --decode-tokens 16 --windows 2)
fewer=(--prompts 2 --tokens 4 --decode-prompts 1 --decode-tokens 2 --windows 0 --depth 0)

stage style                  300 ''                        tests/style.sh
stage downloads              600 ''                        downloads
stage build-release          900 'downloads'               build release
stage unit                   900 'build-release downloads' unit release lavapipe '*/*'
stage build-asan            1200 ''                        build asan
stage unit-swiftshader      1200 'build-release downloads' unit release swiftshader "$vulkan_suites"
stage unit-subgroup-4        600 'build-release downloads' unit release lavapipe "$vulkan_suites" LP_NATIVE_VECTOR_WIDTH=128
stage unit-subgroup-16       600 'build-release downloads' unit release lavapipe "$vulkan_suites" LP_NATIVE_VECTOR_WIDTH=512
for script in tests/behaviour/*.sh; do
  stage "behaviour-$(basename "$script" .sh)" 1200 'build-release downloads' behaviour "$script" release
done
stage emulation              300 'build-release'           emulation
stage models-cpu             300 'build-release'           models release cpu 1e-8
stage importance             300 'build-release'           importance release
stage models-lavapipe        600 'build-release'           models release vulkan 1e-6
stage cpu-kernels            300 'build-release'           cpu_kernels
stage truth-cpu             2400 'build-release downloads' truth_set c "${reference[@]}"
stage truth-cpu-sets        2400 'build-release downloads' truth_sets --threads 2,1,3,8
stage truth-lavapipe        2400 'build-release downloads' truth lavapipe "${few[@]}"
stage truth-swiftshader     1800 'build-release downloads' truth swiftshader "${fewer[@]}"
stage kernels-subgroup-4     900 'build-release'           kernels lavapipe LP_NATIVE_VECTOR_WIDTH=128 WISP_CAPS=+int_dot
stage kernels-subgroup-8     900 'build-release'           kernels lavapipe LP_NATIVE_VECTOR_WIDTH=256
stage kernels-subgroup-16    900 'build-release'           kernels lavapipe LP_NATIVE_VECTOR_WIDTH=512 WISP_CAPS=+int_dot
stage kernels-tier0          900 'build-release'           kernels lavapipe WISP_CAPS=tier0
stage kernels-swiftshader    900 'build-release downloads' kernels swiftshader
stage kernels-validated      900 'build-release'           kernels lavapipe WISP_VALIDATE=1 WISP_CAPS=+int_dot
stage validation             600 'build-release downloads' validation
stage unit-asan             1800 'build-asan downloads'    unit asan lavapipe '*/*'
stage fuzz                   600 'build-asan'              fuzz
stage build-clang            900 ''                        build clang
stage glsl                   300 'build-clang'             unit clang lavapipe 'wvk_glsl/*'
stage build-tsan             600 ''                        build tsan
stage threads                300 'build-tsan'              threads
stage build-arm64            900 'downloads'               build arm64
stage arm64                  300 'build-arm64 build-release downloads' arm64
stage cpu-kernels-arm64      900 'build-arm64'             cpu_kernels_arm64

# ---- Options -------------------------------------------------------------------------------------------------------------
jobs=$(nproc) wanted=()
usage() {
  echo "usage: tools/test.sh [--list] [--jobs N] [STAGE...]" >&2
  exit 2
}
while (($#)); do
  case $1 in
    --list) printf '%s\n' "${names[@]}"; exit ;;
    --jobs) [[ ${2:-} =~ ^[1-9][0-9]*$ ]] || usage; jobs=$2; shift ;;
    -*) usage ;;
    *) wanted+=("$1") ;;
  esac
  shift
done

# What was asked for, and what that needs.
declare -A chosen
choose() {
  local need
  chosen[$1]=1
  for need in ${after[$1]}; do choose "$need"; done
}
for word in "${wanted[@]-}"; do
  known=
  for name in "${names[@]}"; do
    if [[ $name == "$word"* ]]; then known=1; choose "$name"; fi
  done
  [[ $known ]] || { echo "test: no stage is called '$word': tools/test.sh --list" >&2; exit 2; }
done

# ---- Running one stage ---------------------------------------------------------------------------------------------------
export builds=$PWD/build-test
export model=${XDG_CACHE_HOME:-$HOME/.cache}/wisp/SmolLM2-135M-Instruct.Q4_1.gguf
export cores=$((($(nproc) + jobs - 1) / jobs))
logs=$builds/logs
mkdir -p "$logs"
rm -f "$logs"/*

# read_totals LOG: "passed failed skipped" of its last totals line or Criterion summary; nothing where there is none.
read_totals() {
  local line tested passing
  line=$(sed 's/\x1b\[[0-9;]*m//g' "$1" | grep -E '^[0-9]+ passed, [0-9]+ failed, [0-9]+ skipped$|Synthesis: Tested: [0-9]+' | tail -n 1)
  if [[ $line =~ ^([0-9]+)\ passed,\ ([0-9]+)\ failed,\ ([0-9]+)\ skipped$ ]]; then
    echo "${BASH_REMATCH[1]} ${BASH_REMATCH[2]} ${BASH_REMATCH[3]}"
  elif [[ $line =~ Tested:\ ([0-9]+)\ .*Passing:\ ([0-9]+) ]]; then
    tested=${BASH_REMATCH[1]} passing=${BASH_REMATCH[2]}
    echo "$passing $((tested - passing)) 0"
  fi
}

# In a process of its own: runs the stage, writes "passed failed skipped seconds" to logs/NAME.result.
run_stage() {
  local name=$1 start=$SECONDS code counts passed=0 failed=0 skipped=0 child
  trap 'kill "$child" 2>/dev/null; exit 1' TERM
  set -f # the filters of the unit tests are no file names
  # shellcheck disable=SC2086
  timeout --kill-after=10 "${limit[$name]}" bash -c 'source tests/stages.sh; "$@"' "$name" ${call[$name]} >"$logs/$name.log" 2>&1 &
  child=$!
  wait $child
  code=$?
  ((code == 124 || code == 137)) && echo "test: stopped after ${limit[$name]} s" >>"$logs/$name.log"
  counts=$(read_totals "$logs/$name.log")
  if [[ $counts ]]; then read -r passed failed skipped <<<"$counts"; fi
  # A stage that crashes, says nothing or runs nothing has failed.
  if ((code != 0 && failed == 0 || passed + failed + skipped == 0)); then failed=$((failed + 1)); fi
  echo "$passed $failed $skipped $((SECONDS - start))" >"$logs/$name.result"
}

# ---- Running them all ----------------------------------------------------------------------------------------------------
total_passed=0 total_failed=0 total_skipped=0 json=()
declare -A state # of a stage: running, passed or failed

report() { # NAME PASSED FAILED SKIPPED SECONDS
  local word=ok
  (($3)) && word=FAIL
  printf '%-5s %-22s %5s s   %s passed, %s failed, %s skipped\n' "$word" "$1" "$5" "$2" "$3" "$4"
  if (($3)) && [[ -f $logs/$1.log ]]; then
    sed 's/^/        /' "$logs/$1.log" | tail -n 40
    echo "        (all of it: build-test/logs/$1.log)"
  fi
  total_passed=$((total_passed + $2)) total_failed=$((total_failed + $3)) total_skipped=$((total_skipped + $4))
  json+=("  {\"stage\": \"$1\", \"passed\": $2, \"failed\": $3, \"skipped\": $4, \"seconds\": $5}")
  state[$1]=passed
  (($3)) && state[$1]=failed
}

collect() { # reports the stages that have ended since; "all" takes those without a result as failed
  local name
  for name in "${names[@]}"; do
    [[ ${state[$name]-} == running ]] || continue
    result=(0 1 0 0)
    if [[ -f $logs/$name.result ]]; then read -r -a result <"$logs/$name.result"; elif [[ $1 != all ]]; then continue; fi
    report "$name" "${result[@]}"
    running=$((running - 1))
  done
}

# ready NAME: all it needs has passed. Where some has failed, the stage fails without being run.
ready() {
  local need
  for need in ${after[$1]}; do
    if [[ ${state[$need]-} == failed ]]; then
      echo "test: not run, since $need failed" >"$logs/$1.log"
      report "$1" 0 1 0 0
      return 1
    fi
    [[ ${state[$need]-} == passed ]] || return 1
  done
}

# shellcheck disable=SC2046
trap 'kill $(jobs -p) 2>/dev/null; exit 130' INT TERM
if ! tools/install_dependencies.sh build run test arm64; then
  echo "0 passed, 1 failed, 0 skipped"
  exit 1
fi
running=0
while :; do
  left=0
  for name in "${names[@]}"; do
    [[ ${chosen[$name]-} && ! ${state[$name]-} ]] || continue
    left=$((left + 1))
    if ((running < jobs)) && ready "$name"; then
      state[$name]=running
      running=$((running + 1))
      run_stage "$name" &
    fi
  done
  if ((running == 0 && left == 0)); then break; fi
  ended=0
  if ((running > 0)); then wait -n || ended=$?; fi
  if ((ended == 127)); then collect all; else collect ended; fi
done

{
  echo "["
  printf '%s\n' "${json[@]}" | sed '$!s/$/,/'
  echo "]"
} >"$builds/results.json"
echo "$SECONDS s; summary: build-test/results.json"
echo "$total_passed passed, $total_failed failed, $total_skipped skipped"
((total_failed == 0))
