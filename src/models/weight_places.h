// Builds a family's weight table: each row says which tensor, and where its values go once loaded.
// Memory is allocated only after the whole table has been checked, so places are two steps: the
// rows, and the allocations that must happen before them.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "checkpoint/weights.h"
#include "models/stored_matrix.h"

namespace sluice {

/// What a checkpoint calls the three matrices of a gated feed-forward block, after its prefix.
struct ExpertNames {
  std::string gate = "gate_proj.weight";
  std::string up = "up_proj.weight";
  std::string down = "down_proj.weight";
  bool in_pieces = false;  // a checkpoint may cut the intermediate width (WeightRow::piece_axis)
};

/// How many matrices of a checkpoint are stored in which way.
struct StoredCounts {
  int64_t floats = 0;  // bf16, fp16 or fp32: bf16 in memory
  int64_t fp8_channel = 0, fp8_block = 0, fp8_tensor = 0;
  int64_t dequantized = 0;  // of the fp8 ones: bf16 (or fp32) in memory
  int64_t quantized = 0;    // of the floats: quantised as they load, to `quantized_to`
  WeightLayout quantized_to = {};

  int64_t fp8() const { return fp8_channel + fp8_block + fp8_tensor; }
  /// "40 bf16, 120 fp8 with a scale a row (10 of them dequantised)",
  /// "160 bf16 (120 of them quantised to int4, groups of 64)".
  std::string Text() const;
};

/// The table of one model. Targets are kept by pointer and must not move until the load ends.
///
/// A family says which matrices it wants; how they are stored (bf16, or fp8 with scales) it need
/// not know. ChooseFormats finds that out from a source and completes rows and sizes: fp8 matrices
/// stay fp8, but for the two forms of kv_b, for router gates, and for matrices that are held as one
/// (q|k|v, the experts of a layer) while their parts are stored in different ways.
class WeightPlaces {
 public:
  /// A vector of floats, exactly as stored (norms, biases). dummy: ones.
  void Vector(std::string name, int64_t size, std::vector<float>* target);
  /// A bias: zeros as dummy; without `required` it is loaded if the file has it, at
  /// target[begin ...] of a vector of `total` zeros.
  void Bias(std::string name, int64_t size, bool required, std::vector<float>* target,
            int64_t begin, int64_t total);
  /// A small matrix [rows, columns] kept as fp32 (router gates).
  void FloatMatrix(std::string name, int64_t rows, int64_t columns, std::vector<float>* target);
  /// Rows [begin, begin + outputs) of a packed matrix [total_outputs, inputs]. The first call for a
  /// target allocates it. `aliases`: other names of the tensor.
  void Matrix(std::string name, int64_t outputs, int64_t inputs, PackedMatrix* target,
              int64_t begin, int64_t total_outputs, std::vector<std::string> aliases = {});
  /// Matrix of the whole target that is never quantised as it loads: the head.
  void HeadMatrix(std::string name, int64_t outputs, int64_t inputs, PackedMatrix* target);
  /// Gate, up and down of one expert; `prefix` ends with ".".
  void Expert(const std::string& prefix, const ExpertNames& names, int64_t hidden,
              int64_t intermediate, ExpertWeights* target);
  /// The same of the `count` experts of a layer, which share an allocation; the prefix of the first
  /// one is `prefix` + "0.". Resizes `target` at once.
  void Experts(const std::string& prefix, const ExpertNames& names, int64_t count, int64_t hidden,
               int64_t intermediate, std::vector<ExpertWeights>* target);
  /// kv_b_proj in both forms.
  void LatentExpansion(std::string name, const MlaShape& shape, MlaWeights* target);

  /// Any other row, and the bytes that its values take in memory.
  void Row(WeightRow row, uint64_t bytes) {
    bytes_ += bytes;
    rows_.push_back(std::move(row));
  }
  /// Runs before the first tensor is placed.
  void Before(std::function<Status()> allocate) { before_.push_back(std::move(allocate)); }

  /// Chooses how each matrix is held by how `source` stores it, and adds the rows of scales. At
  /// most once, before Allocate; without it every matrix is expected as floats. `floats` is the
  /// layout for matrices that the source has as floats; quantised, it is taken by those that fp8
  /// checkpoints hold as fp8: neither by the head, nor by kv_b, nor by router gates. Returns lines
  /// for the log: where the source contradicts `config`, and what is not held as it is stored.
  std::vector<std::string> ChooseFormats(const WeightSource& source,
                                         const std::optional<QuantizationConfig>& config,
                                         WeightLayout floats = {});
  const StoredCounts& stored() const { return stored_; }

  std::vector<WeightRow>& rows() { return rows_; }
  const std::vector<WeightRow>& rows() const { return rows_; }
  Status Allocate() const;

  /// Elements of all required rows but scales.
  uint64_t parameters() const;
  /// Bytes that the placed values take, as the formats chosen so far say.
  uint64_t bytes() const;

 private:
  /// Memory that holds one or several matrices in one format.
  struct Holder {
    WeightLayout layout = {};
    bool can_be_fp8;
    bool may_quantize = true;  // as it loads, if it can be fp8
    bool is_mixed = false;     // its matrices are stored in different ways
    std::function<uint64_t(WeightLayout)> bytes;
    std::function<Status(WeightLayout)> allocate = nullptr;  // may be absent
  };
  struct Part {
    size_t row, holder;  // into rows_ and holders_
    std::shared_ptr<const MatrixSink> sink;
    StoredMatrix stored = {};
    WeightRow scale_row = {};
  };

  size_t AddHolder(Holder holder);
  WeightRow& AddPart(std::string name, int64_t outputs, int64_t inputs, size_t holder,
                     std::shared_ptr<const MatrixSink> sink);
  void AddExpertParts(const std::string& prefix, const ExpertNames& names, int64_t hidden,
                      int64_t intermediate, ExpertWeights* target, size_t holder);
  void FindFormats(const WeightSource& source, const std::optional<QuantizationConfig>& config);
  void QuantizeFloats(WeightLayout layout);
  void CountStored();
  std::vector<std::string> Differences(const std::optional<QuantizationConfig>& config) const;
  void AddScaleRows();

  std::vector<WeightRow> rows_;
  std::vector<std::function<Status()>> before_;
  std::vector<Holder> holders_;
  std::vector<Part> parts_;  // in the order of rows_
  std::unordered_map<const PackedMatrix*, size_t> holder_of_;
  StoredCounts stored_;
  uint64_t bytes_ = 0;  // outside of holders
};

}  // namespace sluice
