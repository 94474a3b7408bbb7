// One row of Ling's vocabulary: microseconds by kind of sampling.
#include <benchmark/benchmark.h>

#include "base/random.h"
#include "kernels/sampling/sampling.h"

namespace sluice {
namespace {

constexpr int64_t kVocab = 157184;

void Run(benchmark::State& state, const SamplingParams& params, int top) {
  Team team(1);
  Arena arena(*Buffer::Allocate(SamplingScratchBytes(1, kVocab, 1), "scratch"));
  Exec exec{team, ThisMachine(), arena};
  SplitMix64 random(1);
  std::vector<float> logits(kVocab);
  for (float& l : logits) l = 3 * random.Normal();
  LogprobOptions logprobs;
  logprobs.top = top;
  PositionLogprobs report;
  SamplingRow row;
  row.logits = logits.data();
  row.params = &params;
  row.logprobs = top > 0 ? &logprobs : nullptr;
  row.report = &report;
  for ([[maybe_unused]] auto _ : state) {
    ++row.position;
    SampleRows({&row, 1}, kVocab, exec);
    benchmark::DoNotOptimize(row.token);
  }
}

BENCHMARK_CAPTURE(Run, greedy, {.temperature = 0}, 0)->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(Run, temperature, {.temperature = 0.7}, 0)->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(Run, top_p, {.temperature = 0.7, .top_p = 0.95}, 0)
    ->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(Run, top_k_top_p, {.temperature = 0.7, .top_p = 0.95, .top_k = 50}, 0)
    ->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(Run, flat_top_p, {.temperature = 50, .top_p = 0.5}, 0)
    ->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(Run, greedy_top_20_logprobs, {.temperature = 0}, 20)
    ->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace sluice

BENCHMARK_MAIN();
