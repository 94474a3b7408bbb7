// The engine's counters and the two log lines that scripts parse.
#pragma once

#include <cstdint>

#include "engine/scheduler.h"

namespace sluice {

/// Counters since start; see EngineStats in sluice/engine.h.
struct StepCounters {
  int64_t running = 0, waiting = 0;
  int64_t kv_tokens_used = 0, slots_used = 0;
  int64_t prompt_tokens = 0, generated_tokens = 0;
  int64_t finished = 0, aborted = 0, retracted = 0;
  int64_t steps = 0, prefill_steps = 0;
  double step_seconds = 0, last_step_monotonic = 0;
  double generation_tokens_per_second = 0;
  int64_t numeric_faults = 0;
  double third_last_fault_monotonic = 0;
};

/// Follows the steps of one engine. SGLang's shape of the lines:
///   Prefill batch. #new-seq: 1, #new-token: 5, #cached-token: 0, token usage: 0.00, ...
///   Decode batch. #running-req: 1, #token: 64, token usage: 0.01, gen throughput (token/s): ...
/// the first for every step with prompt tokens, the second for every so many steps that decode.
class StepReport {
 public:
  /// `decode_log_interval`: steps between two lines of the second kind; 0: none.
  explicit StepReport(int64_t decode_log_interval) : decode_log_interval_(decode_log_interval) {}

  /// Before the step runs.
  void Began(const StepPlan& plan, const Scheduler& scheduler, int64_t kv_pages, double now);
  /// After it, or after the `steps` that were run of the plan; `generated` tokens came out.
  void Ended(const StepPlan& plan, const Scheduler& scheduler, int64_t kv_pages,
             int64_t state_slots, int64_t steps, int64_t generated, double now);

  /// A request ended because its logits were not finite.
  void NoteFault(double now);

  StepCounters counters;

 private:
  const int64_t decode_log_interval_;
  static constexpr int64_t kFaultsKept = 3;
  double faults_[kFaultsKept] = {};  // the latest ones' times, in a ring
  double began_ = 0;
  int64_t decode_steps_ = 0;  // since the last line
  double interval_began_ = 0;
  int64_t interval_tokens_ = 0;
};

}  // namespace sluice
