#include "kernels/moe/fused_v2/fused_v2.h"

#include <algorithm>
#include <bit>

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

// Without residency: panels for which rows are packed anew, and inputs of the down product between
// two visits of its sums in memory.
constexpr int64_t kTilePanels = 4, kSliceInputs = kScaleInputsMax;

// From so many tokens on x is narrowed to bfloat16s first, where the kernel multiplies those: every
// row is then packed several times for each of its experts.
constexpr int64_t kNarrowTokens = 64;

// What a lane fetches while it waits: a share of its L2 that leaves room for packed rows.
constexpr int64_t kFetchBytes = 256 << 10, kFetchPiece = 1 << 10, kLine = 64;

int64_t NarrowStride(int64_t hidden) { return RoundUp(hidden, 32); }  // whole cache lines

int64_t BlockTokens(int64_t tokens) { return std::min(tokens, kBlockTokens); }

// What all lanes share.
struct Layer {
  const MoeArgs& args;
  const MoeAblation& ablation;
  const PanelKernel& kernel;
  int lanes;
  ExpertRows rows;
  const int32_t* block_tokens;  // token of every row, within its block of kBlockTokens
  ExpertGroupsArgs gate_up;
  int64_t shared_begin;  // first intermediate row of the shared expert
  float* sums;           // [tokens of a block, output columns of all lanes]
  float* partial;        // [routed rows of a block, output columns of all lanes], or none
};

// Some of one lane's columns of a block of tokens.
struct Columns {
  int64_t panel_begin, panels;
  float* sums;            // [block tokens][panels * 32]
  float* partial;         // [routed rows of the block][panels * 32], or none
  const std::byte* next;  // what the lane multiplies after them, or null

  int64_t stride() const { return panels * kPanelOutputs; }
};

// The first panels of the second phase, fetched into L2 a piece at a time.
class FetchAhead {
 public:
  FetchAhead(const std::byte* from, int64_t bytes)
      : at_(from), end_(from + std::min(bytes, kFetchBytes)) {}

  // False: nothing is left.
  bool Next() {
    const std::byte* const piece = at_ + std::min<int64_t>(end_ - at_, kFetchPiece);
    for (; at_ < piece; at_ += kLine) __builtin_prefetch(at_, 0, 2);
    return at_ < end_;
  }

 private:
  const std::byte *at_, *end_;
};

// Panel `panel` of the first routed expert, with which a lane's columns begin.
const std::byte* FirstDown(const Layer& layer, int64_t panel) {
  const auto& groups = layer.gate_up.groups;
  const auto first = std::ranges::find_if(groups, [](const auto& g) { return g.row_ids; });
  return first->weights->down().panel<std::byte>(panel);
}

// Whether the shared expert's output is made with the routed ones', or is in y already.
bool MakesShared(const Layer& layer) { return layer.args.shared && layer.ablation.shared; }

// A product with the intermediate rows from `row` on.
PanelProduct Down(const Layer& layer, int64_t row, int64_t rows, const ExpertWeights& expert,
                  int64_t panel_begin, int64_t panel_end) {
  const ExpertGroupsArgs& groups = layer.gate_up;
  const int64_t at = row * groups.intermediate_stride;
  const bool narrow = groups.narrow_intermediate != nullptr;
  return {.x = narrow ? nullptr : groups.intermediate + at,
          .narrow_x = narrow ? groups.narrow_intermediate + at : nullptr,
          .x_stride = groups.intermediate_stride,
          .quantized = IntermediateCodes(groups, row),
          .rows = rows,
          .weight = &expert.down(),
          .panel_begin = panel_begin,
          .panel_end = panel_end,
          .rounding = layer.args.rounding,
          .integers = groups.integers,
          .lanes = layer.lanes,
          .prefetch = layer.ablation.prefetch,
          .y_stride = 0};
}

void ClearSums(const Columns& columns, int64_t tokens) {
  const trace::Stage stage("combine");
  std::fill_n(columns.sums, tokens * columns.stride(), 0.0f);
}

// Adds the routed experts' outputs for tokens [begin, end), of one block, to the sums: products of
// inputs [input_begin, input_end), of `tile_panels` panels at a time; `next` is multiplied then.
void AddSlice(const Layer& layer, const Columns& columns, int64_t begin, int64_t end,
              int64_t input_begin, int64_t input_end, int64_t tile_panels, const std::byte* next) {
  int64_t partial_row = 0;
  for (const ExpertGroup& group : layer.gate_up.groups) {
    const int32_t* const tokens = group.row_ids;
    if (!tokens) continue;  // the shared expert
    const int64_t first = std::lower_bound(tokens, tokens + group.rows, begin) - tokens;
    const int64_t last = std::lower_bound(tokens + first, tokens + group.rows, end) - tokens;
    const int64_t row = group.row_begin + first;
    const trace::Stage stage("down", WeightBytes(group.weights->down(), columns.panel_begin,
                                                 columns.panel_begin + columns.panels));
    const bool ends = &group == &layer.gate_up.groups.back();
    for (int64_t tile = 0; tile < columns.panels; tile += tile_panels) {
      PanelProduct product =
          Down(layer, row, last - first, *group.weights, columns.panel_begin + tile,
               columns.panel_begin + std::min(tile + tile_panels, columns.panels));
      product.next = tile + tile_panels < columns.panels
                         ? product.weight->panel<std::byte>(product.panel_end)
                     : ends ? next
                            : (&group + 1)->weights->down().panel<std::byte>(columns.panel_begin);
      product.epilogue = PanelEpilogue::kAccumulate;
      product.input_begin = input_begin;
      product.input_end = input_end;
      if (columns.partial)
        product.partial = columns.partial + partial_row * columns.stride() + tile * kPanelOutputs;
      product.partial_stride = columns.stride();
      product.row_weights = layer.rows.weights + row;
      product.y_rows = layer.block_tokens + row;
      product.y = columns.sums + tile * kPanelOutputs;
      product.y_stride = columns.stride();
      layer.kernel.Run(product);
    }
    partial_row += last - first;
  }
}

