// Runs sequences of a step through the model and chooses their tokens, on one set of lanes with
// memory of its own.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/status.h"
#include "engine/lane_run.h"
#include "engine/step_batch.h"
#include "engine/step_outcome.h"
#include "models/model.h"
#include "tensor/exec.h"

namespace sluice {

/// Used by one thread at a time. Several workers may compute at once over the same model and pools,
/// as long as their sequences differ.
class StepWorker {
 public:
  /// For steps of at most `rows` rows. `model`, `team` and `machine` outlive it.
  /// Errors: kOutOfMemory.
  static Result<StepWorker> Create(const Model& model, int64_t rows, Team& team,
                                   const Machine& machine);

  /// Hidden states, a chunk of logits, and the larger of the model's and the sampler's scratch.
  static uint64_t ScratchBytes(const Model& model, int64_t rows, int lanes);

  /// Runs `items` and settles them; then, as long as `run` says, those that have not ended again.
  /// Then all of them decode.
  void Run(std::span<const StepItem> items, LaneRun& run, const CachePools& pools);

  /// Of the last Run(), a request's in order.
  std::span<StepOutcome> outcomes() { return outcomes_; }
  int64_t steps_run() const { return steps_run_; }

 private:
  StepWorker(const Model& model, int64_t rows, Team& team, const Machine& machine, Arena arena);
  void RunStep(std::span<const StepItem> items, const CachePools& pools);
  void Compute(const CachePools& pools);
  void ChooseTokens(View<const float, 2> hidden, int64_t output_begin);

  const Model* model_;
  int64_t logit_rows_;
  Team* team_;
  const Machine* machine_;
  Arena arena_;
  StepBatch batch_;
  std::vector<StepItem> going_on_;
  std::vector<StepOutcome> outcomes_;
  int64_t steps_run_ = 0;
  std::vector<SamplingRow> sampling_rows_;  // of the chunk of logits at hand
};

}  // namespace sluice
