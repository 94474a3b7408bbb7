// Weights of every format for the benches, made up fast: from codes where the format has them.
#pragma once

#include <string>
#include <vector>

#include "base/random.h"
#include "cli/bench/layers.h"
#include "formats/packed_matrix.h"
#include "kernels/linear/activation_quant.h"
#include "kernels/moe/moe.h"

namespace sluice {

/// A format of weights, and how products read the rows that meet it.
struct BenchFormat {
  std::string name;  // "int4", or "int4, int8 rows"
  WeightLayout layout;
  ActivationQuant activations;  // kNone where the layout is none of integers
};

/// Every format with every quantisation of rows that makes a difference. Formats: "bf16", "fp8"
/// (e4m3, one scale an output), "fp8_block" (one a block of 128 x 128), "int8", "int4" (groups of
/// `options.group_size`, perhaps with zero points). Errors: kInvalidArgument.
Result<std::vector<BenchFormat>> ReadFormats(const BenchLayerOptions& options);

/// Fills matrices with `outputs` rows of `inputs` weights, or the other way round, or fewer.
class RandomWeights {
 public:
  RandomWeights(WeightLayout layout, int64_t outputs, int64_t inputs, SplitMix64& random);

  /// Outputs [begin, end) of a matrix of the layout, all alike.
  void FillAlike(PackedMatrix& weight, int64_t begin, int64_t end) const;
  void Fill(ExpertWeights& expert) const;

 private:
  template <class T>
  static View<const T, 2> Matrix(const std::vector<T>& from, int64_t rows, int64_t columns) {
    return {from.data(), {rows, columns}};
  }
  View<const float, 2> Scales(int64_t outputs, int64_t inputs) const;
  int64_t OutputsPerScale() const;

  WeightLayout layout_;
  std::vector<float> values_, scales_;
  std::vector<uint8_t> codes_;
};

}  // namespace sluice
