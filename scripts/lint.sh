#!/usr/bin/env bash
# Formatting of every file, and clang-tidy over the files that changed since main (or all, with
# LINT_ALL=1: about an hour on 2 cores). Fails if either has something to say. Not looked at: files of
# one instruction set, and those that only a CUDA toolkit can compile.
set -euo pipefail
cd "$(dirname "$0")/.."
jobs=${1:-$(nproc)}

git ls-files '*.h' '*.cpp' '*.inc' '*.cu' '*.cuh' | xargs clang-format --dry-run -Werror

if [[ ${LINT_ALL:-0} = 1 ]]; then
  mapfile -t files < <(git ls-files 'src/*.cpp')
else
  mapfile -t files < <(git diff --name-only --diff-filter=d "$(git merge-base HEAD main)" -- 'src/*.cpp')
fi
((${#files[@]})) || { echo "no source file changed"; exit 0; }
cmake --preset release > /dev/null  # with tests and benches
export LC_ALL=C
compiled=$(grep -oP '"file": "\K[^"]+' build/release/compile_commands.json | sed "s|^$PWD/||" | sort -u)
printf '%s\n' "${files[@]}" | { grep -vE '/(avx2|avx512|amx)\w*\.cpp$' || true; } | sort |
  comm -12 - <(printf '%s\n' "$compiled") | xargs -r -P "$jobs" -n 4 clang-tidy -p build/release --quiet
