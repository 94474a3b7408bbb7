#!/usr/bin/env bash
# Formatting and clang-tidy over the files that changed since main (or all, with LINT_ALL=1).
set -euo pipefail
cd "$(dirname "$0")/.."
jobs=${1:-$(nproc)}
cmake --preset ci > /dev/null
if [[ ${LINT_ALL:-0} = 1 ]]; then
  mapfile -t files < <(git ls-files 'src/*.cpp')
else
  mapfile -t files < <(git diff --name-only --diff-filter=d "$(git merge-base HEAD main)" -- 'src/*.cpp')
fi
git ls-files '*.h' '*.cpp' | xargs clang-format --dry-run 2>&1 | grep -c warning || true
((${#files[@]})) || { echo "no source file changed"; exit 0; }
printf '%s\n' "${files[@]}" | grep -vE '/(avx2|avx512|amx)\w*\.cpp$' |
  xargs -r -P "$jobs" -n 4 clang-tidy -p build/ci --quiet
