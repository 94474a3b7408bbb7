// Carries the engine's events to where text is made and callbacks are called, off the engine's
// thread.
#pragma once

#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "engine/request.h"

namespace sluice {

class OutputThread {
 public:
  /// `handle` is called for each event, in order, on this thread.
  explicit OutputThread(std::function<void(CoreEvent&&)> handle);

  /// Handles what has been pushed, then joins.
  ~OutputThread();

  /// Takes the events and leaves an empty vector (with capacity). Never blocks for long.
  void Push(std::vector<CoreEvent>& events);

 private:
  void Run();

  const std::function<void(CoreEvent&&)> handle_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::vector<CoreEvent> queue_;
  bool stop_ = false;
  std::thread thread_;  // last: it uses everything above
};

}  // namespace sluice
