#include "server/work_pool.h"

#include <exception>

#include "base/log.h"

namespace sluice {

WorkPool::WorkPool(int threads, size_t jobs_max) : jobs_max_(jobs_max) {
  for (int i = 0; i < threads; ++i) threads_.emplace_back([this] { Run(); });
}

void WorkPool::Stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
}

bool WorkPool::TryPost(std::function<void()> job) {
  {
    const std::lock_guard lock(mutex_);
    if (stopping_ || jobs_.size() >= jobs_max_) return false;
    jobs_.push_back(std::move(job));
  }
  wake_.notify_one();
  return true;
}

size_t WorkPool::pending() const {
  const std::lock_guard lock(mutex_);
  return jobs_.size() + running_;
}

void WorkPool::Run() {
  std::unique_lock lock(mutex_);
  while (true) {
    wake_.wait(lock, [this] { return stopping_ || !jobs_.empty(); });
    if (stopping_) return;
    std::function<void()> job = std::move(jobs_.front());
    jobs_.pop_front();
    ++running_;
    lock.unlock();
    try {
      job();
    } catch (const std::exception& e) {  // jobs answer for their own failures; this is the last net
      log::Error("worker thread: {}", e.what());
    }
    job = nullptr;  // destroyed outside the lock
    lock.lock();
    --running_;
  }
}

}  // namespace sluice
