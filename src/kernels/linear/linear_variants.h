// The pieces of Linear that its variants and tests share.
#pragma once

#include "kernels/linear/integer/integer_kernel.h"
#include "kernels/linear/linear.h"
#include "kernels/linear/panel_product.h"

namespace sluice {

/// The definition: double precision and plain loops, on the calling thread.
void LinearReference(const LinearArgs& args, Exec& exec);

/// Splits the outputs (or the rows, where outputs are few and rows many) over the lanes.
/// Quantised rows (args.activations) go through `integers`.
void LinearWith(const PanelKernel& kernel, const IntegerKernel* integers, const LinearArgs& args,
                Exec& exec);

}  // namespace sluice
