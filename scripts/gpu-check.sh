#!/usr/bin/env bash
# Everything that needs a Hopper GPU, in order of worth: tests, small shapes under compute-sanitizer,
# what the GPU reaches, the MoE layer beside it, and PyTorch and Triton on the same shapes.
#   scripts/gpu-check.sh [FOLDER]          builds and runs all; a report and an archive of figures
#                                          in FOLDER (default build/gpu-report)
#   scripts/gpu-check.sh --pack PACK       builds here and puts the programs with the libraries that
#                                          they need into PACK, for a machine without this one's
#                                          packages
#   scripts/gpu-check.sh --packed PACK FOLDER [tests|bench]   runs what lies in such a folder, or half
#                                          of it, where one command may not take longer
# Each half ends after SLUICE_GPU_SECONDS (570): what has not begun by then is named, and not run.
# Without a GPU the tests skip, the rest says why, and the result is still success.
set -uo pipefail
cd "$(dirname "$0")/.."
programs=(kernels/moe/cuda_sm90/moe_sm90_test kernels/moe/cuda_sm90/moe_sm90_roofs cli/sluice)
build=build/cuda
mode=${1:-}

build_all() {
  mkdir -p build
  exec 9> build/gpu-check.lock
  flock 9 # two builds in one folder take each other's archives away
  cmake -S . -B "$build" -G Ninja -DSLUICE_CUDA=ON -DSLUICE_WERROR=ON \
    -DSLUICE_DCHECKS=OFF > build/gpu-build.log 2>&1 &&
    cmake --build "$build" -j "$(nproc)" --target moe_sm90_test moe_sm90_roofs sluice \
      >> build/gpu-build.log 2>&1 ||
    { tail -n 40 build/gpu-build.log; echo "build failed" >&2; return 1; }
  [[ -x $build/src/${programs[0]} ]] || { echo "no CUDA 13 toolkit here" >&2; return 1; }
}

if [[ $mode = --pack ]]; then
  [[ -n ${2:-} ]] || { echo "--pack needs a folder" >&2; exit 2; }
  build_all || exit 1
  mkdir -p "$2/bin" "$2/lib" "$2/share/sluice"
  cp -r models/geometries "$2/share/sluice/"
  for program in "${programs[@]}"; do
    strip -o "$2/bin/$(basename "$program")" "$build/src/$program"
    # Everything but the C and C++ libraries, which the other machine has in a later version.
    ldd "$build/src/$program" | awk '$3 ~ /^\// {print $3}' |
      grep -vE '/(libc|libm|libdl|librt|libpthread|libstdc\+\+|libgcc_s)\.so' |
      xargs -r -I{} cp -L {} "$2/lib/"
  done
  du -sh "$2"
  exit 0
elif [[ $mode = --packed ]]; then
  [[ -n ${3:-} ]] || { echo "--packed needs a pack and a folder for the report" >&2; exit 2; }
  bin=$(realpath "$2")/bin libraries=$(realpath "$2")/lib folder=$3 half=${4:-all}
else
  build_all || exit 1
  mkdir -p build/gpu-bin
  for program in "${programs[@]}"; do ln -sf "$PWD/$build/src/$program" build/gpu-bin/; done
  bin=$PWD/build/gpu-bin libraries= folder=${1:-build/gpu-report} half=all
fi

[[ $half =~ ^(tests|bench|all)$ ]] || { echo "the half is tests or bench, not $half" >&2; exit 2; }

