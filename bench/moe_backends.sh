#!/usr/bin/env bash
# Whole models end to end with each back end of the experts: the bundled one, and 4 layers at the
# widths of Ling-mini-2.0 with made-up weights. Back ends take turns, ROUNDS times; printed are
# medians of the rounds, tokens per second. Nothing else should run meanwhile.
#
#   cmake --preset release && cmake --build build/release --target sluice
#   bench/moe_backends.sh [ROUNDS [MODEL...]]        3; tiny mini
#
# Answers are alike to the bit (tests/golden/moe_backends_test.cpp). See docs/fused-moe.md.
set -euo pipefail
cd "$(dirname "$0")/.."
rounds=${1:-3}
models=("${@:2}")
((${#models[@]})) || models=(tiny mini)
sluice=${SLUICE:-build/release/src/cli/sluice}
backends=(epmoe fused fused_v2 auto)

flags() { # flags MODEL: what to measure, one flag a line
  case $1 in
    tiny) printf '%s\n' --model-path models/sluice-tiny --prompt-tokens 512 --decode-tokens 128 --runs 5 ;;
    mini) printf '%s\n' --model-path Ling-mini-2.0 --load-format dummy --skip-tokenizer-init \
      --json-model-override-args '{"num_hidden_layers": 4}' --prompt-tokens 512 --decode-tokens 16 --runs 3 ;;
    *) echo "model $1 is unknown, known are tiny, mini" >&2; return 2 ;;
  esac
}

lines=$(mktemp)
trap 'rm -f "$lines"' EXIT
for model in "${models[@]}"; do
  mapfile -t chosen < <(flags "$model")
  ((${#chosen[@]})) || exit 2
  for ((round = 0; round < rounds; ++round)); do
    for backend in "${backends[@]}"; do
      "$sluice" bench "${chosen[@]}" --concurrency 1,16 --moe-backend "$backend" |
        sed -nE "s|^([0-9]+) at a time: prefill ([0-9.]+) tokens/s, decode ([0-9.]+) .*|$model $backend \1 \2 \3|p" \
          >> "$lines"
    done
  done
done

printf '%-6s %-9s %9s %18s %18s\n' model "back end" requests "prefill tokens/s" "decode tokens/s"
median() { sort -g | awk '{v[NR] = $1} END {print v[int((NR + 1) / 2)]}'; }
for model in "${models[@]}"; do
  for requests in 1 16; do
    for backend in "${backends[@]}"; do
      of=$(grep "^$model $backend $requests " "$lines")
      printf '%-6s %-9s %9s %18s %18s\n' "$model" "$backend" "$requests" \
        "$(cut -d' ' -f4 <<< "$of" | median)" "$(cut -d' ' -f5 <<< "$of" | median)"
    done
  done
done
