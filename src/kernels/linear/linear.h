// Dense products with packed weights.
#pragma once

#include "formats/packed_matrix.h"
#include "kernels/linear/activation_quant.h"
#include "tensor/exec.h"
#include "tensor/view.h"

namespace sluice {

/// y[t, o] = round( sum_i x[t, i] * w[o, i] + bias[o] ), accumulated in fp32. Weights with scales:
/// sum_b scale[o, b] * (sum over the inputs i of b of x[t, i] * code[o, i]), b in order.
/// A row's bits depend on that row of x only: the order of the sum is fixed per variant, whatever
/// the number of rows, lanes or neighbours.
struct LinearArgs {
  View<const float, 2> x;       // [rows, inputs]; under Rounding::kBf16 its values are bfloat16s
  const PackedMatrix* weight;   // [outputs, inputs]
  const float* bias = nullptr;  // [outputs] or none
  Rounding rounding;            // of y; kNone keeps fp32 sums (router logits, lm_head)
  bool bf16_inputs;  // x holds bfloat16 values only, so a bf16 product (AMX, vdpbf16ps) is exact
  ActivationQuant activations = ActivationQuant::kNone;  // how rows are read (integer weights)
  View<float, 2> y;                                      // [rows, outputs]; overlaps no input
};

/// By the fastest variant for `exec.machine`; splits the outputs over the team's lanes.
/// Errors: none; the model fixed the shapes at load, so they are CHECKed.
void Linear(const LinearArgs& args, Exec& exec);

/// Every variant, best first; the last row is the double-precision reference.
std::vector<Variant<LinearArgs>> LinearVariants();

}  // namespace sluice
