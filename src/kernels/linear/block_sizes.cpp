#include "kernels/linear/block_sizes.h"

#include <array>
#include <atomic>

#include "base/check.h"

namespace sluice {
namespace {

// clang-format off
constexpr auto kMeasured = std::to_array<BlockSizesEntry>({
#include "kernels/linear/block_sizes_table.inc"
    {},  // holds for no rows
});
// clang-format on

std::atomic<const BlockSizes*> forced{nullptr};

}  // namespace

std::span<const BlockSizesEntry> MeasuredBlockSizes() {
  return std::span(kMeasured).first(kMeasured.size() - 1);
}

const BlockSizes* FindBlockSizes(std::span<const BlockSizesEntry> table, std::string_view kernel,
                                 WeightFormat format, ActivationQuant activations, int lanes,
                                 int64_t rows, int64_t inputs) {
  for (const BlockSizesEntry& entry : table)
    if (entry.rows_min <= rows && rows < entry.rows_max && entry.inputs_min <= inputs &&
        inputs < entry.inputs_max && entry.lanes <= lanes && entry.format == format &&
        entry.activations == activations && entry.kernel == kernel)
      return &entry.sizes;
  return nullptr;
}

ForcedBlockSizes::ForcedBlockSizes(const BlockSizes& sizes) : sizes_(sizes) {
  CHECK(!forced.load());
  forced.store(&sizes_);
}

ForcedBlockSizes::~ForcedBlockSizes() { forced.store(nullptr); }

const BlockSizes* ForcedBlockSizes::Now() { return forced.load(std::memory_order_relaxed); }

}  // namespace sluice
