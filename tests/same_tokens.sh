#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# tests/same_tokens.sh BUILD_DIR MODEL [TOKENS [PROMPTS]]: every kernel set that this processor has, with 1, 2, 3 and 8 threads, makes
# the same greedy tokens as the C reference with one thread. For processors that tools/test.sh seldom meets: needs the binaries only.
set -u
build=$1 model=$2 tokens=${3:-48} count=${4:-3}
prompts=("The capital of France is" "Once upon a time, in a village by the sea," "def fibonacci(n):")
passed=0 failed=0

# ids SET THREADS: the ids of all replies
ids() {
  local prompt
  for prompt in "${prompts[@]:0:count}"; do
    WISP_CPU=$1 "$build/wisp" run -m "$model" --device cpu --threads "$2" --raw -p "$prompt" -n "$tokens" --temp 0 --json 2>/dev/null |
      tr -d '\n ' | grep -oE '"(ids|tokens|token_ids)":\[[^]]*\]' || return
  done
}

expected=$(ids c 1)
if [[ -z $expected ]]; then
  echo "no tokens from the C reference"
  exit 1
fi
read -ra sets < <("$build/wisp-cpu-kernels" --list)
for set in "${sets[@]}"; do
  for threads in 1 2 3 8; do
    if [[ $(ids "$set" $threads) == "$expected" ]]; then
      passed=$((passed + 1))
    else
      echo "WISP_CPU=$set --threads $threads: other tokens"
      failed=$((failed + 1))
    fi
  done
done
echo "sets: ${sets[*]}; $count x $tokens tokens"
echo "$passed passed, $failed failed, 0 skipped"
[[ $failed == 0 ]]
