// SIGTERM and SIGINT as calls on a thread of ours instead of handlers.
#pragma once

#include <functional>
#include <thread>

namespace sluice {

/// Blocks SIGTERM and SIGINT and ignores SIGPIPE. For the main thread, before any other thread
/// starts.
void PrepareSignals();

/// Calls `on_signal` with the signal's number, on its own thread.
class SignalWatcher {
 public:
  explicit SignalWatcher(std::function<void(int)> on_signal);
  ~SignalWatcher();

 private:
  void Run();

  std::function<void(int)> on_signal_;
  int signals_ = -1, stop_ = -1;  // descriptors
  std::thread thread_;
};

}  // namespace sluice
