// How far a long load has come: a bar that is redrawn where standard error is a terminal, a log
// line every 10 % or 5 s elsewhere.
#pragma once

#include <cstdint>
#include <string>

namespace sluice {

/// Not thread-safe; LoadWeights calls it from one thread at a time.
class LoadProgress {
 public:
  enum class Form { kAuto, kBar, kLines, kSilent };  // kAuto looks at standard error

  /// `title` says what is loaded. The clock starts here.
  explicit LoadProgress(std::string title, Form form = Form::kAuto);
  /// Ends a bar that has not come to 100 %, so that the next message starts on its own line.
  ~LoadProgress();
  LoadProgress(const LoadProgress&) = delete;
  LoadProgress& operator=(const LoadProgress&) = delete;

  void Update(uint64_t bytes_done, uint64_t bytes_total);

 private:
  void DrawBar(uint64_t done, uint64_t total, double elapsed_s) const;

  const std::string title_;
  Form form_;
  double started_s_;
  double last_s_ = 0;
  uint64_t last_done_ = 0;
  bool begun_ = false, finished_ = false;
};

}  // namespace sluice
