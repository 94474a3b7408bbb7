// moe_bench [lanes [isa [format]]]: a mixture layer beside the machine's ceilings, with experts in
// bf16, fp8 (a scale per channel), fp8-block (128 x 128) or all of them. A run of the layer and of
// its ceilings alternate; printed are medians, and the median of the paired shares of the
// roofline max(bytes of active experts / read bandwidth, operations / FMA peak).
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <numeric>
#include <set>
#include <string>

#include "base/random.h"
#include "bench/machine_ceilings.h"
#include "bench/peaks.h"
#include "formats/fp8/quantize.h"
#include "kernels/linear/panel_product.h"
#include "kernels/moe/moe.h"
#include "kernels/moe/route.h"

namespace sluice {
namespace {

constexpr int kRuns = 9;

struct Layer {
  const char* name;
  int64_t hidden, intermediate, experts, top_k, shared;
};

// clang-format off
constexpr Layer kLayers[] = {
    // name                hidden intermediate experts top_k shared
    {"qwen3-30b-a3b",      2048,  768,         128,    8,    0},
    {"ling-mini-2.0",      2048,  512,         256,    8,    512},
};
// clang-format on
constexpr int64_t kTokens[] = {1, 4, 8, 32, 512, 2048};

struct Format {
  const char* name;
  WeightLayout layout;
};

// clang-format off
constexpr Format kFormats[] = {
    {"bf16",      {}},
    {"fp8",       {WeightFormat::kFp8E4M3, 0}},
    {"fp8-block", {WeightFormat::kFp8E4M3, 128}},
};
// clang-format on

std::vector<ExpertWeights> MakeExperts(const Layer& layer, WeightLayout layout, int64_t count,
                                       int64_t intermediate, SplitMix64& random) {
  auto experts =
      std::move(*ExpertWeights::AllocateLayer(layout, count, layer.hidden, intermediate));
  std::vector<float> values(layer.hidden * intermediate);
  for (float& x : values) x = static_cast<float>(random.Uniform() - 0.5) * 0.1f;
  const View<const float, 2> in(values.data(), {intermediate, layer.hidden});
  const View<const float, 2> out(values.data(), {layer.hidden, intermediate});
  const auto quantize = layout.scale_inputs ? QuantizeFp8Block : QuantizeFp8Channel;
  const Fp8Quantized in_codes = quantize(in), out_codes = quantize(out);
  for (ExpertWeights& expert : experts) {
    if (layout.format == WeightFormat::kBf16) {
      expert.PackGate(in);
      expert.PackUp(in);
      expert.PackDown(out);
      continue;
    }
    expert.PackGateCodes(in_codes.Codes());
    expert.SetGateScales(in_codes.Scales(), in_codes.scale_rows);
    expert.PackUpCodes(in_codes.Codes());
    expert.SetUpScales(in_codes.Scales(), in_codes.scale_rows);
    expert.PackDownCodes(out_codes.Codes());
    expert.SetDownScales(out_codes.Scales(), out_codes.scale_rows);
  }
  return experts;
}

void Measure(const Layer& layer, const char* format, int64_t tokens,
             const std::vector<ExpertWeights>& experts, const ExpertWeights* shared,
             const bench::ReadBandwidth& bandwidth, Exec& exec) {
  SplitMix64 random(tokens);
  std::vector<float> x(tokens * layer.hidden), y(x.size()), weights(tokens * layer.top_k, 0.125f);
  for (float& v : x) v = RoundToBf16(static_cast<float>(random.Uniform() - 0.5));
  std::vector<int32_t> ids(tokens * layer.top_k);
  const bench::RunLanes run = [&](const auto& f) { exec.team.Run(f); };
  const int lanes = exec.team.lanes();
  const double expert_weights = 3.0 * layer.hidden * layer.intermediate;
  const double shared_weights = shared ? 3.0 * layer.hidden * shared->intermediate() : 0;
  const double flop = 2.0 * tokens * (layer.top_k * expert_weights + shared_weights);
  const bench::PeakLoop& peak = bench::PeakOfKernel(SelectPanelKernel(exec.machine, true).name);
  std::vector<double> seconds, shares, reads, flops;
  double bytes = 0;
  for (int i = 0; i < kRuns; ++i) {
    // Fresh routing for every run, so that few tokens find their experts in no cache.
    std::set<int32_t> active;
    for (int64_t t = 0; t < tokens; ++t)
      for (int64_t j = 0; j < layer.top_k; ++j) {
        int32_t& id = ids[t * layer.top_k + j];
        do id = static_cast<int32_t>(random.Below(layer.experts));
        while (std::count(&ids[t * layer.top_k], &id, id) > 0);
        active.insert(id);
      }
    bytes =
        static_cast<double>(active.size()) * experts[0].bytes() + (shared ? shared->bytes() : 0);
    flops.push_back(bench::MeasurePeak(peak, bench::Feed::kRegisters, lanes, run));
    reads.push_back(bandwidth.Measure(lanes, run));
    const double begin = bench::Now(lanes);
    Moe({.x = {x.data(), {tokens, layer.hidden}},
         .ids = {ids.data(), {tokens, layer.top_k}},
         .weights = {weights.data(), {tokens, layer.top_k}},
         .experts = &experts,
         .shared = shared,
         .rounding = Rounding::kBf16,
         .bf16_inputs = true,
         .y = {y.data(), {tokens, layer.hidden}}},
        MoeBackend::kEpmoe, exec);
    seconds.push_back(bench::Now(lanes) - begin);
    shares.push_back(std::max(bytes / reads.back(), flop / flops.back()) / seconds.back());
  }
  const double s = bench::Median(seconds);
  std::printf(
      "%-14s %-9s %5ld tokens %9.3f ms %7.1f GFLOP/s of %6.1f %7.2f GB/s of %5.1f: %5.1f %%\n",
      layer.name, format, tokens, s * 1e3, flop / s * 1e-9, bench::Median(flops) * 1e-9,
      bytes / s * 1e-9, bench::Median(reads) * 1e-9, 100 * bench::Median(shares));
  std::fflush(stdout);
}

void MeasureRoute(const Layer& layer, int64_t tokens, Exec& exec) {
  SplitMix64 random(1);
  std::vector<float> x(tokens * layer.hidden), gate(layer.experts * layer.hidden),
      bias(layer.experts), weights(tokens * layer.top_k);
  for (float& v : x) v = random.Normal();
  for (float& v : gate) v = random.Normal();
  std::vector<int32_t> ids(weights.size());
  RouteArgs args{.x = {x.data(), {tokens, layer.hidden}},
                 .gate = {gate.data(), {layer.experts, layer.hidden}},
                 .bias = bias.data(),
                 .n_group = 8,
                 .topk_group = 4,
                 .ids = {ids.data(), {tokens, layer.top_k}},
                 .weights = {weights.data(), {tokens, layer.top_k}},
                 .scores = {}};
  std::vector<double> seconds;
  for (int i = 0; i < kRuns; ++i) {
    const double begin = bench::Now(exec.team.lanes());
    Route(args, exec);
    seconds.push_back(bench::Now(exec.team.lanes()) - begin);
  }
  const double s = bench::Median(seconds);
  std::printf("%-14s %5ld tokens %9.3f ms routing, %.1f GFLOP/s\n", layer.name, tokens, s * 1e3,
              2e-9 * tokens * layer.experts * layer.hidden / s);
}

}  // namespace
}  // namespace sluice

