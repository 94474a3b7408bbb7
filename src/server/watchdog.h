// Tells when something that should come to an end does not.
#pragma once

#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>

namespace sluice {

class Watchdog {
 public:
  /// Looks several times per `limit_seconds`, on a thread of its own, how long the work at hand has
  /// taken by `busy_seconds` (0: there is none), and calls `on_hang` with that figure, once, if it
  /// is beyond the limit. A limit of 0 watches nothing.
  Watchdog(double limit_seconds, std::function<double()> busy_seconds,
           std::function<void(double)> on_hang);
  ~Watchdog();

 private:
  void Run();

  const double limit_seconds_;
  const std::function<double()> busy_seconds_;
  const std::function<void(double)> on_hang_;
  std::mutex mutex_;
  std::condition_variable wake_;
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace sluice
