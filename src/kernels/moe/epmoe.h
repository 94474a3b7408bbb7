// The plain back end: each stage is a pass over all rows. The baseline, and the easiest to read.
#pragma once

#include "kernels/linear/panel_product.h"
#include "kernels/moe/moe.h"

namespace sluice {

/// Sorts the rows by expert; gate and up of all experts (rows gathered as they are packed,
/// activation and product in the epilogue) into an intermediate buffer; down of all experts into an
/// output buffer; combines in token order. `kernel` multiplies, and `integers`, if any, where rows
/// are quantised. Shapes are checked and tokens > 0.
void Epmoe(const MoeArgs& args, const PanelKernel& kernel, const IntegerKernel* integers,
           Exec& exec);

/// Scratch that a call may take; arguments as MoeScratchBytes.
uint64_t EpmoeScratchBytes(int64_t tokens, int64_t top_k, int64_t hidden, int64_t intermediate,
                           int64_t experts);

}  // namespace sluice
