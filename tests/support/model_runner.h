// Runs a model without the engine: pools, page tables and batches by hand, every row's logits out.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "models/model.h"

namespace sluice {

class ModelRunner {
 public:
  /// Room for `sequences` requests of `tokens` positions each, and steps of at most `rows` rows.
  ModelRunner(const Model& model, int lanes, int64_t sequences, int64_t tokens, int64_t rows);

  /// A new request whose first `prompt_length` positions count as prompt. Returns its number.
  int Start(int64_t prompt_length);
  /// Forgets a request's progress but keeps its place and prompt length: what a retract does.
  void Rewind(int sequence);

  struct Piece {
    int sequence;
    std::vector<int32_t> tokens;  // appended at the request's current length
  };
  /// One step. Returns the logits of every row, in the order of the pieces: [rows][vocab_size].
  std::vector<std::vector<float>> Step(const std::vector<Piece>& pieces,
                                       const DebugTap* tap = nullptr);

  /// Appends tokens in chunks of at most `chunk`; the logits of every row.
  std::vector<std::vector<float>> Feed(int sequence, std::span<const int32_t> tokens,
                                       int64_t chunk);
  /// Feeds a prompt whole, then continues greedily; `logits` (if given) gets the row of each token.
  std::vector<int32_t> Greedy(std::span<const int32_t> prompt, int count,
                              std::vector<std::vector<float>>* logits = nullptr);

  int64_t length(int sequence) const { return requests_[sequence].length; }
  const Arena& scratch() const { return scratch_; }

 private:
  struct Request {
    int32_t slot;
    int64_t prompt_length;
    int64_t length = 0;
    std::vector<int32_t> pages;
  };

  const Model& model_;
  const int64_t rows_max_;
  Team team_;
  Arena scratch_;
  KvPagePool kv_;
  RecurrentPool recurrent_;
  Exec exec_;
  std::vector<Request> requests_;
};

/// The largest logit's index, the lowest on ties.
int32_t ArgMax(const std::vector<float>& logits);

}  // namespace sluice
