// fp8 codes into panels.
#pragma once

#include "tensor/dtype.h"
#include "tensor/view.h"

namespace sluice {

/// As PackBf16, of e4m3 codes. The codes are not looked at: whoever reads a file refuses NaNs.
void PackFp8(uint8_t* panels, int64_t panel_elements, int64_t output_begin,
             View<const uint8_t, 2> rows);

/// Rows of floats, quantised as QuantizeFp8Channel defines; scales[o] becomes the scale of output
/// o.
void QuantizePackFp8(uint8_t* panels, int64_t panel_elements, float* scales, int64_t output_begin,
                     View<const float, 2> rows);
void QuantizePackFp8(uint8_t* panels, int64_t panel_elements, float* scales, int64_t output_begin,
                     View<const Bf16, 2> rows);

}  // namespace sluice
