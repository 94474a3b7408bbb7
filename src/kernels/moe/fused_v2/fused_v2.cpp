#include "kernels/moe/fused_v2/fused_v2.h"

#include <algorithm>

#include "base/units.h"
#include "kernels/moe/combine.h"
#include "kernels/moe/expert_groups.h"
#include "kernels/moe/expert_rows.h"

namespace sluice {
namespace {

// Tokens whose sums are held at a time, and bytes of a lane's sums. Fewer tokens read the down
// weights more often, fewer columns the intermediate rows, which costs more than sums that only fit
// L3: docs/fused-moe.md, table 2.
constexpr int64_t kBlockTokens = 2048;
constexpr int64_t kSumsBytes = 16 << 20;

int64_t IntermediateStride(int64_t intermediate) { return RoundUp(intermediate, 16); }

int64_t BlockTokens(int64_t tokens) { return std::min(tokens, kBlockTokens); }

// What all lanes share.
struct Layer {
  const MoeArgs& args;
  const PanelKernel& kernel;
  ExpertRows rows;
  const int32_t* block_tokens;  // token of every row, within its block of kBlockTokens
  ExpertGroupsArgs gate_up;
  int64_t shared_begin;  // first intermediate row of the shared expert
  float* sums;           // [tokens of a block, output columns of all lanes]
};

// One lane's columns of the sums of a block of tokens: [block tokens][panels * 32].
struct Columns {
  int64_t panel_begin, panels;
  float* sums;

