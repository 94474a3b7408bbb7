// The fused back end: routing result in, output rows out, nothing of size tokens x top_k x hidden
// between. Design, cost model and figures: docs/fused-moe.md.
#pragma once

#include "kernels/linear/panel_product.h"
#include "kernels/moe/moe.h"

namespace sluice {

/// One call of the team, two phases. Gate and up of the shared expert and of all active experts,
/// cut evenly over the lanes along all their columns; a barrier; then every lane makes its own
/// columns of the output: it adds the down products of all experts to sums that stay in its caches,
/// in ascending order of the experts, then the shared expert, and writes each output once. `kernel`
/// multiplies, and `integers`, if any, where rows are quantised. Shapes are checked and tokens > 0.
/// `ablation` counts, not that of `args`.
void FusedV2(const MoeArgs& args, const MoeAblation& ablation, const PanelKernel& kernel,
             const IntegerKernel* integers, Exec& exec);

/// Scratch that a call may take; arguments as MoeScratchBytes.
uint64_t FusedV2ScratchBytes(int64_t tokens, int64_t top_k, int64_t hidden, int64_t intermediate,
                             int64_t experts, bool residency);

}  // namespace sluice
