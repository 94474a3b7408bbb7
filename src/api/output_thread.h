// Carries the engine's events to where text is made and callbacks are called, off the engine's
// thread. While steps come faster than the pace it wakes at the pace, not at every step: it shares
// the processors with the engine's lanes, and each waking stops one of them.
#pragma once

#include <chrono>
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

  /// Takes the events and leaves an empty vector (with capacity). Never blocks for long. Events are
  /// handled at once where the thread has been idle for kPace, or one of them ends a request;
  /// otherwise at most kPace later.
  void Push(std::vector<CoreEvent>& events);

  static constexpr std::chrono::milliseconds kPace{1};

 private:
  void Run();

  const std::function<void(CoreEvent&&)> handle_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::vector<CoreEvent> queue_;
  bool idle_ = false;    // waits for the next event, however long
  bool urgent_ = false;  // the queue holds the end of a request
  bool stop_ = false;
  std::thread thread_;  // last: it uses everything above
};

}  // namespace sluice
