#include "engine/engine_core.h"

#include <exception>
#include <optional>

#include "base/clock.h"
#include "base/log.h"

namespace sluice {

EngineCore::EngineCore(std::unique_ptr<StepEngine> engine, const EngineCoreOptions& options,
                       Sink sink)
    : engine_(std::move(engine)),
      options_(options),
      live_max_(engine_->scheduler().limits().running_requests + options.queued_requests),
      sink_(std::move(sink)),
      thread_([this] { Run(); }) {}

void EngineCore::Stop() {
  if (!thread_.joinable()) return;
  {
    const std::lock_guard lock(mutex_);
    stop_ = draining_ = true;
    has_orders_.store(true, std::memory_order_release);
  }
  wake_.notify_one();
  thread_.join();
}

Result<uint64_t> EngineCore::Submit(CoreRequest request) {
  RETURN_IF_ERROR(engine_->CheckFits(static_cast<int64_t>(request.prompt.size())));
  uint64_t key;
  {
    const std::lock_guard lock(mutex_);
    if (!failure_.ok()) return failure_;
    if (draining_) return Error(Code::kDraining, "The server is shutting down.");
    if (live_ >= live_max_)
      return Error(Code::kQueueFull, "The request queue is full: {} requests, allowed are {}.",
                   live_, live_max_);
    ++live_;
    key = request.key = next_key_++;
    arrivals_.push_back(std::move(request));
    has_orders_.store(true, std::memory_order_release);
  }
  wake_.notify_one();
  return key;
}

void EngineCore::Cancel(uint64_t key, Status why) {
  {
    const std::lock_guard lock(mutex_);
    cancels_.push_back({key, std::move(why)});
    has_orders_.store(true, std::memory_order_release);
  }
  wake_.notify_one();
}

void EngineCore::Drain() {
  const std::lock_guard lock(mutex_);
  draining_ = true;
}

StepCounters EngineCore::counters() const {
  const std::lock_guard lock(mutex_);
  StepCounters out = counters_;
  out.waiting += static_cast<int64_t>(arrivals_.size());
  return out;
}

double EngineCore::current_step_seconds() const {
  const double began = step_began_.load(std::memory_order_relaxed);
  return began > 0 ? MonotonicSeconds() - began : 0;
}

int64_t EngineCore::live() const {
  const std::lock_guard lock(mutex_);
  return live_;
}

// A library's exception (no memory, say) ends what is live and refuses what comes, instead of
// ending the process.
void EngineCore::Run() {
  std::optional<PinnedCaller> pinned;
  if (options_.pin) pinned.emplace();
  Status failure;
  try {
    RunSteps();
    return;
  } catch (const std::exception& e) {
    failure = Error(Code::kInternal, "the engine stopped: {}", e.what());
  }
  step_began_.store(0, std::memory_order_relaxed);
  log::Error("{}", failure.message());
  {
    const std::lock_guard lock(mutex_);
    failure_ = failure;
    taken_arrivals_.swap(arrivals_);
  }
  for (CoreRequest& request : taken_arrivals_) engine_->Add(std::move(request));
  engine_->AbortAll(failure, events_);
  Deliver();
}

void EngineCore::RunSteps() {
  while (TakeOrders()) {
    const double now = MonotonicSeconds();
    engine_->ExpireWaiting(now, events_);
    step_began_.store(now, std::memory_order_relaxed);
    const bool stepped = engine_->Step(events_, &has_orders_);
    step_began_.store(0, std::memory_order_relaxed);
    Deliver();
    if (stepped) continue;
    std::unique_lock lock(mutex_);
    wake_.wait(lock, [this] { return has_orders_.load(std::memory_order_relaxed); });
  }
  engine_->AbortAll(Error(Code::kDraining, "The server is shutting down."), events_);
  Deliver();
}

bool EngineCore::TakeOrders() {
  if (!has_orders_.load(std::memory_order_acquire)) return true;
  bool stop;
  {
    const std::lock_guard lock(mutex_);
    taken_arrivals_.swap(arrivals_);
    taken_cancels_.swap(cancels_);
    stop = stop_;
    has_orders_.store(false, std::memory_order_relaxed);
  }
  for (CoreRequest& request : taken_arrivals_) engine_->Add(std::move(request));
  taken_arrivals_.clear();
  for (const CancelOrder& order : taken_cancels_) engine_->Cancel(order.key, order.why, events_);
  taken_cancels_.clear();
  return !stop;
}

void EngineCore::Deliver() {
  int64_t ended = 0;
  for (const CoreEvent& event : events_) ended += event.finish.has_value();
  {
    const std::lock_guard lock(mutex_);
    counters_ = engine_->counters();
    live_ -= ended;
  }
  if (!events_.empty()) sink_(events_);
  events_.clear();
}

}  // namespace sluice
