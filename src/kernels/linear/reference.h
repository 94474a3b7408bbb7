// The definition of the dense product.
#pragma once

#include "kernels/linear/linear.h"

namespace sluice {

/// In double precision and plain loops, on the calling thread.
void LinearReference(const LinearArgs& args, Exec& exec);

}  // namespace sluice
