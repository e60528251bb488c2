#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# What can be said of the sources without building them. One check a line; ends with "N passed, N failed, N skipped".
#   tests/style.sh
set -u
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
passed=0 failed=0

# check NAME COMMAND...: passes where the command succeeds and prints nothing.
check() {
  local name=$1 said
  shift
  if said=$("$@" 2>&1) && [[ ! $said ]]; then
    passed=$((passed + 1))
  else
    failed=$((failed + 1))
    printf 'FAIL  %s\n%s\n' "$name" "$(sed 's/^/        /' <<<"$said" | head -n 30)"
  fi
}

list() { git ls-files -- "$@"; }

formatted() {
  local file
  list '*.c' '*.h' '*.cpp' '*.hpp' | while read -r file; do
    clang-format-14 --dry-run -Werror "$file" >/dev/null 2>&1 || echo "$file: run clang-format-14 -i"
  done
}
without() { list "${@:2}" | xargs -r grep -nE -- "$1" | cut -c1-160; }   # PATTERN FILES...
licensed() { list '*.c' '*.h' '*.cpp' '*.hpp' '*.comp' '*.glsl' '*.sh' '*.py' .ci/run | xargs grep -L 'SPDX-License-Identifier: Apache-2.0'; }
small() { list | while read -r file; do find "$file" -maxdepth 0 -type f -size +1024k; done; }
short() { list '*.c' '*.cpp' '*.hpp' '*.comp' '*.glsl' '*.sh' | xargs wc -l | awk '$2 != "total" && $1 > 650 {print $2 ": " $1 " lines, about 600 are allowed"}'; }
bash_parses() { list '*.sh' .ci/run | while read -r file; do bash -n "$file"; done; }
header() { "$@" -Wall -Wextra -Wpedantic -Werror -fsyntax-only engine/include/wisp/wisp.h; }

check "clang-format" formatted
check "no tabs, no trailing white space" without $'\t|[ \t]+$' '*.c' '*.h' '*.cpp' '*.hpp' '*.comp' '*.glsl' '*.sh' '*.py' '*.txt' '*.md' '*.json' '*.cmake' \
  ':!tests/truth/text.txt' ':!tests/data'
check "every source names its licence" licensed
check "no file over 1 MiB" small
check "no file over 650 lines" short
check "no paths of one machine" without '(/[r]oot|/[h]ome)/' ':!LICENSE' ':!tests/truth/text.txt'
check "no fixed temporary files" without '(^|[^a-z])/[t]mp/' engine runtime shaders bench tools
check "shell scripts parse" bash_parses
check "wisp.h alone, C11, gcc" header gcc -x c -std=c11
check "wisp.h alone, C11, clang" header clang -x c -std=c11
check "wisp.h alone, C++17, gcc" header g++ -x c++ -std=c++17
check "wisp.h alone, C++17, clang" header clang++ -x c++ -std=c++17
echo "$passed passed, $failed failed, 0 skipped"
((failed == 0))
