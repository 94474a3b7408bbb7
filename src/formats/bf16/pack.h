// bfloat16 weights into panels.
#pragma once

#include "tensor/dtype.h"
#include "tensor/view.h"

namespace sluice {

/// Writes checkpoint rows to outputs [output_begin, output_begin + rows.dim(0)) of `panels`, each
/// of `panel_elements` elements and 64-byte aligned. Floats are rounded to bfloat16.
void PackBf16(Bf16* panels, int64_t panel_elements, int64_t output_begin, View<const Bf16, 2> rows);
void PackBf16(Bf16* panels, int64_t panel_elements, int64_t output_begin,
              View<const float, 2> rows);

}  // namespace sluice
