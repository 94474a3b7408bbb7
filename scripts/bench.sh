#!/usr/bin/env bash
# Builds the release, then measures: each operation beside this machine's ceilings, then whole models
# through the engine. One report of medians, on the terminal and in build/bench.txt; some 5 minutes
# after the build. Nothing else should run meanwhile. See docs/performance.md.
set -euo pipefail
cd "$(dirname "$0")/.."
jobs=${1:-$(nproc)}
seconds_max=${BENCH_SECONDS:-25}  # of one kernel's bench; what it has printed by then stays

cmake --preset release > /dev/null
cmake --build build/release -j "$jobs" --target sluice benches

sluice=build/release/src/cli/sluice
tiny=(--model-path models/sluice-tiny --concurrency 1,16)
flash=(--model-path Ling-2.6-flash --load-format dummy --skip-tokenizer-init --log-level warning
       --json-model-override-args '{"num_hidden_layers": 2, "layer_group_size": 2,
                                    "first_k_dense_replace": 1, "num_experts": 16}')

run() { # run SECONDS TITLE COMMAND...: line by line, so that nothing is lost where it is cut
  local seconds=$1 title=$2 status=0
  shift 2
  printf '\n== %s\n' "$title"
  timeout "$seconds" stdbuf -oL "$@" 2>&1 || status=$?
  ((status == 124)) && echo "(cut after $seconds s)"
  ((status == 0 || status == 124)) || { echo "$1 failed with status $status" >&2; return 1; }
}

report() {
  echo "sluice $(git describe --always --dirty 2> /dev/null || echo '?'), $(date -u +%Y-%m-%d)"
  run 60 "sluice-tiny, 2.8 M parameters, whole" \
    "$sluice" bench "${tiny[@]}" --prompt-tokens 512 --decode-tokens 128 --runs 7
  run 60 "2 layers at Ling-2.6-flash widths, whole" \
    "$sluice" bench "${flash[@]}" --concurrency 1 --prompt-tokens 128 --decode-tokens 32 --runs 3
  run 30 "streams through the engine" build/release/bench/engine_streams models/sluice-tiny
  run 60 "streams over HTTP" bench/http_streams.py "$sluice" models/sluice-tiny
  run 60 "single products" "$sluice" bench linear --shapes 4096x4096 --tokens 1,16,512 \
    --format bf16,fp8,int8,int4 --seconds-max 3
  run 120 "mixture-of-experts layers" "$sluice" bench moe --geometry Ling-mini-2.0 \
    --tokens 1,32,512 --format bf16,fp8,int8,int4 --seconds-max 3
  local program
  while read -r program; do
    run "$seconds_max" "$(basename "$program")" "$program"
  done < <(find build/release/src -name '*_bench' -type f -perm -u+x | sort)
}

report | stdbuf -oL tee build/bench.txt
echo
echo "kept in build/bench.txt"
