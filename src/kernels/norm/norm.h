// Root-mean-square norms, with the neighbours that they are always called with.
#pragma once

#include "tensor/exec.h"
#include "tensor/view.h"

namespace sluice {

/// y = round( x * (1 / sqrt(mean(x^2) + eps) * weight) ), statistics in fp32 over the last
/// dimension, per row and head. y may be x.
struct RmsNormArgs {
  View<const float, 3> x;  // [rows, heads, width]; heads = 1 for a whole row
  const float* weight;     // [width], shared by the heads
  float eps;
  Rounding rounding;
  View<float, 3> y;  // [rows, heads, width]
};
void RmsNorm(const RmsNormArgs& args, Exec& exec);

/// residual = round(residual + delta); y = RmsNorm(residual). The residual stream between blocks.
struct AddRmsNormArgs {
  View<float, 2> residual;     // [rows, width], in and out
  View<const float, 2> delta;  // [rows, width]
  const float* weight;         // [width]
  float eps;
  Rounding rounding;
  View<float, 2> y;  // [rows, width]
};
void AddRmsNorm(const AddRmsNormArgs& args, Exec& exec);

/// sum = residual + RmsNorm(delta) with delta_weight, which is rounded; residual = round(sum);
/// y = RmsNorm(sum), of the sum before its rounding. The residual stream of models that norm both
/// ends of a block (Grok-2).
struct SandwichNormArgs {
  View<float, 2> residual;     // [rows, width], in and out
  View<const float, 2> delta;  // [rows, width]
  const float* delta_weight;   // [width]
  const float* weight;         // [width]
  float eps;                   // of both norms
  Rounding rounding;
  View<float, 2> y;  // [rows, width]; overlaps no input
};
void SandwichNorm(const SandwichNormArgs& args, Exec& exec);

/// The output of linear attention: o = round(x); each of `groups` equal parts of the row is
/// RMS-normed by its own mean (weight per element) and rounded; then
/// y = round( o * round(sigmoid(gate)) ). y may be x.
struct GatedGroupNormArgs {
  View<const float, 2> x;     // [rows, width], unrounded
  View<const float, 2> gate;  // [rows, width], before the sigmoid
  const float* weight;        // [width]
  int groups;                 // divides width
  float eps;
  Rounding rounding;
  View<float, 2> y;  // [rows, width]
};
void GatedGroupNorm(const GatedGroupNormArgs& args, Exec& exec);

std::vector<Variant<RmsNormArgs>> RmsNormVariants();
std::vector<Variant<AddRmsNormArgs>> AddRmsNormVariants();
std::vector<Variant<SandwichNormArgs>> SandwichNormVariants();
std::vector<Variant<GatedGroupNormArgs>> GatedGroupNormVariants();

}  // namespace sluice
