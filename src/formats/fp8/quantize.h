// fp8 weights from floats, the way checkpoints are made: for dummy weights, tests and benches.
#pragma once

#include <cstdint>
#include <vector>

#include "tensor/view.h"

namespace sluice {

/// A [rows, columns] matrix as codes and scales: w is about E4M3ToFloat(code) * scale.
struct Fp8Quantized {
  std::vector<uint8_t> codes;  // [rows, columns]
  std::vector<float> scales;   // [ceil(rows / scale_rows), ceil(columns / scale_columns)]
  int64_t rows, columns;
  int64_t scale_rows, scale_columns;  // of the elements that share a scale

  View<const uint8_t, 2> Codes() const { return {codes.data(), {rows, columns}}; }
  View<const float, 2> Scales() const {
    return {scales.data(),
            {(rows + scale_rows - 1) / scale_rows, (columns + scale_columns - 1) / scale_columns}};
  }
};

/// Blocks of `scale_rows` x `scale_columns` share a scale = (largest magnitude) / 448; one row and
/// all columns: "channel". A code is the nearest one to w / scale (to w, where the scale is zero).
Fp8Quantized QuantizeFp8(View<const float, 2> w, int64_t scale_rows, int64_t scale_columns);
Fp8Quantized QuantizeFp8Channel(View<const float, 2> w);
Fp8Quantized QuantizeFp8Block(View<const float, 2> w);  // 128 x 128

}  // namespace sluice
