// Block sizes of products: each kernel's formula, or what was measured to be faster on a shape.
// None of them changes a bit of a result: never the order of a sum, nor the instruction.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "formats/weight_format.h"
#include "kernels/linear/activation_quant.h"

namespace sluice {

/// Of a product of many rows; 0 (or -1) leaves a size to the formula, and what a kernel's scratch
/// memory does not hold is cut down to what it does.
struct BlockSizes {
  int32_t rows = 0;            // of x that are packed together
  int32_t inputs = 0;          // rows of up to so many are packed whole, longer ones by the slice;
                               //   quantised ones always whole: inputs of a slice
  int32_t panels = 0;          // whose sums are held at a time
  int32_t direct_blocks = -1;  // so many register blocks decode weights on their way; more: once
  int32_t block_rows = 0;      // of a register block; of products of quantised rows alone
  bool prefetch = true;        // the next panel's slice is fetched while this one is multiplied
  bool operator==(const BlockSizes&) const = default;
};

/// A measured line: where it holds, and the sizes. Ranges are [min, max).
struct BlockSizesEntry {
  std::string_view kernel;  // PanelKernel::name, or, where rows are quantised, IntegerKernel::name
  WeightFormat format;
  ActivationQuant activations;  // of the product, if its weights are integers
  int lanes;                    // of the team, at least
  int64_t rows_min, rows_max;
  int64_t inputs_min, inputs_max;
  BlockSizes sizes;
};

/// The table compiled in (block_sizes_table.inc): made by `sluice bench moe|linear --tune`.
std::span<const BlockSizesEntry> MeasuredBlockSizes();

/// The first line of `table` that holds, or null: the formula.
const BlockSizes* FindBlockSizes(std::span<const BlockSizesEntry> table, std::string_view kernel,
                                 WeightFormat format, ActivationQuant activations, int lanes,
                                 int64_t rows, int64_t inputs);

/// While one lives, every product takes its sizes: for the tuner and for tests. No product may run
/// when it begins or ends.
class ForcedBlockSizes {
 public:
  explicit ForcedBlockSizes(const BlockSizes& sizes);
  ~ForcedBlockSizes();
  ForcedBlockSizes(const ForcedBlockSizes&) = delete;
  ForcedBlockSizes& operator=(const ForcedBlockSizes&) = delete;

  /// Those of the living one, or null.
  static const BlockSizes* Now();

 private:
  BlockSizes sizes_;
};

}  // namespace sluice
