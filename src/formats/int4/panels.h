// Panels of int4: [inputs / 8][32 outputs][4] bytes, two codes in each, and their groups.
#pragma once

#include <cstdint>

#include "tensor/dtype.h"

namespace sluice {

/// The memory of a packed int4 matrix.
struct Int4Panels {
  uint8_t* panels;       // 64-byte aligned
  int64_t panel_bytes;   // of each
  Bf16* scales;          // [panels][blocks][32], 64-byte aligned
  uint8_t* zero_points;  // the same, or null: kInt4Zero everywhere
  int64_t blocks;        // scales that an output has
  int64_t group;         // inputs that share one

  int64_t ScaleAt(int64_t output, int64_t block) const;
  uint8_t ZeroPoint(int64_t output, int64_t block) const;
};

/// Sets inputs from `inputs` on of these outputs to their zero code.
void FillInt4Padding(const Int4Panels& to, int64_t output_begin, int64_t outputs, int64_t inputs);

}  // namespace sluice
