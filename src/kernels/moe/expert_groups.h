// Gated feed-forward layers over groups of rows: what experts, the shared expert and a dense layer
// have in common.
#pragma once

#include <cstdint>
#include <span>

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
};

/// The groups of a call, in `scratch`: with `shared` the shared expert first, of every token, then
/// the experts that have rows. Their buffer rows lie in the order of the sorted rows, those of the
/// shared expert behind them. Takes ExpertGroupsBytes at most.
std::span<const ExpertGroup> MakeExpertGroups(const MoeArgs& args, const ExpertRows& rows,
                                              bool shared, Arena& scratch);
uint64_t ExpertGroupsBytes(int64_t experts);

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
  bool prefetch = true;                     // as in PanelProduct
  int64_t tile_panels =
      0;  // of one product, so that rows are packed anew for so many; 0: any number
};

/// Stored bytes of some panels, scales included.
int64_t WeightBytes(const PackedMatrix& weight, int64_t panel_begin, int64_t panel_end);

/// One lane's share of the first phase alone: gate, up and activation, to `intermediate`; `next` is
/// what the lane multiplies afterwards, or none.
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
