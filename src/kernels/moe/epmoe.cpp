#include "kernels/moe/epmoe.h"

#include <algorithm>

#include "kernels/moe/combine.h"
#include "kernels/moe/expert_groups.h"

namespace sluice {
namespace {

int64_t IntermediateStride(int64_t intermediate) { return (intermediate + 15) / 16 * 16; }

// Rows sorted by expert, in token order within one.
struct Permutation {
  int32_t* tokens;  // [tokens * top_k] token of every sorted row
  int32_t* slots;   // [tokens, top_k] sorted row of every pair
  int32_t* begins;  // [experts + 1] first sorted row of every expert
};

Permutation SortByExpert(View<const int32_t, 2> ids, int64_t experts, Arena& scratch) {
  const int64_t tokens = ids.dim(0), top_k = ids.dim(1);
  Permutation out{scratch.Allocate<int32_t>(tokens * top_k),
                  scratch.Allocate<int32_t>(tokens * top_k),
                  scratch.Allocate<int32_t>(experts + 1)};
  // begins[e + 1] counts expert e's rows, then runs ahead from its first row while rows are placed.
  std::fill_n(out.begins, experts + 1, 0);
  for (int64_t t = 0; t < tokens; ++t)
    for (int64_t j = 0; j < top_k; ++j) {
      CHECK(ids(t, j) >= 0 && ids(t, j) < experts);
      ++out.begins[ids(t, j) + 1];
    }
  int32_t begin = 0;
  for (int64_t e = 0; e < experts; ++e) {
    const int32_t count = out.begins[e + 1];
    out.begins[e + 1] = begin;
    begin += count;
  }
  for (int64_t t = 0; t < tokens; ++t)
    for (int64_t j = 0; j < top_k; ++j) {
      const int32_t slot = out.begins[ids(t, j) + 1]++;
      out.tokens[slot] = static_cast<int32_t>(t);
      out.slots[t * top_k + j] = slot;
    }
  return out;
}

// The shared expert first, with every token; then the experts that have rows.
std::span<const ExpertGroup> MakeGroups(const MoeArgs& args, const Permutation& sorted,
                                        Arena& scratch) {
  const int64_t experts = static_cast<int64_t>(args.experts->size());
  const int64_t tokens = args.x.dim(0);
  ExpertGroup* groups = scratch.Allocate<ExpertGroup>(experts + 1);
  size_t count = 0;
  if (args.shared) groups[count++] = {args.shared, nullptr, tokens, tokens * args.ids.dim(1)};
  for (int64_t e = 0; e < experts; ++e) {
    const int32_t begin = sorted.begins[e], end = sorted.begins[e + 1];
    if (begin < end)
      groups[count++] = {&(*args.experts)[e], sorted.tokens + begin, end - begin, begin};
  }
  return {groups, count};
}

// Few tokens share out columns instead: a whole row would leave lanes idle.
void CombineShare(const MoeArgs& args, const Permutation& sorted, View<float, 2> rows,
                  const Exec& exec, int lane) {
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
             .slots = sorted.slots + t * top_k,
             .weights = args.weights.row(t),
             .top_k = top_k,
             .shared = args.shared ? rows.row(tokens * top_k + t) : nullptr,
             .begin = by_token ? 0 : std::min(hidden, lines * lane / lanes * kLine),
             .end = by_token ? hidden : std::min(hidden, lines * (lane + 1) / lanes * kLine),
             .rounding = args.rounding,
             .y = args.y.row(t)});
}

}  // namespace

uint64_t MoeScratchBytes(int64_t tokens, int64_t top_k, int64_t hidden, int64_t intermediate,
                         int64_t experts) {
  constexpr uint64_t kAlignment = 64, kAllocations = 6;
  const auto rows = static_cast<uint64_t>(tokens) * (static_cast<uint64_t>(top_k) + 1);
  const auto columns = static_cast<uint64_t>(IntermediateStride(intermediate) + hidden);
  const uint64_t per_row = columns * sizeof(float) + 2 * sizeof(int32_t);
  const uint64_t per_expert = sizeof(ExpertGroup) + sizeof(int32_t);
  return rows * per_row + (static_cast<uint64_t>(experts) + 1) * per_expert +
         kAllocations * kAlignment;
}

void Epmoe(const MoeArgs& args, const PanelKernel& kernel, Exec& exec) {
  Arena::Scope scope(exec.scratch);
  const int64_t tokens = args.x.dim(0), hidden = args.x.dim(1);
  const int64_t rows = tokens * (args.ids.dim(1) + (args.shared ? 1 : 0));
  const int64_t stride = IntermediateStride(std::max(
      args.experts->front().intermediate(), args.shared ? args.shared->intermediate() : 0));
  const Permutation sorted =
      SortByExpert(args.ids, static_cast<int64_t>(args.experts->size()), exec.scratch);
  const ExpertGroupsArgs groups{.groups = MakeGroups(args, sorted, exec.scratch),
                                .x = args.x,
                                .intermediate = exec.scratch.Allocate<float>(rows * stride),
                                .intermediate_stride = stride,
                                .out = exec.scratch.Matrix<float>(rows, hidden),
                                .activation = args.activation,
                                .rounding = args.rounding,
                                .kernel = &kernel};
  exec.team.Run([&](int lane) {
    RunExpertGroups(groups, exec.team, lane);
    exec.team.Barrier();
    CombineShare(args, sorted, groups.out, exec, lane);
  });
}

}  // namespace sluice
