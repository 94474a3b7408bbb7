// How far the lanes of a run go before they wait for each other.
#pragma once

#include <atomic>
#include <cstdint>

namespace sluice {

/// Every lane takes `steps` steps of its sequences; one that is through with them goes on while
/// another is not, for `steps_max` at most, since its sequences need nothing of the others.
/// Thread-safe.
class LaneRun {
 public:
  /// Of `lanes` lanes. Ends early once `interrupt` (or null) is set.
  LaneRun(int lanes, int64_t steps, int64_t steps_max, const std::atomic<bool>* interrupt)
      : steps_(steps), steps_max_(steps_max), interrupt_(interrupt), behind_(lanes) {}

  /// Whether a lane that has done `done` steps takes another. Called after each of them.
  bool GoesOn(int64_t done) {
    if (done == steps_) behind_.fetch_sub(1, std::memory_order_relaxed);
    if (interrupt_ != nullptr && interrupt_->load(std::memory_order_relaxed)) return false;
    return done < steps_ || (done < steps_max_ && behind_.load(std::memory_order_relaxed) > 0);
  }

  /// A lane has nothing left to do after `done` steps.
  void RunsOut(int64_t done) {
    if (done < steps_) behind_.fetch_sub(1, std::memory_order_relaxed);
  }

 private:
  const int64_t steps_, steps_max_;
  const std::atomic<bool>* const interrupt_;
  std::atomic<int> behind_;  // lanes that have not done their steps
};

}  // namespace sluice
