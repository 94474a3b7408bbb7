// Time. Deadlines and durations use the monotonic clock; only what goes on the wire is wall time.
#pragma once

#include <chrono>
#include <cstdint>

namespace sluice {

/// Seconds on the monotonic clock, from an arbitrary start.
inline double MonotonicSeconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// Whole Unix seconds, for `created` fields.
inline int64_t UnixSeconds() {
  return std::chrono::duration_cast<std::chrono::seconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

}  // namespace sluice
