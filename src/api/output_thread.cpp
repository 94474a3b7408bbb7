#include "api/output_thread.h"

#include <exception>
#include <iterator>

#include "base/clock.h"
#include "base/log.h"

namespace sluice {

OutputThread::OutputThread(std::function<void(CoreEvent&&)> handle)
    : handle_(std::move(handle)), thread_([this] { Run(); }) {}

OutputThread::~OutputThread() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_.notify_one();
  thread_.join();
}

void OutputThread::Push(std::vector<CoreEvent>& events) {
  const double now = MonotonicSeconds();
  bool ends = false, wake;
  for (CoreEvent& event : events) {
    event.made_seconds = now;
    ends = ends || event.finish.has_value();
  }
  {
    const std::lock_guard lock(mutex_);
    wake = idle_ || (ends && !urgent_);
    urgent_ = urgent_ || ends;
    idle_ = false;
    if (queue_.empty())
      queue_.swap(events);
    else
      queue_.insert(queue_.end(), std::make_move_iterator(events.begin()),
                    std::make_move_iterator(events.end()));
  }
  events.clear();
  if (wake) wake_.notify_one();
}

void OutputThread::Run() {
  std::vector<CoreEvent> batch;
  auto paced = std::chrono::steady_clock::now();  // no events before, but urgent ones
  for (;;) {
    {
      std::unique_lock lock(mutex_);
      wake_.wait_until(lock, paced, [this] { return stop_ || urgent_; });
      idle_ = queue_.empty();
      wake_.wait(lock, [this] { return stop_ || !queue_.empty(); });
      idle_ = urgent_ = false;
      if (queue_.empty()) return;
      batch.swap(queue_);
    }
    paced = std::chrono::steady_clock::now() + kPace;
    for (CoreEvent& event : batch) {
      try {
        handle_(std::move(event));
      } catch (const std::exception& e) {  // no memory, or a callback that threw
        log::Error("output: {}", e.what());
      }
    }
    batch.clear();
  }
}

}  // namespace sluice