  int64_t stride() const { return panels * kPanelOutputs; }
};

// The shared expert first, with every token; then the experts that have rows. Their intermediate
// rows lie in the order of the sorted rows, those of the shared expert behind them.
std::span<const ExpertGroup> MakeGroups(const MoeArgs& args, const ExpertRows& rows,
                                        Arena& scratch) {
  const auto experts = static_cast<int64_t>(args.experts->size());
  const int64_t tokens = args.x.dim(0);
  ExpertGroup* groups = scratch.Allocate<ExpertGroup>(experts + 1);
  size_t count = 0;
  if (args.shared) groups[count++] = {args.shared, nullptr, tokens, tokens * args.ids.dim(1)};
  for (int64_t e = 0; e < experts; ++e) {
    const int32_t begin = rows.begins[e], end = rows.begins[e + 1];
    if (begin < end)
      groups[count++] = {&(*args.experts)[static_cast<size_t>(e)], rows.tokens + begin, end - begin,
                         begin};
  }
  return {groups, count};
}

const float* IntermediateRow(const Layer& layer, int64_t row) {
  return layer.gate_up.intermediate + row * layer.gate_up.intermediate_stride;
}

void ClearSums(const Columns& columns, int64_t tokens) {
  const trace::Stage stage("combine");
  std::fill_n(columns.sums, tokens * columns.stride(), 0.0f);
}

// Adds the routed experts' outputs for tokens [begin, end), of one block, to the sums.
void AddExperts(const Layer& layer, const Columns& columns, int64_t begin, int64_t end) {
  const MoeArgs& args = layer.args;
  for (const ExpertGroup& group : layer.gate_up.groups) {
    const int32_t* const tokens = group.row_ids;
    if (!tokens) continue;  // the shared expert
    const int64_t first = std::lower_bound(tokens, tokens + group.rows, begin) - tokens;
    const int64_t last = std::lower_bound(tokens + first, tokens + group.rows, end) - tokens;
    const int64_t row = group.row_begin + first;
    const trace::Stage stage("down", WeightBytes(group.weights->down(), columns.panel_begin,
                                                 columns.panel_begin + columns.panels));
    layer.kernel.Run({.x = IntermediateRow(layer, row),
                      .x_stride = layer.gate_up.intermediate_stride,
                      .rows = last - first,
                      .weight = &group.weights->down(),
                      .panel_begin = columns.panel_begin,
                      .panel_end = columns.panel_begin + columns.panels,
                      .epilogue = PanelEpilogue::kAccumulate,
                      .rounding = args.rounding,
                      .row_weights = layer.rows.weights + row,
                      .y_rows = layer.block_tokens + row,
                      .y = columns.sums,
                      .y_stride = columns.stride()});
  }
}

// y = round(round(sums) + shared) for tokens [begin, end).
void Finish(const Layer& layer, const Columns& columns, int64_t begin, int64_t end,
            const Exec& exec) {
  const MoeArgs& args = layer.args;
  if (args.shared) {
    const trace::Stage stage("down", WeightBytes(args.shared->down(), columns.panel_begin,
                                                 columns.panel_begin + columns.panels));
    layer.kernel.Run({.x = IntermediateRow(layer, layer.shared_begin + begin),
                      .x_stride = layer.gate_up.intermediate_stride,
                      .rows = end - begin,
                      .weight = &args.shared->down(),
                      .panel_begin = columns.panel_begin,
                      .panel_end = columns.panel_begin + columns.panels,
                      .rounding = args.rounding,
                      .y = args.y.row(begin),
                      .y_stride = args.y.stride(0)});
  }
  const trace::Stage stage("combine");
  const auto combine = exec.machine.Has(kAvx512) ? CombineRowsAvx512 : CombineRowsAvx2;
  const int64_t column = columns.panel_begin * kPanelOutputs;
  constexpr int32_t kRow = 0;
  constexpr float kOne = 1;
  for (int64_t t = begin; t < end; ++t) {
    float* const y = args.y.row(t) + column;
    combine({.rows = columns.sums + (t - begin) * columns.stride(),
             .stride = columns.stride(),
             .slots = &kRow,
             .weights = &kOne,
             .top_k = 1,
             .shared = args.shared ? y : nullptr,
             .begin = 0,
             .end = std::min(columns.stride(), args.x.dim(1) - column),
             .rounding = args.rounding,
             .y = y});
  }
}

// The second phase of one lane: its output panels, in groups whose sums fit.
void MakeOutputs(const Layer& layer, const Exec& exec, int lane) {
  const int64_t tokens = layer.args.x.dim(0), block = BlockTokens(tokens);
  const int64_t panels = CeilDiv(layer.args.x.dim(1), kPanelOutputs);
  const int lanes = exec.team.lanes();
  const int64_t lane_begin = panels * lane / lanes, lane_end = panels * (lane + 1) / lanes;
  const int64_t room = std::max<int64_t>(kSumsBytes / (block * kPanelOutputs * sizeof(float)), 1);
  const int64_t groups = CeilDiv(lane_end - lane_begin, room);
  for (int64_t begin = 0; begin < tokens; begin += block) {
    const int64_t end = std::min(begin + block, tokens);
    for (int64_t g = 0; g < groups; ++g) {
      const int64_t first = lane_begin + (lane_end - lane_begin) * g / groups;
      const int64_t last = lane_begin + (lane_end - lane_begin) * (g + 1) / groups;
      const Columns columns{first, last - first, layer.sums + lane_begin * kPanelOutputs * block};
      ClearSums(columns, end - begin);
      AddExperts(layer, columns, begin, end);
      Finish(layer, columns, begin, end, exec);
    }
  }
}

const int32_t* WithinBlocks(const ExpertRows& rows, int64_t count, int64_t tokens, Arena& scratch) {
  if (tokens <= kBlockTokens) return rows.tokens;
  auto* within = scratch.Allocate<int32_t>(count);
  for (int64_t r = 0; r < count; ++r)
    within[r] = rows.tokens[r] % static_cast<int32_t>(kBlockTokens);
  return within;
}

}  // namespace

uint64_t FusedV2ScratchBytes(int64_t tokens, int64_t top_k, int64_t hidden, int64_t intermediate,
                             int64_t experts) {
  constexpr uint64_t kAlignment = 64, kAllocations = 4;
  const auto rows = static_cast<uint64_t>(tokens * (top_k + 1));
  const auto floats = rows * static_cast<uint64_t>(IntermediateStride(intermediate)) +
                      static_cast<uint64_t>(BlockTokens(tokens) * RoundUp(hidden, kPanelOutputs));
  return ExpertRowsBytes(tokens, top_k, experts) + floats * sizeof(float) + rows * sizeof(int32_t) +
         static_cast<uint64_t>(experts + 1) * sizeof(ExpertGroup) + kAllocations * kAlignment;
}

void FusedV2(const MoeArgs& args, const PanelKernel& kernel, Exec& exec) {
  Arena::Scope scope(exec.scratch);
  const int64_t tokens = args.x.dim(0), hidden = args.x.dim(1);
  const int64_t routed = tokens * args.ids.dim(1);
  const int64_t stride = IntermediateStride(std::max(
      args.experts->front().intermediate(), args.shared ? args.shared->intermediate() : 0));
  const ExpertRows rows = SortByExpert(args, exec.scratch);
  const Layer layer{
      .args = args,
      .kernel = kernel,
      .rows = rows,
      .block_tokens = WithinBlocks(rows, routed, tokens, exec.scratch),
      .gate_up = {.groups = MakeGroups(args, rows, exec.scratch),
                  .x = args.x,
                  .intermediate =
                      exec.scratch.Allocate<float>((routed + (args.shared ? tokens : 0)) * stride),
                  .intermediate_stride = stride,
                  .out = {},
                  .activation = args.activation,
                  .rounding = args.rounding,
                  .kernel = &kernel},
      .shared_begin = routed,
      .sums = exec.scratch.Allocate<float>(BlockTokens(tokens) * RoundUp(hidden, kPanelOutputs))};
  exec.team.Run([&](int lane) {
    RunGateUp(layer.gate_up, exec.team.lanes(), lane);
    exec.team.Barrier();
    MakeOutputs(layer, exec, lane);
  });
}

}  // namespace sluice
