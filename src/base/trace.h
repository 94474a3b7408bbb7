// Time spans: of operations, summed per name for reports, and of the stages inside them, lane by
// lane; optionally written as a Chrome trace (chrome://tracing, Perfetto). Off by default; then a
// span costs one relaxed load.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <type_traits>
#include <vector>

#include "base/status.h"

namespace sluice::trace {

/// kStages records what kOperations does and the stages as well.
enum class Level : int { kOff, kOperations, kStages };

void Enable(Level level = Level::kOperations);
void Disable();
bool Enabled();

/// Total time and count by name since Enable() or the last Reset().
struct Total {
  const char* name;
  double seconds;
  int64_t count;
};
std::vector<Total> Totals();

/// A span as it was recorded. `bytes`: what the stage went through, 0: not said.
struct Event {
  const char* name;
  uint64_t begin_ns, end_ns;
  int64_t bytes;
  int thread;  // counted from 0 in the order in which threads recorded their first span
};
/// Everything recorded since the last Reset(), thread by thread; an event that contains others
/// follows them. Beyond about two million events, later ones only add to the totals.
std::vector<Event> Events();
void Reset();

/// What a trace calls the calling thread; before its first span.
void NameThread(std::string name);
/// The calling thread's number in its events.
int ThreadNumber();

/// Writes everything recorded as Chrome-trace JSON, a track a thread. Errors: the file cannot be
/// written.
Status WriteChromeTrace(const std::string& path);

namespace internal {
extern std::atomic<int> level;
uint64_t Now();  // nanoseconds
void Record(const char* name, uint64_t begin_ns, uint64_t end_ns, int64_t bytes);

inline bool At(Level least) {
  return level.load(std::memory_order_relaxed) >= static_cast<int>(least);
}
}  // namespace internal

/// Measures from construction to destruction, on the calling thread. Names must be string literals
/// (kept by pointer). Inlined always: kernels of every instruction set contain spans, and none of
/// them may call another's copy.
template <Level kLevel>
class BasicSpan {
 public:
  [[gnu::always_inline]] explicit BasicSpan(const char* name, int64_t bytes = 0)
      : name_(internal::At(kLevel) ? name : nullptr), bytes_(bytes) {
    if (name_) [[unlikely]]
      begin_ns_ = internal::Now();
  }
  /// The same with bytes(), which is asked only where the span is recorded.
  template <class F>
  requires std::is_invocable_r_v<int64_t, F>
  [[gnu::always_inline]] BasicSpan(const char* name, F&& bytes) : BasicSpan(name) {
    if (name_) [[unlikely]]
      bytes_ = bytes();
  }
  [[gnu::always_inline]] ~BasicSpan() {
    if (name_) [[unlikely]]
      internal::Record(name_, begin_ns_, internal::Now(), bytes_);
  }
  BasicSpan(const BasicSpan&) = delete;
  BasicSpan& operator=(const BasicSpan&) = delete;

 private:
  const char* name_;
  int64_t bytes_;
  uint64_t begin_ns_ = 0;
};

/// One operation of a step.
using Span = BasicSpan<Level::kOperations>;
/// A part of an operation on one lane. Stages nest; a stage's own time is what no stage inside it
/// covers.
using Stage = BasicSpan<Level::kStages>;

/// Until its end, spans of this thread count 1/lanes of their time: `lanes` threads do the same
/// operations side by side, and totals stay comparable with the step's.
class Part {
 public:
  explicit Part(int lanes);
  ~Part();
  Part(const Part&) = delete;
  Part& operator=(const Part&) = delete;
};

}  // namespace sluice::trace
