#include "kernels/moe/moe.h"

#include <algorithm>

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

// By docs/fused-moe.md, table 1: fused_v2 wins where it moves rows as bfloat16s, by a few per cent;
// with fewer tokens both read weights at the memory's speed.
constexpr int64_t kFusedTokens = 256;

MoeBackend Choose(const MoeArgs& args, const PanelKernel& kernel) {
  const bool narrow = kernel.bf16_inputs && args.activations == ActivationQuant::kNone;
  return narrow && args.x.dim(0) >= kFusedTokens ? MoeBackend::kFusedV2 : MoeBackend::kEpmoe;
}

constexpr std::pair<std::string_view, bool MoeAblation::*> kMoeParts[] = {
    {"shared", &MoeAblation::shared},
    {"prefetch", &MoeAblation::prefetch},
    {"residency", &MoeAblation::residency},
    {"overlap", &MoeAblation::overlap},
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
                        "ablate has {}, allowed are shared, prefetch, residency, overlap",
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
  const uint64_t epmoe = EpmoeScratchBytes(tokens, top_k, hidden, intermediate, experts);
  if (backend == MoeBackend::kEpmoe) return epmoe;
  const uint64_t fused = FusedV2ScratchBytes(tokens, top_k, hidden, intermediate, experts,
                                             backend != MoeBackend::kFused);
  return backend == MoeBackend::kAuto ? std::max(epmoe, fused) : fused;
}

void Moe(const MoeArgs& args, MoeBackend backend, Exec& exec) {
  const int64_t tokens = args.x.dim(0), hidden = args.x.dim(1), top_k = args.ids.dim(1);
  CHECK(args.ids.dim(0) == tokens && args.weights.dim(0) == tokens && args.y.dim(0) == tokens);
  CHECK(args.weights.dim(1) == top_k && args.y.dim(1) == hidden && !args.experts->empty());
  CHECK(args.experts->front().hidden() == hidden);
  CHECK(!args.shared || args.shared->hidden() == hidden);
  if (tokens == 0) return;
  const PanelKernel& kernel = KernelFor(exec.machine, args.bf16_inputs, args.rounding);
  if (backend == MoeBackend::kAuto) backend = Choose(args, kernel);
  if (backend == MoeBackend::kEpmoe) {
    Epmoe(args, kernel, exec);
    return;
  }
  MoeAblation ablation = args.ablation;
  if (backend == MoeBackend::kFused) ablation.residency = false;
  FusedV2(args, ablation, kernel, exec);
}

void DenseFfn(const DenseFfnArgs& args, Exec& exec) {
  const int64_t tokens = args.x.dim(0);
  CHECK(args.x.dim(1) == args.weights->hidden() && args.y.dim(1) == args.x.dim(1));
  CHECK_EQ(args.y.dim(0), tokens);
  if (tokens == 0) return;
  RunDenseFfn(args, KernelFor(exec.machine, args.bf16_inputs, args.rounding), true, exec);
}

}  // namespace sluice
