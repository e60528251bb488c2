#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The persistent kernel on a CPU: translates it to C++, compiles that, runs it. Needs g++, GLM and a build of the library.
#   tests/emulation/run.sh BUILD [--seed N] [NAME...]      cases and mutants whose names contain one of these
set -euo pipefail
build=$(realpath "$1")
shift
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
out=$build/emulation
mkdir -p "$out"
flags=(-O2 -g1 -Wall -Wextra -Werror -ffp-contract=off -D_GNU_SOURCE -U_FORTIFY_SOURCE -Iengine -Iengine/include -Iruntime -Ishaders -Itests -Itests/emulation)

python3 -B tests/emulation/glsl_to_cpp.py shaders persistent.comp "$out/persistent_shader.hpp"
gcc -std=c11 "${flags[@]}" -Wno-unused-parameter -c tests/emulation/subject.c -o "$out/subject.o"
# The shader has no unused names, but those of macros that one of their uses does not need.
g++ -std=c++20 "${flags[@]}" -Wno-unused -Wno-unused-parameter -Wno-missing-field-initializers -Wno-maybe-uninitialized -ftrivial-auto-var-init=pattern -I"$out" \
  tests/emulation/persistent.cpp "$out/subject.o" "$build"/engine/libwisp.a "$build"/runtime/libwisp_runtime.a \
  "$build"/shaders/libwisp_shaders.a -lcjson -lutf8proc -lm -lpthread -o "$out/persistent"
exec "$out/persistent" "$@"