int main(int argc, char** argv) {
  using namespace sluice;
  const int lanes = argc > 1 ? std::max(1, std::atoi(argv[1])) : UsableCores();
  const auto machine = LimitedMachine(argc > 2 ? argv[2] : "auto");
  if (!machine.ok()) {
    std::fprintf(stderr, "%s\n", machine.status().message().c_str());
    return 1;
  }
  const PinnedCaller pinned;
  Team team(lanes, true);
  const std::string only_format = argc > 3 ? argv[3] : "";
  bench::ReadBandwidth bandwidth;
  std::printf("%s, %d lanes, %s\n", ProcessorName().c_str(), lanes,
              DescribeFeatures(*machine).c_str());
  for (const Layer& layer : kLayers)
    for (const Format& format : kFormats) {
      if (!only_format.empty() && only_format != format.name) continue;
      SplitMix64 random(1);
      const auto experts =
          MakeExperts(layer, format.layout, layer.experts, layer.intermediate, random);
      const auto shared = layer.shared ? MakeExperts(layer, format.layout, 1, layer.shared, random)
                                       : std::vector<ExpertWeights>();
      for (const int64_t tokens : kTokens) {
        Arena scratch(std::move(*Buffer::Allocate(
            MoeScratchBytes(MoeBackend::kAuto, tokens, layer.top_k, layer.hidden,
                            std::max(layer.intermediate, layer.shared), layer.experts),
            "bench scratch")));
        Exec exec{team, *machine, scratch};
        Measure(layer, format.name, tokens, experts, shared.empty() ? nullptr : shared.data(),
                bandwidth, exec);
        if (format.layout == WeightLayout()) MeasureRoute(layer, tokens, exec);
      }
    }
}
