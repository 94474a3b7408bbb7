#include "server/watchdog.h"

#include <algorithm>
#include <chrono>

namespace sluice {

Watchdog::Watchdog(double limit_seconds, std::function<double()> busy_seconds,
                   std::function<void(double)> on_hang)
    : limit_seconds_(limit_seconds),
      busy_seconds_(std::move(busy_seconds)),
      on_hang_(std::move(on_hang)) {
  if (limit_seconds_ > 0) thread_ = std::thread([this] { Run(); });
}

Watchdog::~Watchdog() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_.notify_one();
  if (thread_.joinable()) thread_.join();
}

void Watchdog::Run() {
  const std::chrono::duration<double> pause(std::min(limit_seconds_ / 8, 5.0));
  std::unique_lock lock(mutex_);
  while (!wake_.wait_for(lock, pause, [this] { return stop_; })) {
    const double busy = busy_seconds_();
    if (busy <= limit_seconds_) continue;
    on_hang_(busy);
    return;
  }
}

}  // namespace sluice
