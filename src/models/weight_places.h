// Builds a family's weight table: each row says which tensor, and where its values go once loaded.
// Memory is allocated only after the whole table has been checked, so places are two steps: the
// rows, and the allocations that must happen before them.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "checkpoint/weights.h"
#include "formats/packed_matrix.h"
#include "kernels/mla/mla.h"
#include "kernels/moe/moe.h"

namespace sluice {

/// What a checkpoint calls the three matrices of a gated feed-forward block, after its prefix.
struct ExpertNames {
  std::string gate = "gate_proj.weight";
  std::string up = "up_proj.weight";
  std::string down = "down_proj.weight";
  bool in_pieces = false;  // a checkpoint may cut the intermediate width (WeightRow::piece_axis)
};

/// The table of one model. Targets are kept by pointer and must not move until the load ends.
class WeightPlaces {
 public:
  /// A vector of floats, exactly as stored (norms, biases). dummy: ones.
  void Vector(std::string name, int64_t size, std::vector<float>* target);
  /// A bias: zeros as dummy; without `required` it is loaded if the file has it, at
  /// target[begin ...] of a vector of `total` zeros.
  void Bias(std::string name, int64_t size, bool required, std::vector<float>* target,
            int64_t begin, int64_t total);
  /// A small fp32 matrix [rows, columns] kept as floats (router gates).
  void FloatMatrix(std::string name, int64_t rows, int64_t columns, std::vector<float>* target);
  /// Rows [begin, begin + outputs) of a packed matrix [total_outputs, inputs]. The first call for a
  /// target allocates it. `aliases`: other names of the tensor.
  void Matrix(std::string name, int64_t outputs, int64_t inputs, PackedMatrix* target, int64_t begin,
              int64_t total_outputs, std::vector<std::string> aliases = {});
  /// Gate, up and down of one expert; `prefix` ends with ".". Does not allocate (see Before).
  void Expert(const std::string& prefix, const ExpertNames& names, int64_t hidden,
              int64_t intermediate, ExpertWeights* target);
  /// kv_b_proj in both forms.
  void LatentExpansion(std::string name, const MlaShape& shape, MlaWeights* target);

  /// Any other row, and the bytes that its values take in memory.
  void Row(WeightRow row, uint64_t bytes) {
    bytes_ += bytes;
    rows_.push_back(std::move(row));
  }
  /// Runs before the first tensor is placed.
  void Before(std::function<Status()> allocate) { before_.push_back(std::move(allocate)); }

  std::vector<WeightRow>& rows() { return rows_; }
  const std::vector<WeightRow>& rows() const { return rows_; }
  Status Allocate() const;

  /// Elements of all required rows.
  uint64_t parameters() const;
  /// Bytes the placed values take: 2 an element for matrices, 4 for vectors and float matrices.
  uint64_t bytes() const { return bytes_; }

 private:
  std::vector<WeightRow> rows_;
  std::vector<std::function<Status()>> before_;
  uint64_t bytes_ = 0;
};

}  // namespace sluice
