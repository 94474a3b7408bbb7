// Choosing tokens from rows of logits, and reporting log-probabilities.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/sampling/token_history.h"
#include "sluice/sampling.h"
#include "tensor/exec.h"

namespace sluice {

enum class RowFault {
  kNone,
  kNotFinite,    // a raw logit is NaN or infinite
  kNothingLeft,  // every token is masked
};

/// One row of logits and what is wanted of it. Borrowed pointers outlive the call.
///
/// A sampled row (target < 0) goes through, in this order:
///   repetition penalty: l > 0 ? l / r : l * r, for every id of the prompt or generated (HF's rule)
///   l -= frequency * (times generated) + presence * (generated at all)
///   l += logit_bias;  l = -inf for `masked`;  l /= temperature
///   top-k: the k largest, ties to the lower id
///   top-p: in descending order, ids whose mass before them is < top_p of what top-k left
///   min-p: ids with at least min_p times the largest probability
///   the token: inverse of the distribution function over ids at SamplingUniform(...)
/// Temperatures below 1e-6 and top_k = 1 take the largest logit, ties to the lower id.
struct SamplingRow {
  float* logits = nullptr;                 // [vocab]; overwritten
  const SamplingParams* params = nullptr;  // of a sampled row, in the ranges of ValidateSampling
  const TokenHistory* history = nullptr;   // needed only for penalties
  std::span<const int32_t> masked = {};    // min_new_tokens: EOS and stop ids
  uint64_t seed = 0;
  int64_t position = 0;  // absolute position of the token to choose

  int32_t target = -1;                       // >= 0: sample nothing, score this id on raw logits
  const LogprobOptions* logprobs = nullptr;  // null: `report` stays as it is
  PositionLogprobs* report = nullptr;

  int32_t token = -1;                // out: the id chosen
  RowFault fault = RowFault::kNone;  // out; on a fault nothing else is written
  int64_t fault_id = 0;              // out, kNotFinite: the first such id
};

/// Uniform in [0, 1): a function of the request's seed, its choice index and the absolute position
/// only, so a token never depends on what else is running.
double SamplingUniform(uint64_t seed, uint32_t choice, int64_t position);

/// Fills the out fields of every row. A row's result depends on that row alone: not on the others,
/// on the lanes or on the instruction set (one AVX2 implementation, fixed order of sums).
/// Log-probabilities are natural, of raw logits for targets and LogprobOptions::raw, else after
/// everything up to the temperature (greedy: 1); masked ids get the lowest float.
/// Linear in vocab: selection by radix, never a full sort.
void SampleRows(std::span<SamplingRow> rows, int64_t vocab, Exec& exec);

/// Bytes of exec.scratch that SampleRows takes for at most `rows` rows.
uint64_t SamplingScratchBytes(int64_t rows, int64_t vocab, int lanes);

/// The definition, in doubles and plain loops: probabilities [vocab] after every step above, and
/// the log-probabilities [vocab] before top-k. `logits` is not changed. Empty on a fault.
struct ReferenceDistribution {
  std::vector<double> probabilities;
  std::vector<double> logprobs;
};
ReferenceDistribution SamplingReference(const SamplingRow& row, int64_t vocab);

}  // namespace sluice
