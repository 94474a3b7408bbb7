#include "kernels/moe/small_experts.h"

#include <algorithm>
#include <array>

#include "kernels/moe/expert_groups.h"

namespace sluice {
namespace {

constexpr size_t kExpertsMax = 257;
// Of an expert's gate and up: more are worth fetching ahead, as panel products do.
constexpr int64_t kGateUpBytesMax = 64 << 10;

static_assert(kSmallExpertScratch * sizeof(Bf16) <= kLaneScratchBytes);

bool IsSmall(const ExpertGroup& group) {
  const ExpertWeights& w = *group.weights;
  return group.rows <= kSmallExpertRows && w.layout().format == WeightFormat::kBf16 &&
         w.hidden() % kPanelOutputs == 0 && w.hidden() <= kSmallExpertWidth &&
         w.intermediate() <= kSmallExpertWidth &&
         w.gate_up().panels() * w.gate_up().panel_bytes() <= kGateUpBytesMax;
}

SmallExpert Describe(const ExpertGroupsArgs& args, const ExpertGroup& group) {
  const PackedMatrix &gate_up = group.weights->gate_up(), &down = group.weights->down();
  return {.gate_up = gate_up.panel<uint16_t>(0),
          .down = down.panel<uint16_t>(0),
          .gate_panels = gate_up.panels(),
          .intermediate = down.inputs(),
          .down_stride = down.panel_elements(),
          .row_ids = group.row_ids,
          .rows = group.rows,
          .out = args.out.row(group.row_begin)};
}

}  // namespace

bool RunSmallExperts(const ExpertGroupsArgs& args) {
  if (args.kernel->by_format[0] != PanelProductAvx512Bf16 || args.narrow_x ||
      args.rounding != Rounding::kBf16 || args.groups.size() > kExpertsMax ||
      !std::ranges::all_of(args.groups, IsSmall))
    return false;
  // Most rows first; that neighbours have equally many also lets the processor foresee its jumps.
  std::array<int32_t, kSmallExpertRows + 2> begins = {};
  for (const ExpertGroup& group : args.groups) ++begins[kSmallExpertRows - group.rows + 1];
  for (size_t i = 1; i < begins.size(); ++i) begins[i] += begins[i - 1];
  std::array<SmallExpert, kExpertsMax> experts;
  for (const ExpertGroup& group : args.groups)
    experts[begins[kSmallExpertRows - group.rows]++] = Describe(args, group);
  const trace::Stage stage("gate/up");
  const PackedMatrix& gate_up = args.groups.front().weights->gate_up();
  RunSmallExpertsAvx512Bf16({.experts = experts.data(),
                             .count = static_cast<int64_t>(args.groups.size()),
                             .hidden = gate_up.inputs(),
                             .gate_stride = gate_up.panel_elements(),
                             .x = args.x.data(),
                             .x_stride = args.x.stride(0),
                             .activation = args.activation,
                             .out_stride = args.out.stride(0),
                             .scratch = reinterpret_cast<uint16_t*>(LaneScratch())});
  return true;
}

}  // namespace sluice