// Without residency the slices are outermost: until the next one wants its sums, those of all rows
// have gone through the caches.
void AddExperts(const Layer& layer, const Columns& columns, int64_t begin, int64_t end) {
  const int64_t inputs = layer.args.experts->front().intermediate();
  const std::byte* const next =
      MakesShared(layer) ? layer.args.shared->down().panel<std::byte>(columns.panel_begin)
                         : columns.next;
  if (layer.ablation.residency) {
    AddSlice(layer, columns, begin, end, 0, inputs, columns.panels, next);
    return;
  }
  for (int64_t slice = 0; slice < inputs; slice += kSliceInputs)
    AddSlice(layer, columns, begin, end, slice, std::min(slice + kSliceInputs, inputs), kTilePanels,
             slice + kSliceInputs < inputs ? nullptr : next);
}

// y = round(round(sums) + shared) for tokens [begin, end).
void Finish(const Layer& layer, const Columns& columns, int64_t begin, int64_t end,
            const Exec& exec) {
  const MoeArgs& args = layer.args;
  if (MakesShared(layer)) {
    const trace::Stage stage("down", WeightBytes(args.shared->down(), columns.panel_begin,
                                                 columns.panel_begin + columns.panels));
    PanelProduct product = Down(layer, layer.shared_begin + begin, end - begin, *args.shared,
                                columns.panel_begin, columns.panel_begin + columns.panels);
    product.next = columns.next;
    product.y = args.y.row(begin);
    product.y_stride = args.y.stride(0);
    layer.kernel.Run(product);
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

// Output panels of a lane: [begin, end).
struct LanePanels {
  int64_t begin, end;

  LanePanels(const Layer& layer, int lanes, int lane) {
    const int64_t panels = CeilDiv(layer.args.x.dim(1), kPanelOutputs);
    begin = panels * lane / lanes;
    end = panels * (lane + 1) / lanes;
  }
};

// Between the phases. A lane that waits fetches what it multiplies first.
void WaitForAll(const Layer& layer, Team& team, int lane) {
  if (!layer.ablation.overlap) {
    team.Barrier();
    return;
  }
  const LanePanels panels(layer, team.lanes(), lane);
  FetchAhead fetch(FirstDown(layer, panels.begin),
                   (panels.end - panels.begin) * layer.args.experts->front().down().panel_bytes());
  const trace::Stage waiting("waiting");
  team.Barrier([&] { return fetch.Next(); });
}

// The second phase of one lane: its output panels, in groups whose sums fit.
void MakeOutputs(const Layer& layer, const Exec& exec, int lane) {
  const int64_t tokens = layer.args.x.dim(0), block = BlockTokens(tokens);
  const auto [lane_begin, lane_end] = LanePanels(layer, exec.team.lanes(), lane);
  const int64_t room = std::max<int64_t>(kSumsBytes / (block * kPanelOutputs * sizeof(float)), 1);
  const int64_t groups = CeilDiv(lane_end - lane_begin, room);
  for (int64_t begin = 0; begin < tokens; begin += block) {
    const int64_t end = std::min(begin + block, tokens);
    for (int64_t g = 0; g < groups; ++g) {
      const int64_t first = lane_begin + (lane_end - lane_begin) * g / groups;
      const int64_t last = lane_begin + (lane_end - lane_begin) * (g + 1) / groups;
      const int64_t column = lane_begin * kPanelOutputs;
      const Columns columns{.panel_begin = first,
                            .panels = last - first,
                            .sums = layer.sums + column * block,
                            .partial = layer.partial
                                           ? layer.partial + column * block * layer.args.ids.dim(1)
                                           : nullptr,
                            .next = last < lane_end || end < tokens
                                        ? FirstDown(layer, last < lane_end ? last : lane_begin)
                                        : nullptr};
      ClearSums(columns, end - begin);
      AddExperts(layer, columns, begin, end);
      Finish(layer, columns, begin, end, exec);
    }
  }
}

// This lane's share of x as bfloat16s, which its values are.
void NarrowRows(const Layer& layer, Bf16* narrow, int lanes, int lane) {
  const trace::Stage stage("gather");
  const View<const float, 2>& x = layer.args.x;
  for (int64_t t = x.dim(0) * lane / lanes; t < x.dim(0) * (lane + 1) / lanes; ++t) {
    const float* const from = x.row(t);
    Bf16* const to = narrow + t * layer.gate_up.narrow_x_stride;
    for (int64_t i = 0; i < x.dim(1); ++i)
      to[i].bits = static_cast<uint16_t>(std::bit_cast<uint32_t>(from[i]) >> 16);
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
                             int64_t experts, bool residency) {
  constexpr uint64_t kAlignment = 64, kAllocations = 5;
  const auto rows = static_cast<uint64_t>(tokens * (top_k + 1));
  const auto sums = static_cast<uint64_t>(BlockTokens(tokens) * RoundUp(hidden, kPanelOutputs));
  const uint64_t intermediates = rows * static_cast<uint64_t>(IntermediateStride(intermediate));
  const auto narrow_x = static_cast<uint64_t>(tokens * NarrowStride(hidden));
  const uint64_t row_bytes =
      std::max(intermediates * sizeof(float), (intermediates + narrow_x) * sizeof(Bf16));
  return ExpertRowsBytes(tokens, top_k, experts) + row_bytes + rows * sizeof(int32_t) +
         sums * sizeof(float) * (residency ? 1 : 1 + static_cast<uint64_t>(top_k)) +
         ExpertGroupsBytes(experts) + CodesOnceBytes(tokens, top_k, hidden, experts) +
         kAllocations * kAlignment;
}

void FusedV2(const MoeArgs& args, const MoeAblation& ablation, const PanelKernel& kernel,
             const IntegerKernel* integers, Exec& exec) {
  if (args.shared && !ablation.shared)
    RunDenseFfn({.x = args.x,
                 .weights = args.shared,
                 .activation = args.activation,
                 .rounding = args.rounding,
                 .bf16_inputs = args.bf16_inputs,
                 .activations = args.activations,
                 .y = args.y},
                kernel, integers, ablation.prefetch, exec);
  const bool shared = args.shared && ablation.shared;
  Arena::Scope scope(exec.scratch);
  const int64_t tokens = args.x.dim(0), hidden = args.x.dim(1);
  const int64_t routed = tokens * args.ids.dim(1);
  const int64_t stride = IntermediateStride(
      std::max(args.experts->front().intermediate(), shared ? args.shared->intermediate() : 0));
  const int64_t sums = BlockTokens(tokens) * RoundUp(hidden, kPanelOutputs);
  const ExpertRows rows = SortByExpert(args, exec.scratch);
  const auto groups = MakeExpertGroups(args, rows, shared, exec.scratch);
  // Rows that are quantised are read as floats, and those of other kernels multiplied as floats.
  const bool narrow = kernel.bf16_inputs && !AnyQuantizesRows(groups, integers);
  Bf16* const narrow_x = narrow && tokens >= kNarrowTokens
                             ? exec.scratch.Allocate<Bf16>(tokens * NarrowStride(hidden))
                             : nullptr;
  const int64_t intermediates = (routed + (shared ? tokens : 0)) * stride;
  const Layer layer{
      .args = args,
      .ablation = ablation,
      .kernel = kernel,
      .lanes = exec.team.lanes(),
      .rows = rows,
      .block_tokens = WithinBlocks(rows, routed, tokens, exec.scratch),
      .gate_up = {.groups = groups,
                  .x = args.x,
                  .narrow_x = narrow_x,
                  .narrow_x_stride = NarrowStride(hidden),
                  .intermediate = narrow ? nullptr : exec.scratch.Allocate<float>(intermediates),
                  .narrow_intermediate =
                      narrow ? exec.scratch.Allocate<Bf16>(intermediates) : nullptr,
                  .intermediate_stride = stride,
                  .out = {},
                  .activation = args.activation,
                  .rounding = args.rounding,
                  .kernel = &kernel,
                  .integers = integers,
                  .codes = ablation.codes ? MakeCodesOnce(groups, args.x, integers, exec.scratch)
                                          : CodesOnce{},
                  .prefetch = ablation.prefetch,
                  .tile_panels = ablation.residency ? 0 : kTilePanels},
      .shared_begin = routed,
      .sums = exec.scratch.Allocate<float>(sums),
      .partial =
          ablation.residency ? nullptr : exec.scratch.Allocate<float>(sums * args.ids.dim(1))};
  exec.team.Run([&](int lane) {
    if (narrow_x) NarrowRows(layer, narrow_x, exec.team.lanes(), lane);
    if (narrow_x || QuantizeShare(layer.gate_up, exec.team.lanes(), lane)) exec.team.Barrier();
    RunGateUp(layer.gate_up, exec.team.lanes(), lane,
              FirstDown(layer, LanePanels(layer, exec.team.lanes(), lane).begin));
    WaitForAll(layer, exec.team, lane);
    MakeOutputs(layer, exec, lane);
  });
}

}  // namespace sluice
