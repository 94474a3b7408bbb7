#!/usr/bin/env bash
# ASan and UBSan over every C++ test; TSan over those that run several threads.
set -euo pipefail
cd "$(dirname "$0")/.."
jobs=${1:-$(nproc)}

export ASAN_OPTIONS=detect_leaks=1:strict_string_checks=1
export UBSAN_OPTIONS=print_stacktrace=1
export TSAN_OPTIONS=halt_on_error=1:second_deadlock_stack=1

cmake --preset asan > /dev/null
cmake --build build/asan -j "$jobs"
ctest --test-dir build/asan --output-on-failure -LE 'fuzz|oracle'

cmake --preset tsan > /dev/null
cmake --build build/tsan -j "$jobs" --target thread_tests
ctest --test-dir build/tsan --output-on-failure -L 'threads'
