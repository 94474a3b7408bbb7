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
    {"fused_v2", MoeBackend::kFusedV2},
};

int64_t PaddedIntermediate(int64_t intermediate) { return (intermediate + 15) / 16 * 16; }

}  // namespace

Result<MoeBackend> ParseMoeBackend(std::string_view name) {
  for (const auto& [known, backend] : kMoeBackends)
    if (name == known) return backend;
  return ParamError(Code::kInvalidArgument, "moe-backend",
                    "moe-backend is {}, allowed are auto, epmoe, fused_v2", Quoted(name));
}

uint64_t MoeScratchBytes(int64_t tokens, int64_t top_k, int64_t hidden, int64_t intermediate,
                         int64_t experts) {
  return std::max(EpmoeScratchBytes(tokens, top_k, hidden, intermediate, experts),
                  FusedV2ScratchBytes(tokens, top_k, hidden, intermediate, experts));
}

void Moe(const MoeArgs& args, MoeBackend backend, Exec& exec) {
  const int64_t tokens = args.x.dim(0), hidden = args.x.dim(1), top_k = args.ids.dim(1);
  CHECK(args.ids.dim(0) == tokens && args.weights.dim(0) == tokens && args.y.dim(0) == tokens);
  CHECK(args.weights.dim(1) == top_k && args.y.dim(1) == hidden && !args.experts->empty());
  CHECK(args.experts->front().hidden() == hidden);
  CHECK(!args.shared || args.shared->hidden() == hidden);
  if (tokens == 0) return;
  const PanelKernel& kernel = KernelFor(exec.machine, args.bf16_inputs, args.rounding);
  if (backend == MoeBackend::kFusedV2)
    FusedV2(args, kernel, exec);
  else
    Epmoe(args, kernel, exec);
}

void DenseFfn(const DenseFfnArgs& args, Exec& exec) {
  const int64_t tokens = args.x.dim(0);
  CHECK(args.x.dim(1) == args.weights->hidden() && args.y.dim(1) == args.x.dim(1));
  CHECK_EQ(args.y.dim(0), tokens);
  if (tokens == 0) return;
  Arena::Scope scope(exec.scratch);
  const ExpertGroup group{args.weights, nullptr, tokens, 0};
  const int64_t stride = PaddedIntermediate(args.weights->intermediate());
  const ExpertGroupsArgs groups{
      .groups = {&group, 1},
      .x = args.x,
      .intermediate = exec.scratch.Allocate<float>(tokens * stride),
      .intermediate_stride = stride,
      .out = args.y,
      .activation = args.activation,
      .rounding = args.rounding,
      .kernel = &KernelFor(exec.machine, args.bf16_inputs, args.rounding)};
  exec.team.Run([&](int lane) { RunExpertGroups(groups, exec.team, lane); });
}

}  // namespace sluice
