// int8 weights from floats: the definition that packing at load follows bit for bit.
#pragma once

#include <cstdint>
#include <vector>

#include "tensor/view.h"

namespace sluice {

inline constexpr float kInt8Max = 127;

/// What the codes of a row are multiplied by: its largest magnitude / 127; 0 for a row of zeros.
float Int8Scale(float largest_magnitude);

/// The integer nearest to w / scale (an fp32 quotient), ties to even, in [-127, 127]; 0 where the
/// scale is 0. So |w - scale * code| <= scale / 2, but for the rounding of the quotient.
int8_t Int8Code(float w, float scale);

/// A [rows, columns] matrix as codes and a scale a row: w is about code * scale.
struct Int8Quantized {
  std::vector<int8_t> codes;  // [rows, columns]
  std::vector<float> scales;  // [rows, 1]
  int64_t rows, columns;

  View<const uint8_t, 2> Codes() const {  // their bits
    return {reinterpret_cast<const uint8_t*>(codes.data()), {rows, columns}};
  }
  View<const float, 2> Scales() const { return {scales.data(), {rows, 1}}; }
};

/// Finite values only: whoever reads a file refuses others.
Int8Quantized QuantizeInt8(View<const float, 2> w);

}  // namespace sluice
