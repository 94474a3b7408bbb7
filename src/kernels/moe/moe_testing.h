// What the tests of the mixture layer share: every back end on every kernel that runs here, and
// layers with random weights.
#pragma once

#include <cmath>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "formats/fp8/quantize.h"
#include "kernels/linear/panel_amx_emulated.h"
#include "kernels/moe/epmoe.h"
#include "kernels/moe/fused_v2/fused_v2.h"
#include "kernels/testing.h"

namespace sluice {

// Relative 2-norm of the error of a row against the reference that rounds at the same points: where
// a sum lies near a rounding border, fp32 and double fall on different sides, which costs some
// 2e-3. Without rounding the error is that of fp32 chains.
inline constexpr double kRoundedTolerance = 8e-3, kExactTolerance = 5e-6;

// What a test runs on: each back end, on this machine limited to each kernel that it has and on the
// AMX kernel with emulated tiles.
struct Place {
  std::string name;
  MoeBackend backend;
  Machine machine;
  const PanelKernel* kernel = nullptr;  // instead of the machine's choice
};

inline std::vector<Place> PlacesHere() {
  std::vector<Place> out;
  for (const auto& [backend, name] : {std::pair(MoeBackend::kEpmoe, std::string("epmoe ")),
                                      {MoeBackend::kFused, "fused "},
                                      {MoeBackend::kFusedV2, "fused_v2 "}}) {
    out.push_back({name + "amx_emulated", backend, Machine{}, &kAmxEmulated});
    for (const char* isa : {"avx2", "avx512", "amx", "auto"})
      if (auto machine = LimitedMachine(isa); machine.ok())
        out.push_back({name + isa, backend, *machine});
  }
  return out;
}

class On {
 public:
  explicit On(const Place& place, int lanes = 2)
      : machine_(place.machine),
        test_(lanes),
        exec{test_.exec.team, machine_, test_.exec.scratch},
        backend(place.backend),
        kernel(place.kernel) {}

 private:
  Machine machine_;
  TestExec test_;

 public:
  Exec exec;
  MoeBackend backend;
  const PanelKernel* kernel;
};

struct Shape {
  int64_t tokens, experts, hidden, intermediate, top_k, shared;  // shared: its width, 0: none
};

inline constexpr WeightLayout kBf16, kFp8Channel{WeightFormat::kFp8E4M3, 0},
    kFp8Block{WeightFormat::kFp8E4M3, 128}, kInt8{WeightFormat::kInt8, 0},
    kInt4{WeightFormat::kInt4, 32}, kInt4Zeros{WeightFormat::kInt4, 128, true};

inline ExpertWeights RandomExpert(SplitMix64& random, int64_t hidden, int64_t intermediate,
                                  WeightLayout layout) {
  ExpertWeights expert = std::move(*ExpertWeights::Allocate(layout, hidden, intermediate));
  const float in = 1 / std::sqrt(static_cast<float>(hidden));
  const float middle = 1 / std::sqrt(static_cast<float>(intermediate));
  const auto gate = RandomFloats(random, intermediate * hidden, in, true);
  const auto up = RandomFloats(random, intermediate * hidden, in, true);
  const auto down = RandomFloats(random, hidden * intermediate, middle, true);
  const View<const float, 2> gate_rows(gate.data(), {intermediate, hidden});
  const View<const float, 2> up_rows(up.data(), {intermediate, hidden});
  const View<const float, 2> down_rows(down.data(), {hidden, intermediate});
  if (layout.format != WeightFormat::kFp8E4M3) {
    expert.PackGate(gate_rows);
    expert.PackUp(up_rows);
    expert.PackDown(down_rows);
    return expert;
  }
  const auto quantize = layout == kFp8Block ? QuantizeFp8Block : QuantizeFp8Channel;
  const Fp8Quantized g = quantize(gate_rows), u = quantize(up_rows), d = quantize(down_rows);
  expert.PackGateCodes(g.Codes());
  expert.SetGateScales(g.Scales(), g.scale_rows);
  expert.PackUpCodes(u.Codes());
  expert.SetUpScales(u.Scales(), u.scale_rows);
  expert.PackDownCodes(d.Codes());
  expert.SetDownScales(d.Scales(), d.scale_rows);
  return expert;
}

struct Case {
  Shape s;
  std::vector<ExpertWeights> experts;
  ExpertWeights shared;
  std::vector<float> x, weights;
  std::vector<int32_t> ids;
  Activation activation = Activation::kSilu;
  Rounding rounding = Rounding::kBf16;
  ActivationQuant activations = ActivationQuant::kNone;

  // The shared expert may have another layout than the routed ones.
  Case(uint64_t seed, Shape shape, WeightLayout layout = kBf16, WeightLayout shared_layout = kBf16)
      : s(shape) {
    SplitMix64 random(seed);
    for (int64_t e = 0; e < s.experts; ++e)
      experts.push_back(RandomExpert(random, s.hidden, s.intermediate, layout));
    if (s.shared) shared = RandomExpert(random, s.hidden, s.shared, shared_layout);
    x = RandomFloats(random, s.tokens * s.hidden, 1, true);
    for (int64_t t = 0; t < s.tokens; ++t) {
      std::vector<int32_t> order(s.experts);
      std::iota(order.begin(), order.end(), 0);
      for (int64_t j = 0; j < s.top_k; ++j) {
        std::swap(order[j], order[j + random.Below(s.experts - j)]);
        ids.push_back(order[j]);
        weights.push_back(static_cast<float>(random.Uniform()));
      }
    }
  }

  MoeArgs Args(std::vector<float>& y, int64_t begin, int64_t count) const {
    y.assign(count * s.hidden, -1);
    return {.x = {x.data() + begin * s.hidden, {count, s.hidden}},
            .ids = {ids.data() + begin * s.top_k, {count, s.top_k}},
            .weights = {weights.data() + begin * s.top_k, {count, s.top_k}},
            .experts = &experts,
            .shared = s.shared ? &shared : nullptr,
            .activation = activation,
            .rounding = rounding,
            .bf16_inputs = true,
            .activations = activations,
            .y = {y.data(), {count, s.hidden}}};
  }

  static void RunWith(const PanelKernel& kernel, const MoeArgs& args, On& on) {
    if (on.backend == MoeBackend::kEpmoe)
      Epmoe(args, kernel, on.exec);
    else
      FusedV2(args, {.residency = on.backend != MoeBackend::kFused}, kernel, on.exec);
  }

  std::vector<float> Run(On& on, int64_t begin, int64_t count) const {
    std::vector<float> y;
    const MoeArgs args = Args(y, begin, count);
    if (!on.kernel)
      Moe(args, on.backend, on.exec);
    else if (count > 0)
      RunWith(*on.kernel, args, on);
    return y;
  }
  std::vector<float> Run(On& on) const { return Run(on, 0, s.tokens); }

  std::vector<float> Reference(Exec& exec) const {
    std::vector<float> y;
    MoeReference(Args(y, 0, s.tokens), exec);
    return y;
  }
};

}  // namespace sluice
