// int4 codes into panels of [inputs / 8][32 outputs][4] bytes, two codes in each.
#pragma once

#include "tensor/dtype.h"
#include "tensor/view.h"

namespace sluice {

/// The memory of a packed int4 matrix.
struct Int4Panels {
  uint8_t* panels;       // 64-byte aligned
  int64_t panel_bytes;   // of each
  Bf16* scales;          // [panels][blocks][32]
  uint8_t* zero_points;  // the same, or null: kInt4Zero everywhere
  int64_t blocks;        // scales that an output has
  int64_t group;         // inputs that share one

  int64_t ScaleAt(int64_t output, int64_t block) const;
  uint8_t ZeroPoint(int64_t output, int64_t block) const;
};

/// Writes checkpoint rows of codes, a byte each, to outputs [output_begin, output_begin +
/// rows.dim(0)). Padded inputs become the zero code, as ZeroPoint says.
void PackInt4(const Int4Panels& to, int64_t output_begin, View<const uint8_t, 2> rows);

/// Rows of floats, quantised as QuantizeInt4 defines: codes, scales and zero points.
void QuantizePackInt4(const Int4Panels& to, int64_t output_begin, View<const float, 2> rows);
void QuantizePackInt4(const Int4Panels& to, int64_t output_begin, View<const Bf16, 2> rows);

/// Sets inputs from `inputs` on of these outputs to their zero code.
void FillInt4Padding(const Int4Panels& to, int64_t output_begin, int64_t outputs, int64_t inputs);

}  // namespace sluice