data=$folder/figures-$half
mkdir -p "$data"
report=$folder/report-$half.txt
: > "$report"
# cuBLASLt: the toolkit's, or the one that came with PyTorch. Only our programs see these folders:
# they would hide libraries that Python needs.
cublas=$(python3 -c 'import glob, nvidia
print(*sorted({p.rsplit("/", 1)[0] for root in nvidia.__path__
               for p in glob.glob(root + "/**/libcublasLt.so.13", recursive=True)}), sep=":")' 2> /dev/null)
ours_path=$libraries:${LD_LIBRARY_PATH:-}:/usr/local/cuda/lib64:$cublas

failed=0 end=
begin_half() { end=$((SECONDS + ${SLUICE_GPU_SECONDS:-570})); }
section() { # section NAME SECONDS_MAX COMMAND...
  local name=$1 seconds=$2 begin=$SECONDS status
  shift 2
  if ((end - SECONDS < 10)); then
    echo "== $name: not run, the time is over" | tee -a "$report"
    return
  fi
  ((seconds <= end - SECONDS)) || seconds=$((end - SECONDS))
  echo "== $name" | tee -a "$report"
  LD_LIBRARY_PATH=${section_path-$ours_path} timeout --kill-after=5 "$seconds" "$@" >> "$report" 2>&1
  status=$?
  [[ $status -eq 0 ]] || { failed=$((failed + 1)); echo "FAILED ($status)" | tee -a "$report"; }
  echo "-- $((SECONDS - begin)) s" | tee -a "$report"
}
python_section() { section_path=${LD_LIBRARY_PATH:-} section "$@"; }
figures() { # figures NAME SECONDS_MAX FLAG...: a table in the report and NAME.json
  local name=$1 seconds=$2
  shift 2
  section "$name" "$seconds" bash -c '"$@" > "$0"' "$data/$name.json" \
    "$bin/sluice" bench moe --device cuda --runs 21 --seconds-max 10 --json "$@"
  [[ -s $data/$name.json ]] || { rm -f "$data/$name.json"; return; }
  python_section "$name, table" 20 python3 bench/peers/cuda_moe.py table "$data/$name.json"
}
ling=(--geometry Ling-2.6-1T --ep-share 1/32) qwen=(--geometry Qwen3-30B-A3B)

run_tests() {
  # Smallest first: what hangs or traps names its wait, and the rest need not run to find it again.
  section "first tile" 60 "$bin/moe_sm90_test" --gtest_filter='*MatchesTheReferenceOnRaggedShapes*'
  section "tests" 240 "$bin/moe_sm90_test"
  figures "first-figures" 60 "${ling[@]}" --tokens 128,4096 --format fp8 --backend epmoe,fused_v2
  if command -v compute-sanitizer > /dev/null; then
    for tool in memcheck racecheck; do
      section "compute-sanitizer $tool" 100 compute-sanitizer --tool "$tool" --error-exitcode 1 \
        "$bin/moe_sm90_test" --gtest_filter='*GatesByTheActivationAsked*:*TakesZeroAndHuge*:*Route*family4'
    done
  fi
}
run_bench() {
  [[ $half = bench ]] || begin_half
  section "roofs" 40 "$bin/moe_sm90_roofs"
  figures "ling" 60 "${ling[@]}" --tokens 128,4096 --format fp8,bf16 --backend fused_v2
  figures "qwen" 120 "${qwen[@]}" --tokens 1,4,16,64,256,1024,4096,16384 --format fp8,bf16 \
    --backend fused_v2
  python_section "peers" 215 \
    bash -c 'python3 bench/peers/cuda_moe.py time --seconds 180 > "$0" || [[ $? -eq 3 ]]' \
    "$data/peers.jsonl"
  python_section "side by side" 20 bash -c 'python3 bench/peers/cuda_moe.py join "$@"' join \
    "$data/peers.jsonl" "$data"/{ling,qwen}.json
  figures "parts" 60 "${ling[@]}" --tokens 128,4096 --format fp8 --backend fused_v2 \
    --ablate none,instrumented,shared,prefetch,residency,overlap
  figures "ranks" 40 "${ling[@]}" --tokens 4096 --format fp8 --backend fused_v2 --ranks 1,2,4,8
  figures "skew" 60 "${qwen[@]}" --tokens 64,4096 --format fp8 --backend fused_v2 \
    --routing uniform,zipf,hot
  figures "router" 40 --geometry Ling-2.6-1T --tokens 1,64,512 --format fp8 --backend fused_v2 --router
  figures "cuts" 60 "${ling[@]}" --tokens 128,4096 --format fp8 --backend fused_v2 \
    --ablate none,lag:66,lag:400,lag:1000,ring:2,ring:4,ring:8
  section "trace" 40 "$bin/sluice" bench moe --device cuda "${ling[@]}" --tokens 128,4096 \
    --format fp8 --backend fused_v2 --trace "$data/trace.json" --plot "$data/stages.svg"
}

begin_half
section "GPU" 20 bash -c \
  'nvidia-smi --query-gpu=name,driver_version,clocks.sm,power.draw --format=csv || true'
reason=$(LD_LIBRARY_PATH=$ours_path "$bin/sluice" bench moe --device cuda --geometry 64x32x8x2 \
  --tokens 1 2>&1 | grep -a 'device cuda:')
if [[ -n $reason ]]; then
  echo "$reason" | tee -a "$report"
  section "tests" 240 "$bin/moe_sm90_test"
else
  [[ $half = bench ]] || run_tests
  [[ $half = tests ]] || run_bench
fi

tar -czf "$data.tgz" -C "$folder" "figures-$half" && rm -r "$data"
grep -avE '\[ +(OK|SKIPPED|RUN) |\[---' "$report" |
  grep -aE '^== |^-- |PASSED|FAILED|Failure|no CUDA device|error|FLOP/s|TB/s|waited for| ms|ratio|/1 |/32 ' |
  tail -n 100
echo "report: $report, $failed sections failed"
exit $((failed > 0))
