// int8 codes into panels of [inputs / 4][32 outputs][4] bytes.
#pragma once

#include "tensor/dtype.h"
#include "tensor/view.h"

namespace sluice {

/// Writes checkpoint rows to outputs [output_begin, output_begin + rows.dim(0)) of `panels`, each
/// of `panel_bytes` and 64-byte aligned.
void PackInt8(uint8_t* panels, int64_t panel_bytes, int64_t output_begin,
              View<const uint8_t, 2> rows);

/// The same of floats, quantised as QuantizeInt8 defines; scales[o] becomes the scale of output o.
void QuantizePackInt8(uint8_t* panels, int64_t panel_bytes, float* scales, int64_t output_begin,
                      View<const float, 2> rows);
void QuantizePackInt8(uint8_t* panels, int64_t panel_bytes, float* scales, int64_t output_begin,
                      View<const Bf16, 2> rows);

}  // namespace sluice
