#include "kernels/moe/expert_groups.h"

#include <algorithm>
#include <atomic>

#include "kernels/linear/integer/integer_kernel.h"

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

// For fewer tokens a barrier, and a pass beside which nothing is read from memory, cost more than
// to quantise a row for each product: docs/fused-moe.md, table 7.
constexpr int64_t kOnceTokens = 8;

int64_t CodesStride(int64_t inputs) { return RoundUp(inputs, 64); }  // whole cache lines

// Whether the group's intermediate rows are quantised by RunGateUp.
bool QuantizesIntermediate(const ExpertGroupsArgs& args, const ExpertGroup& group) {
  return args.codes.x && args.integers->Takes(group.weights->down());
}

// Rows [begin, end) of a group, all of whose values are there.
void QuantizeIntermediate(const ExpertGroupsArgs& args, const ExpertGroup& group, int64_t begin,
                          int64_t end) {
  const int64_t inputs = group.weights->intermediate();
  const trace::Stage stage("gather", (end - begin) * inputs * int64_t{sizeof(float)});
  for (int64_t r = group.row_begin + begin; r < group.row_begin + end; ++r) {
    float* const row = args.intermediate + r * args.intermediate_stride;
    args.codes.intermediate_scales[r] =
        args.integers->quantize(row, inputs, reinterpret_cast<int8_t*>(row));
  }
}

// Whether `panels` more are the last ones of a block, by whichever lanes; what those have written
// is then to be seen.
bool AreLastPanels(int32_t& panels_left, int64_t panels) {
  const auto count = static_cast<int32_t>(panels);
  return std::atomic_ref(panels_left).fetch_sub(count, std::memory_order_acq_rel) == count;
}

// Gate and up of rows [row_begin, row_end) of a share's group; `next` follows its last panel.
void MultiplyGateUp(const ExpertGroupsArgs& args, const Share& share, int64_t row_begin,
                    int64_t row_end, int lanes, const std::byte* next) {
  const ExpertGroup& group = *share.group;
  const PackedMatrix& weight = group.weights->gate_up();
  const bool narrow = args.narrow_intermediate != nullptr;
  const int64_t x_stride = args.narrow_x ? args.narrow_x_stride : args.x.stride(0);
  const int64_t to = (group.row_begin + row_begin) * args.intermediate_stride;
  // Without row_ids the rows are those of x.
  const int64_t first = group.row_ids ? 0 : row_begin;
  QuantizedRows x_codes;
  if (const CodesOnce& codes = args.codes; codes.x)
    x_codes = {codes.x + first * codes.x_stride, codes.x_stride, codes.x_scales + first};
  ForEachTile(args, share.panel_begin, share.panel_end, [&](int64_t begin, int64_t end) {
    args.kernel->Run({.x = args.x.data() + first * args.x.stride(0),
                      .narrow_x = args.narrow_x ? args.narrow_x + first * x_stride : nullptr,
                      .x_stride = x_stride,
                      .quantized = x_codes,
                      .row_ids = group.row_ids ? group.row_ids + row_begin : nullptr,
                      .rows = row_end - row_begin,
                      .weight = &weight,
                      .panel_begin = begin,
                      .panel_end = end,
                      .epilogue = PanelEpilogue::kGated,
                      .activation = args.activation,
                      .rounding = args.rounding,
                      .integers = args.integers,
                      .lanes = lanes,
                      .prefetch = args.prefetch,
                      .next = end < share.panel_end ? weight.panel<std::byte>(end) : next,
                      .y = narrow ? nullptr : args.intermediate + to,
                      .narrow_y = narrow ? args.narrow_intermediate + to : nullptr,
                      .y_stride = args.intermediate_stride});
  });
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
  int64_t blocks = 0;
  const auto add = [&](const ExpertWeights& weights, const int32_t* row_ids, int64_t group_rows,
                       int64_t row_begin) {
    groups[count++] = {&weights, row_ids, group_rows, row_begin, blocks};
    blocks += RowBlocks(group_rows);
  };
  if (shared) add(*args.shared, nullptr, tokens, tokens * args.ids.dim(1));
  for (int64_t e = 0; e < experts; ++e) {
    const int32_t begin = rows.begins[e], end = rows.begins[e + 1];
    if (begin < end)
      add((*args.experts)[static_cast<size_t>(e)], rows.tokens + begin, end - begin, begin);
  }
  return {groups, count};
}

uint64_t ExpertGroupsBytes(int64_t experts) {
  constexpr uint64_t kAlignment = 64;
  return static_cast<uint64_t>(experts + 1) * sizeof(ExpertGroup) + kAlignment;
}

bool AnyQuantizesRows(std::span<const ExpertGroup> groups, const IntegerKernel* integers) {
  return integers && std::ranges::any_of(groups, [&](const ExpertGroup& group) {
           return integers->Takes(group.weights->gate_up()) ||
                  integers->Takes(group.weights->down());
         });
}

