// Weight tables: a model family states every tensor it wants as a row, and this runs the table over
// a checkpoint (or over generated numbers): one check that reports everything wrong at once before
// a byte of data is read, then a parallel load that hands each tensor to its row.
//
// A quantised format needs little here: a matrix and its scale are two rows. Whoever builds the
// table looks at the source's dtype for a name (WeightSource::Find), states the dtypes and shapes
// that suit, and has scales placed before everything else.
#pragma once

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "base/team.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/quantization.h"
#include "tensor/dtype.h"

namespace sluice {

/// A tensor's bytes, for the length of one call. Dense and row-major; `data` is aligned to the
/// dtype's size and must be read by the calling thread only (a file that shrinks under the mapping
/// is noticed per thread); whoever wants the values later copies them.
struct TensorData {
  const std::string& name;  // as the checkpoint spells it; the row's own name for dummy weights
  DType dtype;
  std::span<const int64_t> shape;
  const std::byte* data;

  int64_t count() const;  // elements
  int64_t bytes() const { return count() * DTypeBytes(dtype); }

  template <class T>
  const T* As() const {
    return reinterpret_cast<const T*>(data);
  }

  /// Elements [begin, begin + count) as floats, for BF16, F16, F32 and F8_E4M3 (the code's value,
  /// no scale). A caller with another dtype has a wrong `dtypes` in its row: CHECKed.
  void ToFloat(int64_t begin, int64_t count, float* out) const;

  /// The same, rounded to bfloat16 (exact copies where the file holds BF16).
  void ToBf16(int64_t begin, int64_t count, Bf16* out) const;
};

/// A set of element types.
class DTypes {
 public:
  constexpr DTypes(std::initializer_list<DType> list) {
    for (DType dtype : list) bits_ |= 1u << static_cast<unsigned>(dtype);
  }
  constexpr bool Has(DType dtype) const { return bits_ >> static_cast<unsigned>(dtype) & 1u; }
  constexpr bool operator==(const DTypes&) const = default;
  std::string Names() const;  // "F32, BF16, F16"

 private:
  uint32_t bits_ = 0;
};

constexpr DTypes kFloatDTypes = {DType::kBf16, DType::kF32, DType::kF16};

/// What --load-format dummy puts into a tensor.
struct DummyInit {
  enum class Kind { kNormal, kConstant };
  Kind kind = Kind::kNormal;
  float value = 0.02f;  // the standard deviation (mean 0), or the constant

  static constexpr DummyInit Normal(float std) { return {Kind::kNormal, std}; }
  static constexpr DummyInit Constant(float value) { return {Kind::kConstant, value}; }
  static constexpr DummyInit Ones() { return Constant(1); }
  static constexpr DummyInit Zeros() { return Constant(0); }
};

/// One tensor that a model wants.
struct WeightRow {
  std::string name;                                     // as the checkpoint spells it
  std::vector<std::string> aliases;                     // other spellings of the same tensor
  std::vector<int64_t> shape;                           // expected, exactly
  std::vector<std::vector<int64_t>> other_shapes = {};  // or one of these
  int piece_axis = -1;   // >= 0: may be in pieces along this axis (Checkpoint)
  bool required = true;  // an optional row is loaded whenever the file has it;
                         // dummy weights have the required rows only
  DummyInit dummy;
  DTypes dtypes = kFloatDTypes;  // accepted; dummy weights are F8_E4M3 where that is accepted and
                                 // the source's QuantizationConfig says so, BF16 if that is
                                 // accepted, otherwise F32
  bool early = false;            // placed before every row that is not
  std::string note = {};         // what a report adds if the tensor is missing
  /// Called once, from any lane, while other rows are placed on other lanes. An error ends the
  /// load and is returned with the tensor's name and file in front.
  std::function<Status(const TensorData&)> place;

  bool AcceptsShape(std::span<const int64_t> found) const;
};

/// The whole tensor that `pieces` make along row.piece_axis: dtype and file of the first, begin and
/// end only for the bytes they add up to. The first piece as it is if they do not fit together.
TensorInfo JoinPieces(const WeightRow& row, std::span<const TensorInfo> pieces);

/// True for tensors that the model knowingly leaves aside ("rotary_emb.inv_freq", MTP layers).
using IgnoreName = std::function<bool(std::string_view name)>;

/// Where weights come from.
class WeightSource {
 public:
  virtual ~WeightSource() = default;

  /// The tensor that would fill `row`, with its dtype and shape; none if the source lacks it. Looks
  /// at the row's name and aliases (and, for dummy weights, at shape, dtypes and `required`).
  virtual std::optional<TensorInfo> Find(const WeightRow& row) const = 0;
  bool Has(const WeightRow& row) const { return Find(row).has_value(); }

  /// Compares the whole table with what is there; reads no data. See CheckWeights.
  virtual Status Check(std::span<const WeightRow> rows, const IgnoreName& ignore) const = 0;

  /// Gives the tensor of `row` to `place`, on the calling thread. Thread-safe; `scratch` belongs to
  /// the calling lane and is grown as needed.
  virtual Status Visit(const WeightRow& row, std::vector<std::byte>& scratch,
                       const std::function<Status(const TensorData&)>& place) const = 0;

  /// After the last Visit: OK if nothing changed underneath meanwhile.
  virtual Status Finish() const = 0;
};

/// Tensors of a checkpoint, which must outlive the source.
std::unique_ptr<WeightSource> CheckpointSource(const Checkpoint& checkpoint);

/// Seeded random weights. A value is a pure function of (seed, row name, element index), whatever
/// the order and the number of threads. `quantization`: which matrices are fp8.
std::unique_ptr<WeightSource> DummySource(
    uint64_t seed, std::optional<QuantizationConfig> quantization = std::nullopt);

/// Everything by which a checkpoint differs from a table.
struct WeightReport {
  std::vector<std::string> missing;    // required rows without a tensor: name and shape
  std::vector<std::string> surplus;    // tensors that no row wants and `ignore` does not name
  std::vector<std::string> misshapen;  // "name is [4, 8], expected [8, 4]"
  std::vector<std::string> pieces;     // "name: FILE lacks its piece of 8" and the like
  std::vector<std::string> mistyped;   // "name is I8, accepted are BF16, F32, F16"

  bool ok() const;
  /// kBadCheckpoint with counts and the first 20 of each kind, one a line.
  Status ToStatus(const std::string& path) const;
};

WeightReport CompareWeights(const Checkpoint& checkpoint, std::span<const WeightRow> rows,
                            const IgnoreName& ignore);

/// CompareWeights as a Status: all that is missing, surplus, misshapen or of a wrong dtype at once.
Status CheckWeights(const Checkpoint& checkpoint, std::span<const WeightRow> rows,
                    const IgnoreName& ignore);

struct LoadOptions {
  /// Refuse NaN and infinite values, naming tensor and element. Reads each tensor twice.
  bool refuse_non_finite = true;
  /// Bytes placed so far and in all: about ten times a second from a thread of its own while the
  /// load runs, and after it with done == total.
  std::function<void(uint64_t bytes_done, uint64_t bytes_total)> progress = nullptr;
};

/// Places every row that the source has, early ones first, then by size, on all lanes of `team`.
/// Call Check first: here a required row without a tensor, or one of another shape or dtype, ends
/// the load at once. Errors: kBadCheckpoint (a file shrank, changed or could not be read while it
/// was loaded: path and offset; non-finite values: tensor and element), kOutOfMemory, and what
/// `place` returns.
Status LoadWeights(const WeightSource& source, std::span<const WeightRow> rows, Team& team,
                   const LoadOptions& options = {});

}  // namespace sluice
