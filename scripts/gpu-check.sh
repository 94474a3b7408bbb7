#!/usr/bin/env bash
# Everything that needs a Hopper GPU, in one go: builds, tests, runs small shapes under
# compute-sanitizer, measures what the GPU reaches and the MoE layer beside it, and leaves a report.
#   scripts/gpu-check.sh [REPORT]         (default build/gpu-report.txt)
#   scripts/gpu-check.sh --pack FOLDER    builds here and puts the programs with the libraries that
#                                         they need into FOLDER, for a machine without this one's
#                                         packages
#   scripts/gpu-check.sh --packed FOLDER [REPORT]   runs what lies in such a folder
# Without a GPU the tests skip, the rest says why, and the result is still success.
set -uo pipefail
cd "$(dirname "$0")/.."
programs=(moe_sm90_test moe_sm90_roofs moe_sm90_bench)
build=build/cuda built=build/cuda/src/kernels/moe/cuda_sm90
mode=${1:-}

build_all() {
  cmake -S . -B "$build" -G Ninja -DSLUICE_CUDA=ON -DSLUICE_WERROR=ON > build-cuda.log 2>&1 &&
    cmake --build "$build" -j "$(nproc)" --target "${programs[@]}" >> build-cuda.log 2>&1 ||
    { tail -n 40 build-cuda.log; echo "build failed" >&2; return 1; }
  rm -f build-cuda.log
}

if [[ $mode = --pack ]]; then
  [[ -n ${2:-} ]] || { echo "--pack needs a folder" >&2; exit 2; }
  build_all || exit 1
  mkdir -p "$2"
  for program in "${programs[@]}"; do
    strip -o "$2/$program" "$built/$program"
    # Everything but the C library and CUDA's own large libraries, which come with the toolkit.
    ldd "$built/$program" | awk '$3 ~ /^\// {print $3}' |
      grep -vE '/(libc|libm|libdl|librt|libpthread|libcublas|libcublasLt|libcuda)\.so' |
      xargs -r -I{} cp -L {} "$2/"
  done
  exit 0
elif [[ $mode = --packed ]]; then
  [[ -n ${2:-} ]] || { echo "--packed needs a folder" >&2; exit 2; }
  built=$2 report=${3:-gpu-report.txt}
  export LD_LIBRARY_PATH=$2:/usr/local/cuda/lib64:${LD_LIBRARY_PATH:-}
else
  build_all || exit 1
  report=${1:-build/gpu-report.txt}
fi

failed=0
: > "$report"
section() { # section NAME SECONDS COMMAND...
  local name=$1 seconds=$2 status
  shift 2
  echo "== $name" | tee -a "$report"
  timeout "$seconds" "$@" >> "$report" 2>&1
  status=$?
  [[ $status -eq 0 ]] || { failed=$((failed + 1)); echo "FAILED ($status)" | tee -a "$report"; }
}

section "GPU" 20 bash -c 'nvidia-smi --query-gpu=name,driver_version,clocks.sm,power.draw --format=csv || true'
# Smallest first: what hangs or traps names its wait, and the rest need not run to find it again.
section "first tile" 60 "$built/moe_sm90_test" --gtest_filter='*MatchesTheReferenceOnRaggedShapes*'
section "tests" 240 "$built/moe_sm90_test"
if command -v compute-sanitizer > /dev/null; then
  for tool in memcheck racecheck; do
    section "compute-sanitizer $tool" 120 compute-sanitizer --tool "$tool" --error-exitcode 1 \
      "$built/moe_sm90_test" --gtest_filter='*GatesByTheActivationAsked*:*TakesZeroAndHuge*'
  done
fi
section "roofs" 60 "$built/moe_sm90_roofs"
roofs=$(grep -aE '^[0-9.]+ [0-9.]+ [0-9.]+$' "$report" | tail -n 1)
[[ -z $roofs ]] || export SLUICE_ROOFS=$roofs
section "layers" 240 "$built/moe_sm90_bench"

grep -aE '^== |PASSED|FAILED|SKIPPED|no CUDA device| ms \(|error|TFLOP/s|TB/s|waited for' "$report" | tail -n 120
echo "report: $report, $failed sections failed"
exit $((failed > 0))
