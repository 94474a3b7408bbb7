// `--tune`: block sizes of products measured against the kernels' own, pair by pair.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "kernels/linear/block_sizes.h"

namespace sluice {

struct TuneTask {
  std::string label;   // of the work, for the report
  const char* kernel;  // as in BlockSizesEntry
  WeightFormat format;
  ActivationQuant activations;
  int lanes;
  int64_t rows;                    // of a typical product
  int64_t inputs_min, inputs_max;  // of the products
  std::function<void()> prepare;   // before every pair of runs
  std::function<void()> run;       // the work that is timed
};

/// Sizes worth a try for a format and rows read so: each differs from the formula in one thing.
std::vector<BlockSizes> BlockSizesToTry(WeightFormat format, ActivationQuant activations);

/// `base` with what `change` changes.
BlockSizes Merged(BlockSizes base, const BlockSizes& change);

/// Whether a candidate won: by 3 % in the median of the paired times (its own / the formula's), and
/// in all pairs but one of nine.
bool Wins(const std::vector<double>& ratios);

/// "{"avx512", ...}, // ...": a line of block_sizes_table.inc. Rows and inputs hold for their whole
/// powers of two.
std::string TableLine(const TuneTask& task, const BlockSizes& sizes, double ratio,
                      const std::string& machine);

/// Prints every candidate, and those that win together (each has to win twice); returns the line to
/// keep, or an empty one: the formula stays.
std::string TuneBlockSizes(const TuneTask& task);

}  // namespace sluice
