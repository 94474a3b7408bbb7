// Time spans of operations: summed per name for reports, and optionally written as a Chrome trace
// (chrome://tracing, Perfetto). Off by default; then a span costs one relaxed load.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "base/status.h"

namespace sluice::trace {

/// Names must be string literals (kept by pointer).
void Enable();
void Disable();
bool Enabled();

/// Total time and count by name since Enable() or the last Reset().
struct Total {
  const char* name;
  double seconds;
  int64_t count;
};
std::vector<Total> Totals();
void Reset();

/// Writes everything recorded as Chrome-trace JSON. Errors: the file cannot be written.
Status WriteChromeTrace(const std::string& path);

namespace internal {
extern std::atomic<bool> enabled;
uint64_t Now();  // nanoseconds
void Record(const char* name, uint64_t begin_ns, uint64_t end_ns);
}  // namespace internal

/// Measures from construction to destruction, on the calling thread.
class Span {
 public:
  explicit Span(const char* name)
      : name_(internal::enabled.load(std::memory_order_relaxed) ? name : nullptr),
        begin_ns_(name_ ? internal::Now() : 0) {}
  ~Span() {
    if (name_) internal::Record(name_, begin_ns_, internal::Now());
  }
  Span(const Span&) = delete;
  Span& operator=(const Span&) = delete;

 private:
  const char* name_;
  uint64_t begin_ns_;
};

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
