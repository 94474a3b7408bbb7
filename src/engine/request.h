// A request as the engine sees it: token ids in, token ids out.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "base/status.h"
#include "kernels/sampling/token_history.h"
#include "sluice/sampling.h"

namespace sluice {

/// What comes in: checked, with every default resolved.
struct CoreRequest {
  uint64_t key = 0;             // unique; larger for later arrivals
  std::vector<int32_t> prompt;  // not empty, ids in the vocabulary
  SamplingParams sampling;      // max_new_tokens has a value; prompt + new fit the context
  LogprobOptions logprobs;
  std::vector<int32_t> stop_ids;  // sorted: EOS ids and the request's own
  uint64_t seed = 0;
  void* owner = nullptr;        // handed back in every event
  double admit_by_seconds = 0;  // MonotonicSeconds() beyond which it ends unless admitted; 0: never
};

struct CoreFinish {
  enum class Type { kStop, kLength, kAbort };
  Type type = Type::kStop;
  int32_t matched_token = -1;  // kStop
  Status error = {};           // kAbort: why
};

/// What comes out of a step for one request: a token, an end, or both. A request's events come in
/// order, the last one (and only that) has `finish`.
struct CoreEvent {
  void* owner = nullptr;
  int32_t token = -1;
  std::optional<PositionLogprobs> logprobs;       // of `token`, if asked for
  std::vector<PositionLogprobs> prompt_logprobs;  // all of them, with the first event
  std::optional<CoreFinish> finish;
  double admitted_seconds = 0;  // MonotonicSeconds() of the first admission
  double made_seconds = 0;      // of the step's end, before any queue to the client
};

/// A live request and the memory it owns. `tokens` are the prompt and what was generated; positions
/// [0, computed) have been through the model since the last admission. Running requests own pages
/// for every token and a slot; waiting ones own nothing and have computed == 0.
struct Request {
  explicit Request(CoreRequest request) : in(std::move(request)), tokens(in.prompt) {}

  CoreRequest in;
  std::vector<int32_t> tokens;
  int64_t computed = 0;
  std::vector<int32_t> pages;
  int32_t slot = -1;

  bool admitted_before = false;
  double admitted_seconds = 0;          // of the first admission
  int64_t generated_at_admission = 0;   // of the latest one
  std::optional<TokenHistory> history;  // only with penalties
  std::vector<PositionLogprobs> prompt_logprobs;
  int64_t prompt_scored = 0;  // entries of prompt_logprobs done; survives a retract

  int64_t prompt_length() const { return static_cast<int64_t>(in.prompt.size()); }
  int64_t token_count() const { return static_cast<int64_t>(tokens.size()); }
  int64_t generated() const { return token_count() - prompt_length(); }
  int64_t remaining() const { return token_count() - computed; }
  int64_t new_tokens_max() const { return *in.sampling.max_new_tokens; }
  /// One token is missing, and it is one that was generated.
  bool is_decoding() const { return remaining() == 1 && generated() > 0; }
};

}  // namespace sluice
