// The engine's thread: takes requests and cancels from any thread, steps while there is work,
// sleeps when there is none.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "base/status.h"
#include "engine/step_engine.h"

namespace sluice {

struct EngineCoreOptions {
  int64_t queued_requests = 1024;  // live requests beyond those that may run
  bool pin = false;                // bind the engine's thread to the first processor
};

/// Thread-safe.
class EngineCore {
 public:
  /// Called on the engine's thread after each step that produced events; may take them (swap), must
  /// not block.
  using Sink = std::function<void(std::vector<CoreEvent>& events)>;

  /// Starts the thread, which becomes lane 0 of the team that `engine` was made with.
  EngineCore(std::unique_ptr<StepEngine> engine, const EngineCoreOptions& options, Sink sink);

  ~EngineCore() { Stop(); }

  /// Aborts what is live, delivers the last events and joins the thread. Other calls stay allowed.
  void Stop();

  /// Sets `request.key` and returns it. Every accepted request gets exactly one event with
  /// `finish`. Errors: kQueueFull, kDraining, kContextLength (can never fit), kInternal (the engine
  /// stopped).
  Result<uint64_t> Submit(CoreRequest request);

  /// Ends a request before the next step; unknown keys are ignored.
  void Cancel(uint64_t key, Status why);

  /// Refuses new requests from now on.
  void Drain();

  /// Counters as of the last step; never waits for one.
  StepCounters counters() const;
  /// How long the step that runs now has taken; 0: none runs.
  double current_step_seconds() const;
  /// Accepted and not yet ended.
  int64_t live() const;

 private:
  struct CancelOrder {
    uint64_t key;
    Status why;
  };

  void Run();
  void RunSteps();
  bool TakeOrders();  // false: stop
  void Deliver();

  std::unique_ptr<StepEngine> engine_;
  const EngineCoreOptions options_;
  const int64_t live_max_;
  const Sink sink_;

  mutable std::mutex mutex_;  // guards what follows; held for a few moves at a time
  std::condition_variable wake_;
  std::vector<CoreRequest> arrivals_;
  std::vector<CancelOrder> cancels_;
  StepCounters counters_;
  uint64_t next_key_ = 1;
  int64_t live_ = 0;
  bool draining_ = false;
  bool stop_ = false;
  Status failure_;

  std::atomic<bool> has_orders_{false};
  std::atomic<double> step_began_{0};  // MonotonicSeconds(); 0 between steps

  // The engine's thread only.
  std::vector<CoreRequest> taken_arrivals_;
  std::vector<CancelOrder> taken_cancels_;
  std::vector<CoreEvent> events_;

  std::thread thread_;  // last: it uses everything above
};

}  // namespace sluice
