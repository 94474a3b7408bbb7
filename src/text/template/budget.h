// What one rendering may cost. Every loop that input or template can make long asks here first.
#pragma once

#include <algorithm>
#include <cstdint>

#include "base/status.h"

namespace sluice::jinja {

class Budget {
 public:
  /// A statement counts as this many ticks, an expression node as one.
  static constexpr uint64_t kTicksPerStep = 8;
  /// Values (lists in lists, and so on) nest no deeper than this, so that walking them may recurse.
  static constexpr int kValueDepthMax = 128;
  /// Eval and Exec calls within each other: syntax nesting times macro calls. About 1 KiB of stack
  /// each.
  static constexpr int kFramesMax = 768;

  Budget(uint64_t steps_max, int calls_max, uint64_t text_bytes_max, uint64_t work_bytes_max)
      : steps_max_(steps_max),
        ticks_left_(steps_max * kTicksPerStep),
        text_bytes_max_(text_bytes_max),
        work_bytes_max_(work_bytes_max),
        calls_max_(calls_max) {}

  Status Step() { return Ticks(kTicksPerStep); }
  Status Ticks(uint64_t count) {
    if (count > ticks_left_) [[unlikely]]
      return Error(Code::kInvalidArgument, "the template takes more than {} steps", steps_max_);
    ticks_left_ -= count;
    return {};
  }

  /// Pays for reading or copying `bytes`.
  Status Work(uint64_t bytes) {
    work_bytes_ += std::min(bytes, work_bytes_max_ + 1);  // no wrap-around
    if (work_bytes_ > work_bytes_max_) [[unlikely]]
      return Error(Code::kInvalidArgument, "the template handles more than {} bytes",
                   work_bytes_max_);
    return {};
  }

  /// Refuses a text (the output, or any string on the way) of more than text_bytes_max().
  Status TextBytes(uint64_t bytes) const {
    if (bytes > text_bytes_max_) [[unlikely]]
      return Error(Code::kInvalidArgument, "the template makes a text of more than {} bytes",
                   text_bytes_max_);
    return {};
  }
  uint64_t text_bytes_max() const { return text_bytes_max_; }

  /// Nesting of macro calls and of evaluation; each Enter that succeeds needs its Leave.
  Status EnterCall() {
    if (calls_ >= calls_max_)
      return Error(Code::kInvalidArgument, "macro calls nest deeper than {}", calls_max_);
    ++calls_;
    return {};
  }
  void LeaveCall() { --calls_; }
  Status EnterFrame() {
    if (frames_ >= kFramesMax)
      return Error(Code::kInvalidArgument, "evaluation nests deeper than {}", kFramesMax);
    ++frames_;
    return {};
  }
  void LeaveFrame() { --frames_; }

 private:
  uint64_t steps_max_, ticks_left_, text_bytes_max_, work_bytes_max_;
  uint64_t work_bytes_ = 0;
  int calls_max_, calls_ = 0, frames_ = 0;
};

/// One level of evaluation, until the end of the block; without effect if refused.
class Frame {
 public:
  explicit Frame(Budget& budget) : budget_(budget), status_(budget.EnterFrame()) {}
  ~Frame() {
    if (status_.ok()) budget_.LeaveFrame();
  }
  Frame(const Frame&) = delete;
  Frame& operator=(const Frame&) = delete;
  const Status& status() const { return status_; }

 private:
  Budget& budget_;
  Status status_;
};

}  // namespace sluice::jinja
