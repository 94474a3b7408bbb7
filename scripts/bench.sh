#!/usr/bin/env bash
# Builds the release, then measures: each operation beside this machine's ceilings, then whole models
# through the engine. One report of medians, on the terminal and in build/bench.txt; some 4 minutes
# after the build. Nothing else should run meanwhile. See docs/performance.md.
set -euo pipefail
cd "$(dirname "$0")/.."
jobs=${1:-$(nproc)}
seconds_max=${BENCH_SECONDS:-40}  # of one kernel's bench; what it has printed by then stays

cmake --preset release > /dev/null
cmake --build build/release -j "$jobs" --target sluice benches

sluice=build/release/src/cli/sluice
tiny=(--model-path models/sluice-tiny --concurrency 1,16)
flash=(--model-path Ling-2.6-flash --load-format dummy --skip-tokenizer-init --log-level warning
       --json-model-override-args '{"num_hidden_layers": 2, "layer_group_size": 2,
                                    "first_k_dense_replace": 1, "num_experts": 16}')

run() { # run TITLE COMMAND...
  local title=$1 status=0
  shift
  printf '\n== %s\n' "$title"
  timeout "$seconds_max" "$@" 2>&1 || status=$?
  ((status == 124)) && echo "(cut after $seconds_max s)"
  ((status == 0 || status == 124)) || { echo "$1 failed with status $status" >&2; return 1; }
}

report() {
  echo "sluice $(git describe --always --dirty 2> /dev/null || echo '?'), $(date -u +%Y-%m-%d)"
  run "sluice-tiny, 2.8 M parameters, whole" \
    "$sluice" bench "${tiny[@]}" --prompt-tokens 512 --decode-tokens 128 --runs 7
  run "2 layers at Ling-2.6-flash widths, whole" \
    "$sluice" bench "${flash[@]}" --concurrency 1 --prompt-tokens 128 --decode-tokens 32 --runs 3
  run "streams through the engine" build/release/bench/engine_streams models/sluice-tiny
  local program
  while read -r program; do
    run "$(basename "$program")" "$program"
  done < <(find build/release/src -name '*_bench' -type f -perm -u+x | sort)
}

report | stdbuf -oL tee build/bench.txt
echo
echo "kept in build/bench.txt"
