#include "engine/step_report.h"

#include "base/log.h"

namespace sluice {
namespace {

constexpr int64_t kThroughputInterval = 40;  // steps between two figures, whether logged or not

double Share(int64_t used, int64_t total) {
  return total == 0 ? 0.0 : static_cast<double>(used) / static_cast<double>(total);
}

}  // namespace

void StepReport::Began(const StepPlan& plan, const Scheduler& scheduler, int64_t kv_pages,
                       double now) {
  began_ = now;
  if (interval_began_ == 0) interval_began_ = now;
  if (plan.prefill_tokens == 0) return;
  ++counters.prefill_steps;
  log::Info(
      "Prefill batch. #new-seq: {}, #new-token: {}, #cached-token: 0, token usage: {:.2f}, "
      "#running-req: {}, #queue-req: {}",
      plan.prefill_requests, plan.prefill_tokens, Share(scheduler.pages_used(), kv_pages),
      scheduler.running() - plan.prefill_requests, scheduler.waiting());
}

void StepReport::Ended(const StepPlan& plan, const Scheduler& scheduler, int64_t kv_pages,
                       int64_t state_slots, int64_t steps, int64_t generated, double now) {
  counters.steps += steps;
  counters.step_seconds += now - began_;
  counters.last_step_monotonic = now;
  counters.generated_tokens += generated;
  counters.retracted += plan.retracted;
  counters.running = scheduler.running();
  counters.waiting = scheduler.waiting();
  counters.kv_tokens_used = scheduler.pages_used() * kPageTokens;
  counters.slots_used = scheduler.slots_used();
  interval_tokens_ += generated;
  const int64_t interval = decode_log_interval_ > 0 ? decode_log_interval_ : kThroughputInterval;
  if (plan.decode_tokens == 0 || (decode_steps_ += steps) < interval) return;
  decode_steps_ = 0;
  const double seconds = now - interval_began_;
  counters.generation_tokens_per_second =
      seconds > 0 ? static_cast<double>(interval_tokens_) / seconds : 0;
  interval_began_ = now;
  interval_tokens_ = 0;
  if (decode_log_interval_ == 0) return;
  log::Info(
      "Decode batch. #running-req: {}, #token: {}, token usage: {:.2f}, gen throughput (token/s): "
      "{:.2f}, #queue-req: {}, recurrent usage: {:.2f}",
      counters.running, counters.kv_tokens_used, Share(scheduler.pages_used(), kv_pages),
      counters.generation_tokens_per_second, counters.waiting,
      Share(counters.slots_used, state_slots));
}

void StepReport::NoteFault(double now) {
  faults_[counters.numeric_faults++ % kFaultsKept] = now;
  counters.third_last_fault_monotonic = faults_[counters.numeric_faults % kFaultsKept];
}

}  // namespace sluice
