#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Gets a glslangValidator that knows GL_KHR_cooperative_matrix out of Debian 13's packages and prints its path on stdout; CMake finds it
# there by itself. It brings the C library that it needs: nothing is installed, root is not needed. Kept in
# ${XDG_CACHE_HOME:-~/.cache}/wisp/glslang.
set -euo pipefail

folder=${XDG_CACHE_HOME:-$HOME/.cache}/wisp/glslang
program=$folder/glslangValidator
if [[ -x $program ]]; then
  echo "$program"
  exit
fi

fail() {
  echo "fetch_glslang: $*" >&2
  exit 1
}
for tool in apt-get dpkg dpkg-deb; do
  command -v "$tool" >/dev/null || fail "$tool is missing (Debian or Ubuntu is needed)"
done
case $(dpkg --print-architecture) in
  amd64) loader=ld-linux-x86-64.so.2 ;;
  arm64) loader=ld-linux-aarch64.so.1 ;;
  *) fail "not for $(dpkg --print-architecture)" ;;
esac
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
[[ -s $keyring ]] || fail "$keyring is missing (package debian-archive-keyring)"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"
mkdir -p "$work"/state/lists/partial "$work"/cache/archives/partial "$work"/root
echo "deb [signed-by=$keyring] http://deb.debian.org/debian trixie main" >"$work/sources.list"
: >"$work/state/status"
own=(-o "Dir::Etc::sourcelist=$work/sources.list" -o Dir::Etc::sourceparts=/nonexistent -o "Dir::State=$work/state"
  -o "Dir::State::status=$work/state/status" -o "Dir::Cache=$work/cache")
echo "fetch_glslang: downloading glslang-tools and its libraries (9 MB)" >&2
cd "$work"
if ! { apt-get "${own[@]}" update &&
  apt-get "${own[@]}" download glslang-tools spirv-tools libc6 libstdc++6 libgcc-s1; } >log 2>&1; then
  cat log >&2
  fail "glslang-tools could not be downloaded"
fi
for package in *.deb; do dpkg-deb -x "$package" root; done

mkdir -p "$folder.new"
find root -type f -o -type l | grep -E "/($loader|glslangValidator|lib(c|m|stdc\+\+|gcc_s|glslang|glslang-default-resource-limits|SPIRV|SPVRemapper|SPIRV-Tools[a-z-]*|pthread|dl)\.so[.0-9]*)$" |
  while IFS= read -r file; do cp -L "$file" "$folder.new/${file##*/}"; done
mv "$folder.new/glslangValidator" "$folder.new/glslangValidator.program"
cat >"$folder.new/glslangValidator" <<'END'
#!/bin/sh
here=$(dirname "$0")
exec "$here"/LOADER --library-path "$here" "$here/glslangValidator.program" "$@"
END
sed -i "s/LOADER/$loader/" "$folder.new/glslangValidator"
chmod 755 "$folder.new"/*
"$folder.new/glslangValidator" --version >/dev/null || fail "the program does not start"
rm -rf "$folder"
mv "$folder.new" "$folder"
echo "$program"
