#!/usr/bin/env bash
# run.sh FUZZER SECONDS: fuzzes from the kept seeds; what it finds on the way stays in build/.
set -euo pipefail
fuzzer=$1 seconds=$2
name=$(basename "$fuzzer")
if [[ ! -x $fuzzer ]]; then
  echo "$fuzzer is not built: cmake --preset fuzz && cmake --build build/fuzz --target fuzzers" >&2
  exit 1
fi
seeds=$(cd "$(dirname "$0")" && pwd)/corpus/${name%_fuzz}
found=$(dirname "$fuzzer")/found/$name
mkdir -p "$found"
if ! "$fuzzer" -max_total_time="$seconds" -timeout=30 -rss_limit_mb=2048 -print_final_stats=1 \
    -artifact_prefix="$found/" "$found" $([[ -d $seeds ]] && echo "$seeds"); then
  echo "$name: 0 passed, 1 failed"
  exit 1
fi
echo "$name: 1 passed, 0 failed"
