// One engine step after another: plan, run the model, choose tokens, keep the books. Has no thread
// of its own and reads the clock for reports only, so a seed replays a run exactly.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "base/status.h"
#include "engine/request.h"
#include "engine/scheduler.h"
#include "engine/step_batch.h"
#include "engine/step_report.h"
#include "memory/pools.h"
#include "models/model.h"

namespace sluice {

struct StepEngineOptions {
  SchedulerLimits limits;
  int64_t context_length = 0;
  int64_t kv_pages = 0;
  int64_t state_slots = 0;
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

  /// Runs one step and appends its events. False, without a step, if there are no requests.
  bool Step(std::vector<CoreEvent>& events);

  /// Ends every live request with `why`.
  void AbortAll(const Status& why, std::vector<CoreEvent>& events);

  const StepCounters& counters() const { return report_.counters; }
  const Scheduler& scheduler() const { return scheduler_; }
  const KvPagePool& kv() const { return kv_; }
  const RecurrentPool& recurrent() const { return recurrent_; }

 private:
  StepEngine(const Model& model, const StepEngineOptions& options, Team& team,
             const Machine& machine, KvPagePool kv, RecurrentPool recurrent, Arena arena);

  void AbortTooLarge(const StepPlan& plan, std::vector<CoreEvent>& events);
  void NoteAdmissions(const StepPlan& plan, double now);
  void RunModel();
  void ChooseTokens(View<const float, 2> hidden, int64_t output_begin);
  SamplingRow MakeRow(OutputRow& output, float* logits) const;
  int64_t Settle(const StepPlan& plan, std::vector<CoreEvent>& events);
  const OutputRow* FindFault(size_t item_idx);
  void Accept(OutputRow& output, std::vector<CoreEvent>& events);
  void End(Request* request, CoreEvent event, CoreFinish finish, std::vector<CoreEvent>& events,
           bool clear = false);

  const Model& model_;
  const int64_t vocab_size_;
  const int64_t hidden_size_;
  const int64_t logit_rows_;
  Team& team_;
  const Machine machine_;
  KvPagePool kv_;
  RecurrentPool recurrent_;
  Arena arena_;
  Scheduler scheduler_;
  StepBatch batch_;
  StepReport report_;
  std::vector<SamplingRow> sampling_rows_;
};

}  // namespace sluice
