// int4 codes into panels of [inputs / 8][32 outputs][4] bytes, two codes in each.
#pragma once

#include "tensor/view.h"

namespace sluice {

/// Writes checkpoint rows of codes, a byte each, to outputs [output_begin, output_begin +
/// rows.dim(0)) of `panels`, each of `panel_bytes` and 64-byte aligned. Leaves padded inputs alone
/// (FillInt4Padding).
void PackInt4(uint8_t* panels, int64_t panel_bytes, int64_t output_begin,
              View<const uint8_t, 2> rows);

/// Sets inputs from `inputs` on to `zero` in the panels' row of `output`.
void FillInt4Padding(uint8_t* panels, int64_t panel_bytes, int64_t output, int64_t inputs,
                     uint8_t zero);

}  // namespace sluice
