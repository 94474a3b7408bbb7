// The definition of Element::kFp8: MoeReference with rows of x and of the intermediate quantised.
#pragma once

#include "kernels/moe/moe.h"

namespace sluice::moe_sm90 {

/// As MoeReference with Rounding::kBf16, but each row r of x, and of act(gate) * up, is replaced by
/// code(r * (448 / m)) * (m / 448), m the row's largest magnitude (at least 1e-30), in fp32; the
/// codes are e4m3, to nearest, ties to even.
void QuantizedMoeReference(const MoeArgs& args);

}  // namespace sluice::moe_sm90
