// Weights from a checkpoint's mappings.
#include <cstring>

#include "checkpoint/safetensors.h"
#include "checkpoint/weights.h"

namespace sluice {
namespace {

class FromCheckpoint : public WeightSource {
 public:
  explicit FromCheckpoint(const Checkpoint& checkpoint) : checkpoint_(checkpoint) {}

  std::optional<TensorInfo> Find(const WeightRow& row) const override {
    const std::span<const TensorInfo> pieces = Lookup(row);
    return pieces.empty() ? std::nullopt : std::optional(JoinPieces(row, pieces));
  }

  Status Check(std::span<const WeightRow> rows, const IgnoreName& ignore) const override {
    return CheckWeights(checkpoint_, rows, ignore);
  }

  Status Visit(const WeightRow& row, std::vector<std::byte>& scratch,
               const std::function<Status(const TensorData&)>& place) const override {
    const std::span<const TensorInfo> pieces = Lookup(row);
    const auto whole = Find(row);
    if (!whole || !row.AcceptsShape(whole->shape) || !row.dtypes.Has(whole->dtype))
      return Error(Code::kBadCheckpoint, "{}: {} {} is absent or of another shape or dtype",
                   checkpoint_.directory(), row.name, FormatShape(row.shape));
    if (pieces.size() > 1) return VisitPieces(*whole, row.piece_axis, pieces, scratch, place);
    const TensorInfo& tensor = pieces[0];
    return checkpoint_.WithBytes(tensor, [&](std::span<const std::byte> bytes) {
      const std::byte* data = bytes.data();
      // The format does not align tensors; only odd files need the copy.
      if (reinterpret_cast<uintptr_t>(data) % static_cast<size_t>(DTypeBytes(tensor.dtype))) {
        if (scratch.size() < bytes.size()) scratch.resize(bytes.size());
        std::memcpy(scratch.data(), data, bytes.size());
        data = scratch.data();
      }
      return Named(checkpoint_.files()[tensor.file_idx], tensor.name,
                   place({tensor.name, tensor.dtype, tensor.shape, data}));
    });
  }

  Status Finish() const override { return checkpoint_.CheckUnchanged(); }

 private:
  std::span<const TensorInfo> Lookup(const WeightRow& row) const {
    std::span<const TensorInfo> pieces = checkpoint_.FindPieces(row.name);
    for (size_t i = 0; pieces.empty() && i < row.aliases.size(); ++i)
      pieces = checkpoint_.FindPieces(row.aliases[i]);
    return pieces;
  }

  static Status Named(const std::string& file, const std::string& tensor, Status status) {
    if (status.ok()) return status;
    return Status(status.code(),
                  fmt::format("{}: tensor {}: {}", file, Quoted(tensor), status.message()),
                  status.param());
  }

  // Copies the pieces beside each other: for each index before the axis, a run of each piece.
  Status VisitPieces(const TensorInfo& whole, int axis, std::span<const TensorInfo> pieces,
                     std::vector<std::byte>& scratch,
                     const std::function<Status(const TensorData&)>& place) const {
    if (scratch.size() < whole.bytes()) scratch.resize(whole.bytes());
    uint64_t runs = 1;
    for (int i = 0; i < axis; ++i) runs *= static_cast<uint64_t>(whole.shape[i]);
    const uint64_t stride = whole.bytes() / runs;
    std::byte* to = scratch.data();
    for (const TensorInfo& piece : pieces) {
      const uint64_t run = piece.bytes() / runs;
      RETURN_IF_ERROR(checkpoint_.WithBytes(piece, [&](std::span<const std::byte> bytes) {
        for (uint64_t r = 0; r < runs; ++r)
          std::memcpy(to + r * stride, bytes.data() + r * run, run);
        return Status();
      }));
      to += run;
    }
    return Named(
        fmt::format("{} and {} more", checkpoint_.files()[whole.file_idx], pieces.size() - 1),
        whole.name, place({whole.name, whole.dtype, whole.shape, scratch.data()}));
  }

  const Checkpoint& checkpoint_;
};

}  // namespace

std::unique_ptr<WeightSource> CheckpointSource(const Checkpoint& checkpoint) {
  return std::make_unique<FromCheckpoint>(checkpoint);
}

}  // namespace sluice
