#include "kernels/moe/moe.h"

#include <algorithm>

#include "kernels/linear/integer/integer_kernel.h"
#include "kernels/moe/epmoe.h"
#include "kernels/moe/expert_groups.h"
#include "kernels/moe/fused_v2/fused_v2.h"

namespace sluice {
namespace {

// The intermediate rows are an input as well: they are bfloat16s only if they are rounded.
const PanelKernel& KernelFor(const Machine& machine, bool bf16_inputs, Rounding rounding) {
  return SelectPanelKernel(machine, bf16_inputs && rounding == Rounding::kBf16);
}

constexpr std::pair<std::string_view, MoeBackend> kMoeBackends[] = {
    {"auto", MoeBackend::kAuto},
    {"epmoe", MoeBackend::kEpmoe},
    {"fused", MoeBackend::kFused},
    {"fused_v2", MoeBackend::kFusedV2},
};

// `auto`, by docs/fused-moe.md, table 1. One border is the whole table: nowhere, by kernel, format,
// quantisation of rows or rows an expert, was one back end faster by more than what a run differs
// from the next. With few rows a call of epmoe is shorter by 0.2 us, which a tiny layer feels; with
// many it would need tokens * (top_k + 1) * hidden floats of scratch that fused_v2 does without.
constexpr int64_t kFusedTokens = 32;

MoeBackend Choose(int64_t tokens) {
  return tokens < kFusedTokens ? MoeBackend::kEpmoe : MoeBackend::kFusedV2;
}

constexpr std::pair<std::string_view, bool MoeAblation::*> kMoeParts[] = {
    {"shared", &MoeAblation::shared},       {"prefetch", &MoeAblation::prefetch},
    {"residency", &MoeAblation::residency}, {"overlap", &MoeAblation::overlap},
    {"codes", &MoeAblation::codes},
};

}  // namespace

Result<MoeBackend> ParseMoeBackend(std::string_view name) {
  for (const auto& [known, backend] : kMoeBackends)
    if (name == known) return backend;
  return ParamError(Code::kInvalidArgument, "moe-backend",
                    "moe-backend is {}, allowed are auto, epmoe, fused, fused_v2", Quoted(name));
}

Result<MoeAblation> ParseMoeAblation(std::span<const std::string> parts, MoeBackend backend) {
  MoeAblation ablation;
  for (const std::string& name : parts) {
    const auto* const part =
        std::ranges::find(kMoeParts, name, [](const auto& p) { return p.first; });
    if (part == std::end(kMoeParts))
      return ParamError(Code::kInvalidArgument, "ablate",
                        "ablate has {}, allowed are shared, prefetch, residency, overlap, codes",
                        Quoted(name));
    if (backend != MoeBackend::kFusedV2 && backend != MoeBackend::kFused)
      return ParamError(Code::kInvalidArgument, "ablate",
                        "ablate has {}, which only fused_v2 and fused can do without", name);
    if (backend == MoeBackend::kFused && part->second == &MoeAblation::residency)
      return ParamError(Code::kInvalidArgument, "ablate",
                        "ablate has residency, without which fused_v2 is fused already");
    ablation.*part->second = false;
  }
  return ablation;
}

uint64_t MoeScratchBytes(MoeBackend backend, int64_t tokens, int64_t top_k, int64_t hidden,
                         int64_t intermediate, int64_t experts) {
  const auto epmoe = [&](int64_t most) {
    return EpmoeScratchBytes(most, top_k, hidden, intermediate, experts);
  };
  if (backend == MoeBackend::kEpmoe) return epmoe(tokens);
  const uint64_t fused = FusedV2ScratchBytes(tokens, top_k, hidden, intermediate, experts,
                                             backend != MoeBackend::kFused);
  if (backend == MoeBackend::kAuto)
    return std::max(fused, epmoe(std::min(tokens, kFusedTokens - 1)));
  return fused;
}

void Moe(const MoeArgs& args, MoeBackend backend, Exec& exec) {
  const int64_t tokens = args.x.dim(0), hidden = args.x.dim(1), top_k = args.ids.dim(1);
  CHECK(args.ids.dim(0) == tokens && args.weights.dim(0) == tokens && args.y.dim(0) == tokens);
  CHECK(args.weights.dim(1) == top_k && args.y.dim(1) == hidden && !args.experts->empty());
  CHECK(args.experts->front().hidden() == hidden);
  CHECK(!args.shared || args.shared->hidden() == hidden);
  if (tokens == 0) return;
  const PanelKernel& kernel = KernelFor(exec.machine, args.bf16_inputs, args.rounding);
  if (backend == MoeBackend::kAuto) backend = Choose(tokens);
  const IntegerKernel* const integers = SelectIntegerKernel(exec.machine, args.activations);
  if (backend == MoeBackend::kEpmoe) {
    Epmoe(args, kernel, integers, exec);
    return;
  }
  MoeAblation ablation = args.ablation;
  if (backend == MoeBackend::kFused) ablation.residency = false;
  FusedV2(args, ablation, kernel, integers, exec);
}

void DenseFfn(const DenseFfnArgs& args, Exec& exec) {
  const int64_t tokens = args.x.dim(0);
  CHECK(args.x.dim(1) == args.weights->hidden() && args.y.dim(1) == args.x.dim(1));
  CHECK_EQ(args.y.dim(0), tokens);
  if (tokens == 0) return;
  RunDenseFfn(args, KernelFor(exec.machine, args.bf16_inputs, args.rounding),
              SelectIntegerKernel(exec.machine, args.activations), true, exec);
}

}  // namespace sluice
