// int4 weights from floats: the definition that packing at load follows bit for bit.
#pragma once

#include <cstdint>
#include <vector>

#include "tensor/dtype.h"
#include "tensor/view.h"

namespace sluice {

inline constexpr int kInt4Max = 15;
/// The code that stands for zero in a matrix without zero points.
inline constexpr uint8_t kInt4Zero = 8;

/// What the codes q of one output's group of inputs mean: scale * (q - zero).
struct Int4Group {
  Bf16 scale;
  uint8_t zero;
};

/// The finest scale that holds a group whose values lie in [smallest, largest] (and zero) within
/// half a step, rounded to bfloat16 away from zero so that this stays so.
///
/// Symmetric: 8 steps reach to one side of zero, 7 to the other. The side of the larger magnitude
/// has the 8, by the sign of the scale; the other one needs 7.5 (the last half step is the rounding
/// of the last code). So scale = max(larger / 8, other / 7.5): where only one side is far from
/// zero, an eighth finer than the usual largest magnitude / 7, and never coarser than that. With
/// zero points: 15 steps for the whole range, and zero is the code nearest to it.
Int4Group ChooseInt4Group(float smallest, float largest, bool zero_points);

/// The code nearest to w (by the fp32 quotient w / scale, ties to even); the zero code where the
/// scale is 0.
uint8_t Int4Code(float w, Int4Group group);

/// A [rows, columns] matrix as codes and, for every row and `group` columns (the last ones of a row
/// perhaps fewer), a scale and, if asked for, a zero point.
struct Int4Quantized {
  std::vector<uint8_t> codes;        // [rows, columns]
  std::vector<float> scales;         // [rows, groups]; bfloat16 values
  std::vector<uint8_t> zero_points;  // [rows, groups] or empty
  int64_t rows, columns, groups;

  View<const uint8_t, 2> Codes() const { return {codes.data(), {rows, columns}}; }
  View<const float, 2> Scales() const { return {scales.data(), {rows, groups}}; }
  View<const uint8_t, 2> ZeroPoints() const { return {zero_points.data(), {rows, groups}}; }
};

/// Finite values only: whoever reads a file refuses others.
Int4Quantized QuantizeInt4(View<const float, 2> w, int64_t group, bool zero_points);

}  // namespace sluice
