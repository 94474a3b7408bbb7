#include "kernels/moe/epmoe.h"

#include <algorithm>

#include "kernels/moe/combine.h"
#include "kernels/moe/expert_groups.h"
#include "kernels/moe/expert_rows.h"

namespace sluice {
namespace {

// Sorted row of every pair, of each token in ascending order: [tokens, top_k].
const int32_t* SlotsOfTokens(const ExpertRows& rows, int64_t tokens, int64_t top_k,
                             Arena& scratch) {
  const trace::Stage stage("sort");
  auto* slots = scratch.Allocate<int32_t>(tokens * top_k);
  Arena::Scope scope(scratch);
  auto* counts = scratch.Allocate<int32_t>(tokens);
  std::fill_n(counts, tokens, 0);
  for (int64_t row = 0; row < tokens * top_k; ++row) {
    const int32_t t = rows.tokens[row];
    slots[t * top_k + counts[t]++] = static_cast<int32_t>(row);
  }
  return slots;
}

// Few tokens share out columns instead: a whole row would leave lanes idle.
void CombineShare(const MoeArgs& args, const ExpertRows& sorted, const int32_t* slots,
                  View<float, 2> rows, const Exec& exec, int lane) {
  const trace::Stage stage("combine");
  const int64_t tokens = args.x.dim(0), hidden = args.x.dim(1), top_k = args.ids.dim(1);
  const int lanes = exec.team.lanes();
  const bool by_token = tokens >= 4 * lanes;
  constexpr int64_t kLine = 16;  // floats of a cache line: no two lanes write one
  const int64_t lines = (hidden + kLine - 1) / kLine;
  const int64_t begin = by_token ? tokens * lane / lanes : 0;
  const int64_t end = by_token ? tokens * (lane + 1) / lanes : tokens;
  const auto combine = exec.machine.Has(kAvx512) ? CombineRowsAvx512 : CombineRowsAvx2;
  for (int64_t t = begin; t < end; ++t)
    combine({.rows = rows.data(),
             .stride = rows.stride(0),
             .slots = slots + t * top_k,
             .weights = sorted.weights,
             .top_k = top_k,
             .shared = args.shared ? rows.row(tokens * top_k + t) : nullptr,
             .begin = by_token ? 0 : std::min(hidden, lines * lane / lanes * kLine),
             .end = by_token ? hidden : std::min(hidden, lines * (lane + 1) / lanes * kLine),
             .rounding = args.rounding,
             .y = args.y.row(t)});
}

}  // namespace

uint64_t EpmoeScratchBytes(int64_t tokens, int64_t top_k, int64_t hidden, int64_t intermediate,
                           int64_t experts) {
  constexpr uint64_t kAlignment = 64, kAllocations = 4;
  const auto rows = static_cast<uint64_t>(tokens) * (static_cast<uint64_t>(top_k) + 1);
  const auto columns = static_cast<uint64_t>(IntermediateStride(intermediate) + hidden);
  return ExpertRowsBytes(tokens, top_k, experts) + rows * columns * sizeof(float) +
         rows * sizeof(int32_t) + ExpertGroupsBytes(experts) +
         CodesOnceBytes(tokens, top_k, hidden, experts) + kAllocations * kAlignment;
}

void Epmoe(const MoeArgs& args, const PanelKernel& kernel, const IntegerKernel* integers,
           Exec& exec) {
  Arena::Scope scope(exec.scratch);
  const int64_t tokens = args.x.dim(0), hidden = args.x.dim(1);
  const int64_t rows = tokens * (args.ids.dim(1) + (args.shared ? 1 : 0));
  const int64_t stride = IntermediateStride(std::max(
      args.experts->front().intermediate(), args.shared ? args.shared->intermediate() : 0));
  const ExpertRows sorted = SortByExpert(args, exec.scratch);
  const int32_t* const slots = SlotsOfTokens(sorted, tokens, args.ids.dim(1), exec.scratch);
  const auto expert_groups = MakeExpertGroups(args, sorted, args.shared != nullptr, exec.scratch);
  const ExpertGroupsArgs groups{
      .groups = expert_groups,
      .x = args.x,
      .intermediate = exec.scratch.Allocate<float>(rows * stride),
      .intermediate_stride = stride,
      .out = exec.scratch.Matrix<float>(rows, hidden),
      .activation = args.activation,
      .rounding = args.rounding,
      .kernel = &kernel,
      .integers = integers,
      .codes = MakeCodesOnce(expert_groups, args.x, integers, exec.scratch)};
  const bool done = exec.team.lanes() == 1 && RunSmallExperts(groups);
  exec.team.Run([&](int lane) {
    if (!done) RunExpertGroups(groups, exec.team, lane);
    exec.team.Barrier();
    CombineShare(args, sorted, slots, groups.out, exec, lane);
  });
}

}  // namespace sluice
