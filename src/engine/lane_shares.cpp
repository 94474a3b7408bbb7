#include "engine/lane_shares.h"

#include <algorithm>

namespace sluice {
namespace {

// Packed weights that the caches beside a core hold: 2 MiB of L2 and its part of an L3.
constexpr uint64_t kCachedWeightBytes = 8ull << 20;

// Tokens of context whose attention costs as much as the rest of a row, in models that small.
constexpr double kContextOfARow = 1024;

// The least part of a step that lanes must have work for.
constexpr double kBusyMin = 0.7;

double Work(const StepItem& item) {
  const auto context = static_cast<double>(item.request->computed + item.token_count);
  return static_cast<double>(item.token_count) * (1 + context / kContextOfARow);
}

}  // namespace

bool LanesMayShareSequences(const Model& model, int lanes) {
  return lanes > 1 && model.info().weight_bytes <= kCachedWeightBytes;
}

void ShareSequences(std::span<const StepItem> items, int lanes,
                    std::vector<std::span<const StepItem>>* shares) {
  shares->clear();
  double total = 0;
  for (const StepItem& item : items) total += Work(item);
  double done = 0, most = 0;
  size_t begin = 0;
  for (int lane = 0; lane < lanes && begin < items.size(); ++lane) {
    // An item belongs to the lane whose part of the work holds its middle.
    const double part_end = total * (lane + 1) / lanes, part_begin = done;
    size_t end = begin;
    int64_t rows = 0;
    while (end < items.size() &&
           (lane + 1 == lanes || done + Work(items[end]) / 2 < part_end || end == begin)) {
      done += Work(items[end]);
      rows += items[end++].token_count;
    }
    if (rows > kLaneRowsMax) return shares->clear();
    shares->push_back(items.subspan(begin, end - begin));
    most = std::max(most, done - part_begin);
    begin = end;
  }
  if (total < kBusyMin * lanes * most) shares->clear();
}

}  // namespace sluice
