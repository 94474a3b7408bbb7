// int8 codes into panels of [inputs / 4][32 outputs][4] bytes.
#pragma once

#include "tensor/view.h"

namespace sluice {

/// Writes checkpoint rows to outputs [output_begin, output_begin + rows.dim(0)) of `panels`, each
/// of `panel_bytes` and 64-byte aligned.
void PackInt8(uint8_t* panels, int64_t panel_bytes, int64_t output_begin,
              View<const uint8_t, 2> rows);

}  // namespace sluice
