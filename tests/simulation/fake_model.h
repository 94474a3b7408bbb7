// A model that makes the engine's mistakes visible: a page row holds the hash of its token and its
// predecessor, the slot a running hash, and the next token depends on what the step can read
// through pages and slot. A wrong page, a stale state, a neighbour's data or a wrong origin changes
// the output, so a request's output in a crowd must equal its output alone.
#pragma once

#include <atomic>
#include <cstdint>

#include "models/model.h"

namespace sluice {

class FakeModel : public Model {
 public:
  explicit FakeModel(int64_t vocab = 64);

  const ModelInfo& info() const override { return info_; }
  const CacheLayout& cache_layout() const override { return layout_; }
  uint64_t ScratchBytes(int64_t rows, int64_t output_rows, int lanes) const override;
  void Forward(const Batch& batch, const CachePools& pools, View<float, 2> hidden,
               Exec& exec) const override;
  void Logits(View<const float, 2> hidden, View<float, 2> logits, Exec& exec) const override;

  /// Logits that follow this token are NaN; -1: none.
  int32_t poison_token = -1;
  /// Microseconds that a step takes, for tests of the thread.
  int64_t step_us = 0;
  /// Throws std::bad_alloc at this step; -1: never.
  int64_t throw_at_step = -1;

  int64_t forwards() const { return forwards_; }

 private:
  uint64_t RunRow(const Batch& batch, const SequenceStep& sequence, int64_t row,
                  const CachePools& pools) const;

  ModelInfo info_;
  CacheLayout layout_;
  mutable std::atomic<int64_t> forwards_{0};
};

}  // namespace sluice
