#include "kernels/moe/expert_groups.h"

#include <algorithm>

namespace sluice {
namespace {

// Rows that a lane multiplies with a weight in the time in which one byte of weights comes from
// memory: some 25 GB/s a lane beside its neighbours, and 125 (AVX2), 250, 470 (vdpbf16ps) and 2,800
// GFLOP/s (AMX).
int64_t RowsPerByte(const PanelKernel& kernel) {
  if (kernel.needs & kAmxBf16) return 64;
  if (kernel.bf16_inputs) return 8;
  return kernel.needs & kAvx512 ? 4 : 2;
}

const PackedMatrix& GateUpOf(const ExpertGroup& group) { return group.weights->gate_up(); }
const PackedMatrix& DownOf(const ExpertGroup& group) { return group.weights->down(); }

// A panel's cost in row units: at least that of reading its weights from memory.
int64_t PanelCost(const PackedMatrix& weight, int64_t rows, int64_t rows_per_byte) {
  return std::max(rows, weight.panel_bytes() * rows_per_byte / weight.panel_elements());
}

// Calls function(group, panel_begin, panel_end) for lane's share of all groups' panels.
template <class Weight, class F>
void ForEachShare(const ExpertGroupsArgs& args, Weight&& weight, int lane, int lanes,
                  F&& function) {
  if (lanes == 1) {
    for (const ExpertGroup& group : args.groups) function(group, 0, weight(group).panels());
    return;
  }
  const int64_t rows_per_byte = RowsPerByte(*args.kernel);
  const auto cost_of = [&](const ExpertGroup& group) {
    return PanelCost(weight(group), group.rows, rows_per_byte);
  };
  int64_t total = 0;
  for (const ExpertGroup& group : args.groups) total += cost_of(group) * weight(group).panels();
  const int64_t begin = total * lane / lanes, end = total * (lane + 1) / lanes;
  int64_t at = 0;
  for (const ExpertGroup& group : args.groups) {
    const int64_t cost = cost_of(group), panels = weight(group).panels();
    const auto cut = [&](int64_t position) {  // rounded, and the same for both neighbours
      return std::clamp((position - at + cost / 2) / cost, int64_t{0}, panels);
    };
    const int64_t panel_begin = begin <= at ? 0 : cut(begin);
    const int64_t panel_end = end >= at + cost * panels ? panels : end <= at ? 0 : cut(end);
    if (panel_begin < panel_end) function(group, panel_begin, panel_end);
    at += cost * panels;
  }
}

// Some panels of a group's weight, and those that the lane multiplies after them.
struct Share {
  const ExpertGroup* group;
  int64_t panel_begin, panel_end;
  const std::byte* next;
};

// The same with function(share), of the last of which `after` is the next.
template <class Weight, class F>
void ForEachShareInTurn(const ExpertGroupsArgs& args, Weight&& weight, int lane, int lanes,
                        const std::byte* after, F&& function) {
  Share share{};
  ForEachShare(args, weight, lane, lanes,
               [&](const ExpertGroup& group, int64_t panel_begin, int64_t panel_end) {
                 share.next = weight(group).template panel<std::byte>(panel_begin);
                 if (share.group) function(share);
                 share = {&group, panel_begin, panel_end, after};
               });
  if (share.group) function(share);
}

// Calls function(begin, end) for panels [begin, end), args.tile_panels at a time.
template <class F>
void ForEachTile(const ExpertGroupsArgs& args, int64_t begin, int64_t end, F&& function) {
  const int64_t step = args.tile_panels > 0 ? args.tile_panels : end - begin;
  for (int64_t tile = begin; tile < end; tile += step) function(tile, std::min(tile + step, end));
}

}  // namespace

int64_t WeightBytes(const PackedMatrix& weight, int64_t panel_begin, int64_t panel_end) {
  return static_cast<int64_t>(weight.bytes()) / weight.panels() * (panel_end - panel_begin);
}

std::span<const ExpertGroup> MakeExpertGroups(const MoeArgs& args, const ExpertRows& rows,
                                              bool shared, Arena& scratch) {
  const auto experts = static_cast<int64_t>(args.experts->size());
  const int64_t tokens = args.x.dim(0);
  ExpertGroup* groups = scratch.Allocate<ExpertGroup>(experts + 1);
  size_t count = 0;
  if (shared) groups[count++] = {args.shared, nullptr, tokens, tokens * args.ids.dim(1)};
  for (int64_t e = 0; e < experts; ++e) {
    const int32_t begin = rows.begins[e], end = rows.begins[e + 1];
    if (begin < end)
      groups[count++] = {&(*args.experts)[static_cast<size_t>(e)], rows.tokens + begin, end - begin,
                         begin};
  }
  return {groups, count};
}

uint64_t ExpertGroupsBytes(int64_t experts) {
  constexpr uint64_t kAlignment = 64;
  return static_cast<uint64_t>(experts + 1) * sizeof(ExpertGroup) + kAlignment;
}

void RunGateUp(const ExpertGroupsArgs& args, int lanes, int lane, const std::byte* next) {
  const bool narrow = args.narrow_intermediate != nullptr;
  ForEachShareInTurn(args, GateUpOf, lane, lanes, next, [&](const Share& share) {
    const ExpertGroup& group = *share.group;
    const PackedMatrix& weight = group.weights->gate_up();
    const trace::Stage stage(
        "gate/up", [&] { return WeightBytes(weight, share.panel_begin, share.panel_end); });
    const int64_t row = group.row_begin * args.intermediate_stride;
    ForEachTile(args, share.panel_begin, share.panel_end, [&](int64_t begin, int64_t end) {
      args.kernel->Run({.x = args.x.data(),
                        .narrow_x = args.narrow_x,
                        .x_stride = args.narrow_x ? args.narrow_x_stride : args.x.stride(0),
                        .row_ids = group.row_ids,
                        .rows = group.rows,
                        .weight = &weight,
                        .panel_begin = begin,
                        .panel_end = end,
                        .epilogue = PanelEpilogue::kGated,
                        .activation = args.activation,
                        .rounding = args.rounding,
                        .integers = args.integers,
                        .lanes = lanes,
                        .prefetch = args.prefetch,
                        .next = end < share.panel_end ? weight.panel<std::byte>(end) : share.next,
                        .y = narrow ? nullptr : args.intermediate + row,
                        .narrow_y = narrow ? args.narrow_intermediate + row : nullptr,
                        .y_stride = args.intermediate_stride});
    });
  });
}

void RunExpertGroups(const ExpertGroupsArgs& args, Team& team, int lane) {
  RunGateUp(args, team.lanes(), lane);
  team.Barrier();
  ForEachShareInTurn(args, DownOf, lane, team.lanes(), nullptr, [&](const Share& share) {
    const ExpertGroup& group = *share.group;
    const PackedMatrix& weight = group.weights->down();
    const trace::Stage stage(
        "down", [&] { return WeightBytes(weight, share.panel_begin, share.panel_end); });
    args.kernel->Run({.x = args.intermediate + group.row_begin * args.intermediate_stride,
                      .x_stride = args.intermediate_stride,
                      .rows = group.rows,
                      .weight = &weight,
                      .panel_begin = share.panel_begin,
                      .panel_end = share.panel_end,
                      .rounding = args.rounding,
                      .integers = args.integers,
                      .lanes = team.lanes(),
                      .prefetch = args.prefetch,
                      .next = share.next,
                      .y = args.out.row(group.row_begin),
                      .y_stride = args.out.stride(0)});
  });
}

void RunDenseFfn(const DenseFfnArgs& args, const PanelKernel& kernel, const IntegerKernel* integers,
                 bool prefetch, Exec& exec) {
  Arena::Scope scope(exec.scratch);
  const int64_t tokens = args.x.dim(0);
  const ExpertGroup group{args.weights, nullptr, tokens, 0};
  const int64_t stride = IntermediateStride(args.weights->intermediate());
  const ExpertGroupsArgs groups{.groups = {&group, 1},
                                .x = args.x,
                                .intermediate = exec.scratch.Allocate<float>(tokens * stride),
                                .intermediate_stride = stride,
                                .out = args.y,
                                .activation = args.activation,
                                .rounding = args.rounding,
                                .kernel = &kernel,
                                .integers = integers,
                                .prefetch = prefetch};
  exec.team.Run([&](int lane) { RunExpertGroups(groups, exec.team, lane); });
}

}  // namespace sluice
