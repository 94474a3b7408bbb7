// Where an element of a panel is, by the order of its format.
#pragma once

#include <cstdint>

#include "formats/weight_format.h"

namespace sluice {

/// Offset, in elements, of an output's input in panels of `panel_elements` in the order of pairs
/// (bf16, fp8).
inline int64_t PanelElement(int64_t panel_elements, int64_t output, int64_t input) {
  return output / kPanelOutputs * panel_elements + input / 2 * (2 * kPanelOutputs) +
         output % kPanelOutputs * 2 + input % 2;
}

/// Offset, in bytes, of an output's input in panels of `panel_bytes` in the order of int8: four
/// inputs of an output side by side.
inline int64_t PanelQuadByte(int64_t panel_bytes, int64_t output, int64_t input) {
  return output / kPanelOutputs * panel_bytes + input / 4 * (4 * kPanelOutputs) +
         output % kPanelOutputs * 4 + input % 4;
}

/// The same of int4: inputs 8b to 8b + 3 of an output are the low nibbles of its four bytes of
/// block b, 8b + 4 to 8b + 7 the high ones. The nibble begins at bit PanelNibbleShift(input).
inline int64_t PanelNibbleByte(int64_t panel_bytes, int64_t output, int64_t input) {
  return output / kPanelOutputs * panel_bytes + input / 8 * (4 * kPanelOutputs) +
         output % kPanelOutputs * 4 + input % 4;
}
inline int PanelNibbleShift(int64_t input) { return input % 8 < 4 ? 0 : 4; }

}  // namespace sluice
