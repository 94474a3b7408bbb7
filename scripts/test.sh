#!/usr/bin/env bash
# Builds with warnings as errors, builds the fuzzers, runs every test once, and counts them.
set -uo pipefail
cd "$(dirname "$0")/.."
jobs=${1:-$(nproc)}

run() { # run NAME COMMAND...: quiet unless it fails
  local name=$1 log
  shift
  log=$(mktemp)
  echo "== $name"
  if ! "$@" > "$log" 2>&1; then
    tail -n 60 "$log"
    rm -f "$log"
    echo "$name failed" >&2
    exit 1
  fi
  rm -f "$log"
}

run "configure" cmake --preset ci
run "build" cmake --build build/ci -j "$jobs"
run "configure fuzzers" cmake --preset fuzz
run "build fuzzers" cmake --build build/fuzz -j "$jobs" --target fuzzers

echo "== tests"
ctest --test-dir build/ci --output-on-failure --no-tests=error
status=$?

# One line with the number of single checks: GoogleTest cases, and one for each other program.
log=build/ci/Testing/Temporary/LastTest.log
passed=$(grep -aoP '^\[  PASSED  \] \K\d+' "$log" | awk '{n += $1} END {print n + 0}')
failed=$(grep -aoP '^\[  FAILED  \] \K\d+(?= tests?, listed)' "$log" | awk '{n += $1} END {print n + 0}')
skipped=$(grep -aoP '^\[  SKIPPED \] \K\d+(?= tests?)' "$log" | awk '{n += $1} END {print n + 0}')
others=$(grep -aoP '^(?:\w+: )?\K\d+(?= passed, \d+ failed)' "$log" | awk '{n += $1} END {print n + 0}')
[[ $status -ne 0 && $failed -eq 0 ]] && failed=1
echo "sluice: $((passed + others)) passed, $failed failed, $skipped skipped"
exit $status
