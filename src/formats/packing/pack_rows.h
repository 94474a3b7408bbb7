// Checkpoint rows into panels: one loop for every format. The values it follows bit for bit are
// those of the quantisers (int4/quantize.h and its like).
#pragma once

#include "formats/int4/panels.h"
#include "formats/packing/kernels.h"
#include "tensor/view.h"

namespace sluice {

/// The memory of a packed matrix.
struct PackTarget {
  WeightFormat format;
  std::byte* panels;  // 64-byte aligned
  int64_t panel_bytes;
  float* scales;    // fp8, int8: one an output
  Int4Panels int4;  // int4
};

/// Writes rows to outputs [output_begin, output_begin + rows.dim(0)). Values of int8, int4 and fp8
/// become codes with scales; then they are finite, or the codes and scales of their row are any.
/// Codes are not looked at, but int4's are at most 15.
void PackRows(const PackTarget& to, int64_t output_begin, View<const Bf16, 2> rows,
              const PackKernels& kernels);
void PackRows(const PackTarget& to, int64_t output_begin, View<const float, 2> rows,
              const PackKernels& kernels);
void PackRows(const PackTarget& to, int64_t output_begin, View<const uint8_t, 2> rows,
              const PackKernels& kernels);

/// The fastest ones here.
const PackKernels& BestPackKernels();

}  // namespace sluice
