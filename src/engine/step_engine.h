// One engine step after another: plan, run the model, choose tokens, keep the books. Has no thread
// of its own and reads the clock for reports only, so a seed replays a run exactly, but for how far
// lanes run ahead of each other.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/status.h"
#include "engine/request.h"
#include "engine/scheduler.h"
#include "engine/step_report.h"
#include "engine/step_worker.h"
#include "memory/pools.h"
#include "models/model.h"

namespace sluice {

struct StepEngineOptions {
  SchedulerLimits limits;
  int64_t context_length = 0;
  int64_t kv_pages = 0;
  int64_t state_slots = 0;
  int64_t decode_log_interval = 40;  // StepReport's
};

/// Used by one thread at a time: lane 0 of the team.
class StepEngine {
 public:
  /// Allocates pools and scratch. `model` and `team` outlive it. Errors: kOutOfMemory.
  static Result<std::unique_ptr<StepEngine>> Create(const Model& model,
                                                    const StepEngineOptions& options, Team& team,
                                                    const Machine& machine);

  /// Scratch of the largest step: hidden states, a chunk of logits, the model's and the sampler's.
  static uint64_t ScratchBytes(const Model& model, const SchedulerLimits& limits,
                               int64_t context_length, int lanes);

  /// kOutOfMemory, with both figures, if a prompt can never fit the KV pool.
  Status CheckFits(int64_t prompt_length) const;

  /// Takes a request that CheckFits; its key is larger than all before.
  void Add(CoreRequest request);

  /// Ends a live request with `why`, appending its last event. False if there is none.
  bool Cancel(uint64_t key, const Status& why, std::vector<CoreEvent>& events);

  /// Ends requests that have waited for their admission for too long.
  void ExpireWaiting(double now, std::vector<CoreEvent>& events);

  /// Runs one step and appends its events; where lanes go through the model by themselves, several
  /// decode steps, ended early once `interrupt` is set. False, without a step, if there are no
  /// requests.
  bool Step(std::vector<CoreEvent>& events, const std::atomic<bool>* interrupt = nullptr);

  /// Ends every live request with `why`.
  void AbortAll(const Status& why, std::vector<CoreEvent>& events);

  const StepCounters& counters() const { return report_.counters; }
  const Scheduler& scheduler() const { return scheduler_; }
  const KvPagePool& kv() const { return kv_; }
  const RecurrentPool& recurrent() const { return recurrent_; }

 private:
  StepEngine(const Model& model, const StepEngineOptions& options, Team& team,
             const Machine& machine, KvPagePool kv, RecurrentPool recurrent);
  Status MakeWorkers();

  void AbortTooLarge(const StepPlan& plan, std::vector<CoreEvent>& events);
  void NoteAdmissions(const StepPlan& plan, double now);
  // Both return the steps run.
  int64_t RunModel(const StepPlan& plan, const std::atomic<bool>* interrupt);
  int64_t RunShares(int64_t steps, const std::atomic<bool>* interrupt);
  int64_t Book(std::span<StepOutcome> outcomes, std::vector<CoreEvent>& events);
  void Abort(Request* request, Status why, std::vector<CoreEvent>& events);
  void End(Request* request, CoreEvent event, std::vector<CoreEvent>& events, bool clear = false);

  const Model& model_;
  const StepEngineOptions options_;
  Team& team_;
  Team alone_{1};  // of every worker that is one lane
  const Machine machine_;
  KvPagePool kv_;
  RecurrentPool recurrent_;
  Scheduler scheduler_;
  StepReport report_;
  // The first worker has the whole team, the others, if any, one lane each.
  std::vector<StepWorker> workers_;
  std::vector<std::span<const StepItem>> shares_;  // of this step; empty: the whole team runs it
};

}  // namespace sluice
