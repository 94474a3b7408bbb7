// Items of a step plan laid out as the model takes it: one ragged batch and the rows whose logits
// are wanted.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/scheduler.h"
#include "kernels/sampling/sampling.h"
#include "models/model.h"

namespace sluice {

/// A row of the final hidden states and what became of it.
struct OutputRow {
  Request* request = nullptr;
  int64_t prompt_position = -1;  // >= 0: scores the prompt token at this position; -1: samples
  int32_t token = -1;
  RowFault fault = RowFault::kNone;
  int64_t fault_id = 0;
  PositionLogprobs report;  // of a sampled token, if asked for
};

/// Reused from step to step; allocates nothing once it has seen the largest one.
class StepBatch {
 public:
  void Build(std::span<const StepItem> items);

  Batch View() const;
  int64_t row_count() const { return static_cast<int64_t>(tokens_.size()); }

  /// In the order of the items; those of item i are [output_begin(i), output_begin(i + 1)).
  std::vector<OutputRow>& outputs() { return outputs_; }
  int64_t output_begin(size_t item_idx) const { return output_begin_[item_idx]; }

 private:
  void AddOutputs(const StepItem& item, int64_t row_begin);
  void AddOutput(Request* request, int64_t prompt_position, int64_t row);

  std::vector<int32_t> tokens_, positions_, output_rows_;
  std::vector<SequenceStep> sequences_;
  std::vector<OutputRow> outputs_;
  std::vector<int64_t> output_begin_;
};

}  // namespace sluice
