// Gated feed-forward layers over groups of rows: what experts, the shared expert and a dense layer
// have in common.
#pragma once

#include <cstdint>
#include <span>

#include "base/units.h"
#include "kernels/linear/panel_product.h"
#include "kernels/moe/expert_rows.h"
#include "kernels/moe/moe.h"

namespace sluice {

/// The rows of one expert. They lie one after another in the intermediate and output buffers.
struct ExpertGroup {
  const ExpertWeights* weights;
  const int32_t* row_ids;  // [rows] rows of x, or none: the first `rows` rows
  int64_t rows;            // > 0
  int64_t row_begin;       // of the buffers
  int64_t block_begin;     // of the blocks of rows of all groups: RowBlocks(rows) are this one's
};

/// Rows of a group are quantised in blocks of so many at most, as integer kernels pack them.
inline constexpr int64_t kRowBlock = 240;
inline int64_t RowBlocks(int64_t rows) { return CeilDiv(rows, kRowBlock); }

/// The groups of a call, in `scratch`: with `shared` the shared expert first, of every token, then
/// the experts that have rows. Their buffer rows lie in the order of the sorted rows, those of the
/// shared expert behind them. Takes ExpertGroupsBytes at most.
std::span<const ExpertGroup> MakeExpertGroups(const MoeArgs& args, const ExpertRows& rows,
                                              bool shared, Arena& scratch);
uint64_t ExpertGroupsBytes(int64_t experts);

/// Whether some group's products quantise their rows.
bool AnyQuantizesRows(std::span<const ExpertGroup> groups, const IntegerKernel* integers);

/// Memory for rows that are quantised once, for all the products that multiply them. The codes of
/// an intermediate row take the place of its first values.
struct CodesOnce {
  int8_t* x = nullptr;  // [rows of x, x_stride]
  int64_t x_stride = 0;
  float* x_scales = nullptr;             // [rows of x]
  float* intermediate_scales = nullptr;  // [rows of all groups]
  int32_t* panels_left = nullptr;        // [blocks of rows]: of gate and up, to be multiplied yet
};

/// In `scratch`, for groups of x's rows. None where no weights are integers, or for so few rows
/// that it does not pay. Takes CodesOnceBytes at most.
CodesOnce MakeCodesOnce(std::span<const ExpertGroup> groups, View<const float, 2> x,
                        const IntegerKernel* integers, Arena& scratch);
uint64_t CodesOnceBytes(int64_t tokens, int64_t top_k, int64_t hidden, int64_t experts);

struct ExpertGroupsArgs {
  std::span<const ExpertGroup> groups;
  View<const float, 2> x;
  const Bf16* narrow_x = nullptr;  // instead of x, with rows `narrow_x_stride` apart
  int64_t narrow_x_stride = 0;
  float* intermediate = nullptr;        // [rows of all groups, intermediate_stride]
  Bf16* narrow_intermediate = nullptr;  // instead of it; RunGateUp alone
  int64_t intermediate_stride;          // >= every group's intermediate width rounded up to 16
  View<float, 2> out;                   // [rows of all groups, hidden]
  Activation activation;
  Rounding rounding;
  const PanelKernel* kernel;
  const IntegerKernel* integers = nullptr;  // as in PanelProduct
  CodesOnce codes = {};                     // none: products quantise rows as they pack them
  bool prefetch = true;                     // as in PanelProduct
  int64_t tile_panels =
      0;  // of one product, so that rows are packed anew for so many; 0: any number
};

/// Stored bytes of some panels, scales included.
int64_t WeightBytes(const PackedMatrix& weight, int64_t panel_begin, int64_t panel_end);

/// Quantises this lane's share of x, if there is a place for its codes: true, and a barrier must
/// come before RunGateUp.
bool QuantizeShare(const ExpertGroupsArgs& args, int lanes, int lane);

/// The codes of the intermediate rows from `row` on; for PanelProduct, which reads them if the
/// weights are integers.
QuantizedRows IntermediateCodes(const ExpertGroupsArgs& args, int64_t row);

/// One lane's share of the first phase alone: gate, up and activation, to `intermediate`. With
/// `codes` rows are quantised by the lane that multiplies a block's last panels. `next` is what the
/// lane multiplies afterwards, or none.
void RunGateUp(const ExpertGroupsArgs& args, int lanes, int lane, const std::byte* next = nullptr);

/// One lane's share; every lane of the team calls it inside Team::Run. Two phases (gate and up;
/// down), each cut evenly over the lanes along all experts' panels laid end to end, with a barrier
/// between them. The caller needs another one before it reads `out`.
void RunExpertGroups(const ExpertGroupsArgs& args, Team& team, int lane);

/// Both phases on the calling thread, with the same bits, if one lane has them to itself and
/// experts and rows are few and small enough for small_experts.h. False: nothing is done.
bool RunSmallExperts(const ExpertGroupsArgs& args);

/// DenseFfn by one kernel (and one of quantised rows, if any); shapes are checked and there are
/// rows.
void RunDenseFfn(const DenseFfnArgs& args, const PanelKernel& kernel, const IntegerKernel* integers,
                 bool prefetch, Exec& exec);

/// Of a row of the intermediate buffer.
inline int64_t IntermediateStride(int64_t intermediate) { return (intermediate + 15) / 16 * 16; }

}  // namespace sluice