CodesOnce MakeCodesOnce(std::span<const ExpertGroup> groups, View<const float, 2> x,
                        const IntegerKernel* integers, Arena& scratch) {
  if (x.dim(0) < kOnceTokens || !AnyQuantizesRows(groups, integers)) return {};
  int64_t rows = 0, blocks = 0;
  for (const ExpertGroup& group : groups) {
    rows += group.rows;
    blocks += RowBlocks(group.rows);
  }
  const int64_t stride = CodesStride(x.dim(1));
  const CodesOnce codes{.x = scratch.Allocate<int8_t>(x.dim(0) * stride),
                        .x_stride = stride,
                        .x_scales = scratch.Allocate<float>(x.dim(0)),
                        .intermediate_scales = scratch.Allocate<float>(rows),
                        .panels_left = scratch.Allocate<int32_t>(blocks)};
  for (const ExpertGroup& group : groups)
    std::fill_n(codes.panels_left + group.block_begin, RowBlocks(group.rows),
                static_cast<int32_t>(group.weights->gate_up().panels()));
  return codes;
}

uint64_t CodesOnceBytes(int64_t tokens, int64_t top_k, int64_t hidden, int64_t experts) {
  constexpr int64_t kAlignment = 64, kAllocations = 4;
  const int64_t rows = tokens * (top_k + 1), blocks = rows / kRowBlock + experts + 1;
  constexpr int64_t kWord = sizeof(float);
  return static_cast<uint64_t>(tokens * (CodesStride(hidden) + kWord) + (rows + blocks) * kWord +
                               kAllocations * kAlignment);
}

bool QuantizeShare(const ExpertGroupsArgs& args, int lanes, int lane) {
  const CodesOnce& codes = args.codes;
  if (!codes.x) return false;
  const int64_t begin = args.x.dim(0) * lane / lanes, end = args.x.dim(0) * (lane + 1) / lanes;
  const trace::Stage stage("gather", (end - begin) * args.x.dim(1) * int64_t{sizeof(float)});
  for (int64_t t = begin; t < end; ++t)
    codes.x_scales[t] =
        args.integers->quantize(args.x.row(t), args.x.dim(1), codes.x + t * codes.x_stride);
  return true;
}

QuantizedRows IntermediateCodes(const ExpertGroupsArgs& args, int64_t row) {
  if (!args.codes.x) return {};
  const float* const values = args.intermediate + row * args.intermediate_stride;
  return {reinterpret_cast<const int8_t*>(values),
          args.intermediate_stride * int64_t{sizeof(float)}, args.codes.intermediate_scales + row};
}

void RunGateUp(const ExpertGroupsArgs& args, int lanes, int lane, const std::byte* next) {
  ForEachShareInTurn(args, GateUpOf, lane, lanes, next, [&](const Share& share) {
    const ExpertGroup& group = *share.group;
    const PackedMatrix& weight = group.weights->gate_up();
    const trace::Stage stage(
        "gate/up", [&] { return WeightBytes(weight, share.panel_begin, share.panel_end); });
    if (!QuantizesIntermediate(args, group)) {
      MultiplyGateUp(args, share, 0, group.rows, lanes, share.next);
      return;
    }
    // Lanes that share a group begin with different blocks, and so end with different ones.
    const int64_t blocks = RowBlocks(group.rows);
    for (int64_t i = 0; i < blocks; ++i) {
      const int64_t block = (lane + i) % blocks;
      const int64_t begin = group.rows * block / blocks;
      const int64_t end = group.rows * (block + 1) / blocks;
      MultiplyGateUp(args, share, begin, end, lanes,
                     i + 1 < blocks ? weight.panel<std::byte>(share.panel_begin) : share.next);
      if (AreLastPanels(args.codes.panels_left[group.block_begin + block],
                        share.panel_end - share.panel_begin))
        QuantizeIntermediate(args, group, begin, end);
    }
  });
}

void RunExpertGroups(const ExpertGroupsArgs& args, Team& team, int lane) {
  if (QuantizeShare(args, team.lanes(), lane)) team.Barrier();
  RunGateUp(args, team.lanes(), lane);
  team.Barrier();
  ForEachShareInTurn(args, DownOf, lane, team.lanes(), nullptr, [&](const Share& share) {
    const ExpertGroup& group = *share.group;
    const PackedMatrix& weight = group.weights->down();
    const trace::Stage stage(
        "down", [&] { return WeightBytes(weight, share.panel_begin, share.panel_end); });
    args.kernel->Run({.x = args.intermediate + group.row_begin * args.intermediate_stride,
                      .x_stride = args.intermediate_stride,
                      .quantized = IntermediateCodes(args, group.row_begin),
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
  const ExpertGroup group{args.weights, nullptr, tokens, 0, 0};
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
                                .codes = MakeCodesOnce({&group, 1}, args.x, integers, exec.scratch),
                                .prefetch = prefetch};
  exec.team.Run([&](int lane) { RunExpertGroups(groups, exec.team, lane); });
}

}  // namespace sluice
