// A few threads for what would hold up the I/O thread: parsing, templates, tokenising.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace sluice {

class WorkPool {
 public:
  WorkPool(int threads, size_t jobs_max);
  ~WorkPool() { Stop(); }

  /// Drops what has not begun and joins. Later posts are refused.
  void Stop();

  /// False if the queue is full; the job is then untouched by any thread.
  bool TryPost(std::function<void()> job);
  /// Jobs that wait or run.
  size_t pending() const;

 private:
  void Run();

  const size_t jobs_max_;
  mutable std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::function<void()>> jobs_;
  size_t running_ = 0;
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace sluice
