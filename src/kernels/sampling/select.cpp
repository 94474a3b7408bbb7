#include "kernels/sampling/select.h"

#include <algorithm>
#include <bit>

#include "base/check.h"

namespace sluice::sampling {
namespace {

// A radix digit a level: 11, 11 and 10 bits of the key, from the top.
constexpr int kLevels = 3;
constexpr int kShift[kLevels] = {21, 10, 0};
constexpr uint32_t kBins = 2048;
constexpr int64_t kSortAtMost = 256;  // fewer candidates than this are sorted

// Orders as the float does, negative zero and zero alike.
uint32_t Key(float x) {
  const uint32_t bits = std::bit_cast<uint32_t>(x + 0.0f);
  return bits ^ ((bits >> 31) != 0 ? 0xFFFFFFFFu : 0x80000000u);
}

uint32_t Digit(float x, int level) { return (Key(x) >> kShift[level]) & (kBins - 1); }

struct Descending {
  const float* x;
  bool operator()(int32_t a, int32_t b) const { return x[a] > x[b] || (x[a] == x[b] && a < b); }
};

// The highest bin in which the measure reaches `target`, and the measure above it. Rounding may
// leave the whole sum short of the target; then it is the lowest bin that holds anything.
uint32_t FindBin(const double* sums, const int64_t* counts, double target, double& before) {
  uint32_t last = 0;
  double above = before;
  for (uint32_t bin = kBins; bin-- > 0;) {
    if (counts[bin] == 0) continue;
    last = bin;
    before = above;
    above += sums[bin];
    if (above >= target) return bin;
  }
  return last;
}

}  // namespace

Threshold SelectPrefix(const float* x, const float* weights, int64_t n, Threshold within,
                       double target, int32_t* ids) {
  const auto measure = [&](int64_t id) { return weights != nullptr ? double{weights[id]} : 1.0; };
  double before = 0;
  int64_t count = 0;
  for (int level = 0; level < kLevels; ++level) {
    double sums[kBins] = {};
    int64_t counts[kBins] = {};
    const auto add = [&](int64_t id) {
      const uint32_t digit = Digit(x[id], level);
      sums[digit] += measure(id);
      ++counts[digit];
    };
    if (level == 0) {
      for (int64_t id = 0; id < n; ++id)
        if (Keeps(within, x[id], id)) add(id);
    } else {
      for (int64_t i = 0; i < count; ++i) add(ids[i]);
    }
    const uint32_t bin = FindBin(sums, counts, target, before);
    int64_t kept = 0;  // candidates stay in the order of ids
    if (level == 0) {
      for (int64_t id = 0; id < n; ++id)
        if (Digit(x[id], level) == bin && Keeps(within, x[id], id))
          ids[kept++] = static_cast<int32_t>(id);
    } else {
      for (int64_t i = 0; i < count; ++i)
        if (Digit(x[ids[i]], level) == bin) ids[kept++] = ids[i];
    }
    count = kept;
    CHECK_GT(count, 0);
    if (count <= kSortAtMost) {
      std::sort(ids, ids + count, Descending{x});
      break;
    }
  }
  int64_t last = 0;
  double sum = before + measure(ids[0]);
  while (last + 1 < count && sum < target) sum += measure(ids[++last]);
  return {x[ids[last]], ids[last]};
}

int64_t BestIds(const float* x, int64_t n, int64_t k, int32_t* ids) {
  k = std::min(k, n);
  if (k <= 0) return 0;
  const Threshold keep = SelectPrefix(x, nullptr, n, kKeepAll, static_cast<double>(k), ids);
  int64_t count = 0;
  for (int64_t id = 0; id < n; ++id)
    if (Keeps(keep, x[id], id)) ids[count++] = static_cast<int32_t>(id);
  CHECK_EQ(count, k);
  std::sort(ids, ids + count, Descending{x});
  return count;
}

}  // namespace sluice::sampling
