#include "engine/step_batch.h"

#include <algorithm>

namespace sluice {

void StepBatch::Build(std::span<const StepItem> items) {
  tokens_.clear();
  positions_.clear();
  output_rows_.clear();
  sequences_.clear();
  outputs_.clear();
  output_begin_.clear();
  for (const StepItem& item : items) {
    const Request& r = *item.request;
    const int64_t row_begin = row_count();
    sequences_.push_back({.slot = r.slot,
                          .row_begin = row_begin,
                          .row_count = item.token_count,
                          .position_begin = r.computed,
                          .prompt_length = r.prompt_length(),
                          .pages = r.pages.data()});
    for (int64_t i = 0; i < item.token_count; ++i) {
      tokens_.push_back(r.tokens[r.computed + i]);
      positions_.push_back(static_cast<int32_t>(r.computed + i));
    }
    output_begin_.push_back(static_cast<int64_t>(outputs_.size()));
    AddOutputs(item, row_begin);
  }
  output_begin_.push_back(static_cast<int64_t>(outputs_.size()));
}

// The row of position p predicts the token at p + 1: a prompt token whose log-probability is wanted
// and not yet known, or the next token.
void StepBatch::AddOutputs(const StepItem& item, int64_t row_begin) {
  Request& r = *item.request;
  const int64_t end = r.computed + item.token_count;
  if (!r.prompt_logprobs.empty()) {
    const int64_t start = r.in.logprobs.prompt_start;
    const int64_t target_begin = std::max(r.computed + 1, start + r.prompt_scored);
    const int64_t target_end = std::min(end + 1, r.prompt_length());
    for (int64_t target = target_begin; target < target_end; ++target)
      AddOutput(&r, target, row_begin + target - 1 - r.computed);
  }
  if (item.is_last && r.new_tokens_max() > 0) AddOutput(&r, -1, row_begin + item.token_count - 1);
}

void StepBatch::AddOutput(Request* request, int64_t prompt_position, int64_t row) {
  output_rows_.push_back(static_cast<int32_t>(row));
  OutputRow output;
  output.request = request;
  output.prompt_position = prompt_position;
  outputs_.push_back(std::move(output));
}

Batch StepBatch::View() const {
  return {.tokens = tokens_,
          .positions = positions_,
          .sequences = sequences_,
          .output_rows = output_rows_};
}

}  // namespace sluice
