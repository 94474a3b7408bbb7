// Runs sequences of a step through the model and chooses their tokens, on one set of lanes with
// memory of its own.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/status.h"
#include "engine/step_batch.h"
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

  /// Lays `items` out as a batch and remembers the outputs wanted.
  void Prepare(std::span<const StepItem> items);

  /// Runs what was prepared and fills in `batch().outputs()`.
  void Compute(const CachePools& pools);

  StepBatch& batch() { return batch_; }

 private:
  StepWorker(const Model& model, int64_t rows, Team& team, const Machine& machine, Arena arena);
  void ChooseTokens(View<const float, 2> hidden, int64_t output_begin);

  const Model* model_;
  int64_t logit_rows_;
  Team* team_;
  const Machine* machine_;
  Arena arena_;
  StepBatch batch_;
  std::vector<SamplingRow> sampling_rows_;  // of the chunk of logits at hand
};

}  // namespace sluice
