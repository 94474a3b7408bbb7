// What the machine can do at most, measured next to a bench: clocks wander by a third and
// neighbours intrude, so a figure means something only as a share of a ceiling from the same
// moment.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <vector>

namespace sluice::bench {

/// Runs function(lane) on so many lanes at once; a bench passes its own pinned team.
using RunLanes = std::function<void(const std::function<void(int lane)>&)>;

/// fp32 multiply-adds from registers, two operations each, by the widest vectors here; about 5 ms.
double FmaFlops(int lanes, const RunLanes& run);

/// 2 MiB where the system grants them, or 4 KiB.
enum class Pages { kHuge, kSmall };

/// Bytes per second read from memory: every lane streams its own part of a buffer far larger than
/// the caches.
class ReadBandwidth {
 public:
  explicit ReadBandwidth(Pages pages = Pages::kHuge, uint64_t bytes = uint64_t{512} << 20);
  ~ReadBandwidth();
  ReadBandwidth(const ReadBandwidth&) = delete;
  ReadBandwidth& operator=(const ReadBandwidth&) = delete;
  double Measure(int lanes, const RunLanes& run) const;
  /// Bytes per second that memcpy moves from one half of each lane's part to the other.
  double MeasureCopy(int lanes, const RunLanes& run);

 private:
  uint64_t bytes_;
  void* memory_;
};

inline double Median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + values.size() / 2, values.end());
  return values[values.size() / 2];
}

/// Seconds since an arbitrary moment; with one lane of the calling thread's processor time, so that
/// a busy machine's time slices do not count.
double Now(int lanes);

}  // namespace sluice::bench
