// What the tests of the mixture layer share: every back end on every kernel that runs here, and
// layers with random weights.
#pragma once

#include <cmath>
#include <numeric>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "formats/fp8/quantize.h"
#include "kernels/linear/integer/panel_tiles_amx_emulated.h"
#include "kernels/linear/panel_amx_emulated.h"
#include "kernels/moe/epmoe.h"
#include "kernels/moe/fused_v2/fused_v2.h"
#include "kernels/testing.h"

namespace sluice {

// Relative 2-norm of the error of a row against the reference that rounds at the same points: where
// a sum lies near a rounding border, fp32 and double fall on different sides, which costs some
// 2e-3. Without rounding the error is that of fp32 chains.
inline constexpr double kRoundedTolerance = 8e-3, kExactTolerance = 5e-6;
// Of rounded results, and of those of quantised rows, against doubles that are never rounded.
inline constexpr double kRoundingTolerance = 8e-3, kQuantisingTolerance = 3e-2;

// What a test runs on: a back end on a machine, or on the AMX kernels with emulated tiles.
struct Place {
  std::string name;
  MoeBackend backend;
  Machine machine;
  const PanelKernel* kernel = nullptr;  // instead of the machine's choice
};

// This machine, limited to each kernel that it has of rows read so; last as it is.
inline std::vector<std::pair<std::string, Machine>> MachinesHere(ActivationQuant activations) {
  const auto kernel = [&](const Machine& machine) {
    const IntegerKernel* const integers = SelectIntegerKernel(machine, activations);
    return std::string(integers ? integers->name : SelectPanelKernel(machine, true).name);
  };
  std::vector<std::pair<std::string, Machine>> out;
  std::set<std::string> seen = {kernel(ThisMachine())};
  for (const char* isa : {"avx2", "avx_vnni", "avx512", "vnni", "avx512_vbmi", "avx512_bf16"})
    if (const auto machine = LimitedMachine(isa);
        machine.ok() && seen.insert(kernel(*machine)).second)
      out.emplace_back(isa, *machine);
  out.emplace_back("auto", ThisMachine());
  return out;
}

// Each back end on each of these, and on the AMX kernels with emulated tiles.
inline std::vector<Place> PlacesHere(ActivationQuant activations = ActivationQuant::kNone) {
  std::vector<Place> out;
  for (const auto& [backend, name] : {std::pair(MoeBackend::kEpmoe, std::string("epmoe ")),
                                      {MoeBackend::kFused, "fused "},
                                      {MoeBackend::kFusedV2, "fused_v2 "}}) {
    out.push_back({name + "amx_emulated", backend, Machine{}, &kAmxEmulated});
    for (const auto& [isa, machine] : MachinesHere(activations))
      out.push_back({name + isa, backend, machine});
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

// Rows (outputs) of every size: exact in bfloat16, and with scales of zero and of 2^20.
inline void ScaleOutputs(SplitMix64& random, int64_t inputs, std::vector<float>& weights) {
  constexpr float kFactors[] = {0, 1, 1, 0x1p-20f, 0x1p20f};
  for (size_t begin = 0; begin < weights.size(); begin += static_cast<size_t>(inputs)) {
    const float factor = kFactors[random.Below(std::size(kFactors))];
    for (int64_t i = 0; i < inputs; ++i) weights[begin + static_cast<size_t>(i)] *= factor;
  }
}

inline ExpertWeights RandomExpert(SplitMix64& random, int64_t hidden, int64_t intermediate,
                                  WeightLayout layout, bool every_size = false) {
  ExpertWeights expert = std::move(*ExpertWeights::Allocate(layout, hidden, intermediate));
  const float in = 1 / std::sqrt(static_cast<float>(hidden));
  const float middle = 1 / std::sqrt(static_cast<float>(intermediate));
  auto gate = RandomFloats(random, intermediate * hidden, in, true);
  auto up = RandomFloats(random, intermediate * hidden, in, true);
  auto down = RandomFloats(random, hidden * intermediate, middle, true);
  if (every_size) {
    ScaleOutputs(random, hidden, gate);
    ScaleOutputs(random, hidden, up);
    ScaleOutputs(random, intermediate, down);
  }
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
  bool every_size = false;  // of weights
  std::vector<ExpertWeights> experts;
  ExpertWeights shared;
  std::vector<float> x, weights;
  std::vector<int32_t> ids;
  Activation activation = Activation::kSilu;
  Rounding rounding = Rounding::kBf16;
  ActivationQuant activations = ActivationQuant::kNone;
  MoeAblation ablation = {};  // of fused_v2 and fused

  // The shared expert may have another layout than the routed ones. `every_size`: of weights.
  Case(uint64_t seed, Shape shape, WeightLayout layout = kBf16, WeightLayout shared_layout = kBf16,
       bool every_size = false)
      : s(shape), every_size(every_size) {
    SplitMix64 random(seed);
    for (int64_t e = 0; e < s.experts; ++e)
      experts.push_back(RandomExpert(random, s.hidden, s.intermediate, layout, every_size));
    if (s.shared) shared = RandomExpert(random, s.hidden, s.shared, shared_layout, every_size);
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
            .ablation = ablation,
            .y = {y.data(), {count, s.hidden}}};
  }

  static void RunWith(const PanelKernel& kernel, const MoeArgs& args, On& on) {
    const IntegerKernel* const integers =
        args.activations == ActivationQuant::kNone ? nullptr : &kAmxInt8Emulated;
    if (on.backend == MoeBackend::kEpmoe) return Epmoe(args, kernel, integers, on.exec);
    MoeAblation ablation = args.ablation;
    ablation.residency = on.backend != MoeBackend::kFused;
    FusedV2(args, ablation, kernel, integers, on.exec);
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

  // Rounding and quantising where the contract says.
  std::vector<float> Reference(Exec& exec) const {
    std::vector<float> y;
    MoeReference(Args(y, 0, s.tokens), exec);
    return y;
  }
  // Nowhere: doubles from the weights as they are held to the output.
  std::vector<float> ExactReference(Exec& exec) const {
    std::vector<float> y;
    MoeArgs args = Args(y, 0, s.tokens);
    args.rounding = Rounding::kNone;
    args.activations = ActivationQuant::kNone;
    MoeReference(args, exec);
    return y;
  }
};

}  // namespace sluice
