// The order in which checkpoint rows are packed, common to the formats.
#pragma once

#include <algorithm>
#include <cstdint>

#include "formats/weight_format.h"

namespace sluice {

/// Outputs that one vector transpose handles, and inputs (eight pairs of each).
inline constexpr int64_t kPackOutputs = 8;
inline constexpr int64_t kPackInputs = 16;

/// Inputs between two visits of the same lines of a panel, which stay in L2 in the meantime. Longer
/// pieces of a row suit the prefetcher: with the prefetch below, packing bf16 moves 0.5 to 0.7
/// times what memcpy does on a Zen 5 core; chunks of 256 without it 0.45.
inline constexpr int64_t kPackChunkInputs = 1024;

/// How far ahead each of eight rows is fetched: as many streams are too many for the hardware.
inline constexpr int64_t kPackPrefetchBytes = 1024;

/// Covers rows [0, rows) of a matrix, which become outputs from `output_begin` on:
///   block(row, output, begin, end)  rows [row, row + 8), of one panel; inputs [begin, end), whole
///                                   multiples of `unit` (which divides kPackChunkInputs)
///   rest(row, output, begin, end)   the same of one row, any inputs
/// A row's pieces come in the order of their inputs.
template <class Block, class Rest>
void ForEachPanelPiece(int64_t output_begin, int64_t rows, int64_t inputs, Block&& block,
                       Rest&& rest, int64_t unit = kPackInputs) {
  const int64_t whole = inputs / unit * unit;
  int64_t count;
  for (int64_t r = 0; r < rows; r += count) {
    const int64_t output = output_begin + r;
    count = std::min(kPanelOutputs - output % kPanelOutputs, rows - r);
    // Within a panel: chunks of inputs, and of these eight outputs at a time.
    const int64_t blocks = output % kPackOutputs == 0 ? count / kPackOutputs : 0;
    for (int64_t i = 0; i < whole; i += kPackChunkInputs)
      for (int64_t b = 0; b < blocks; ++b)
        block(r + b * kPackOutputs, output + b * kPackOutputs, i,
              std::min(i + kPackChunkInputs, whole));
    for (int64_t j = 0; j < count; ++j)
      rest(r + j, output + j, j < blocks * kPackOutputs ? whole : 0, inputs);
  }
}

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
