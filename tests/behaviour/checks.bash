# SPDX-License-Identifier: Apache-2.0
# What the scripts of this folder check with; sourced, $work being a folder of the script's own.
# shellcheck shell=bash
out=${work:?}/out err=$work/err
passed=0 failed=0 skipped=0

pass() { passed=$((passed + 1)); }
skip() { skipped=$((skipped + 1)); echo "skip  $1: $2"; }
fail() {
  failed=$((failed + 1))
  echo "FAIL  $1: $2"
  sed 's/^/        stderr: /' "$err" | head -n 5
}

# run COMMAND...: sets code, fills $out and $err.
run() {
  "$@" >"$out" 2>"$err" </dev/null
  code=$?
}

# good NAME COMMAND...: exit code 0.
good() {
  local name=$1
  shift
  run "$@"
  if [ $code -eq 0 ]; then pass; else fail "$name" "exit code $code, expected 0"; fi
}

# bad NAME CODES PATTERN COMMAND...: one of the exit codes, one line on stderr that matches, nothing on stdout, no temporary
# file left.
bad() {
  local name=$1 codes=$2 pattern=$3
  shift 3
  run "$@"
  if [[ ! " $codes " == *" $code "* ]]; then
    fail "$name" "exit code $code, expected $codes"
  elif [ "$(wc -l <"$err")" -ne 1 ]; then
    fail "$name" "$(wc -l <"$err") lines on stderr, expected one"
  elif ! grep -qE -- "$pattern" "$err"; then
    fail "$name" "the line does not match '$pattern'"
  elif [ -s "$out" ]; then
    fail "$name" "text on stdout"
  elif find "$work" -name '*.tmp' | grep -q .; then
    fail "$name" "a temporary file was left"
    find "$work" -name '*.tmp' -delete
  else
    pass
  fi
}

# json NAME EXPRESSION: of the last run's stdout, parsed as d.
json() {
  if python3 -c '
import json, math, sys
d = json.load(open(sys.argv[1]))
sys.exit(0 if eval(sys.argv[2]) else 1)' "$out" "$2" 2>>"$err"; then pass; else fail "$1" "does not hold: $2"; fi
}

# text NAME PATTERN: of the last run's stdout, as a whole.
text() { if grep -qzE -- "$2" "$out"; then pass; else fail "$1" "stdout does not match '$2'"; fi; }

# checked: the last line, and whether all passed.
checked() {
  echo "$passed passed, $failed failed, $skipped skipped"
  [ "$failed" -eq 0 ]
}
