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
    const TensorInfo* tensor = Lookup(row);
    return tensor ? std::optional(*tensor) : std::nullopt;
  }

  Status Check(std::span<const WeightRow> rows, const IgnoreName& ignore) const override {
    return CheckWeights(checkpoint_, rows, ignore);
  }

  Status Visit(const WeightRow& row, std::vector<std::byte>& scratch,
               const std::function<Status(const TensorData&)>& place) const override {
    const TensorInfo* tensor = Lookup(row);
    if (!tensor || tensor->shape != row.shape || !row.dtypes.Has(tensor->dtype))
      return Error(Code::kBadCheckpoint, "{}: {} {} is absent or of another shape or dtype",
                   checkpoint_.directory(), row.name, FormatShape(row.shape));
    return checkpoint_.WithBytes(*tensor, [&](std::span<const std::byte> bytes) {
      const std::byte* data = bytes.data();
      // The format does not align tensors; only odd files need the copy.
      if (reinterpret_cast<uintptr_t>(data) % static_cast<size_t>(DTypeBytes(tensor->dtype))) {
        if (scratch.size() < bytes.size()) scratch.resize(bytes.size());
        std::memcpy(scratch.data(), data, bytes.size());
        data = scratch.data();
      }
      Status status = place({tensor->name, tensor->dtype, tensor->shape, data});
      if (status.ok()) return status;
      return Status(status.code(),
                    fmt::format("{}: tensor {}: {}", checkpoint_.files()[tensor->file_idx],
                                Quoted(tensor->name), status.message()),
                    status.param());
    });
  }

  Status Finish() const override { return checkpoint_.CheckUnchanged(); }

 private:
  const TensorInfo* Lookup(const WeightRow& row) const {
    const TensorInfo* tensor = checkpoint_.Find(row.name);
    for (size_t i = 0; !tensor && i < row.aliases.size(); ++i)
      tensor = checkpoint_.Find(row.aliases[i]);
    return tensor;
  }

  const Checkpoint& checkpoint_;
};

}  // namespace

std::unique_ptr<WeightSource> CheckpointSource(const Checkpoint& checkpoint) {
  return std::make_unique<FromCheckpoint>(checkpoint);
}

}  // namespace sluice
