// How tokens are chosen from logits, and when to stop. Field names are those of SGLang's
// sampling_params; ranges are checked by ValidateSampling.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "sluice/status.h"

namespace sluice {

/// Order of operations: penalties, logit_bias, min-tokens mask, temperature, top-k, top-p, min-p,
/// sample. A temperature below 1e-6 means greedy (ties to the lower id).
struct SamplingParams {
  std::optional<int64_t> max_new_tokens = 128;  // none: the rest of the context; 0: prompt only
  int64_t min_new_tokens = 0;                   // until then no EOS, no stop id is chosen
  double temperature = 1;                       // >= 0
  double top_p = 1;                             // (0, 1]
  int64_t top_k = -1;                           // -1 or 0: all, else >= 1
  double min_p = 0;                             // [0, 1]
  double frequency_penalty = 0;                 // [-2, 2], over generated tokens
  double presence_penalty = 0;                  // [-2, 2], over generated tokens
  double repetition_penalty = 1;                // (0, 2], over prompt and generated tokens
  std::vector<std::pair<int32_t, float>> logit_bias = {};  // ids in the vocabulary, at most 1,024
  std::vector<std::string> stop = {};        // at most 16 of 256 bytes each, none empty
  std::vector<int32_t> stop_token_ids = {};  // in addition to the model's EOS ids
  bool ignore_eos = false;
  bool skip_special_tokens = true;    // in text
  bool no_stop_trim = false;          // keep the matched stop string in the text
  std::optional<uint64_t> seed = {};  // none: from the engine's own stream
  uint32_t choice = 0;                // index among n choices: stream (seed, choice)
};

/// Which log-probabilities to report.
struct LogprobOptions {
  bool enabled = false;
  int64_t prompt_start = -1;            // first prompt position reported; -1: none of the prompt
  int32_t top = 0;                      // best tokens a position, at most 256
  std::vector<int32_t> token_ids = {};  // report these ids at every position
  bool raw = false;                     // of generated tokens: raw logits, or after processing
};

struct TokenLogprob {
  int32_t id;
  float logprob;  // natural; the lowest float where the token is masked
};

/// Log-probabilities at one position.
struct PositionLogprobs {
  int32_t id = 0;
  std::optional<float> logprob = {};     // none: the first position reported has no predecessor
  std::vector<TokenLogprob> top = {};    // descending, ties by id
  std::vector<TokenLogprob> asked = {};  // in the order of LogprobOptions::token_ids
};

/// Errors: kInvalidArgument with the field's name, the value and the range.
Status ValidateSampling(const SamplingParams& sampling, int64_t vocab_size);
Status ValidateLogprobs(const LogprobOptions& logprobs, int64_t vocab_size, int64_t prompt_length);

}  // namespace sluice
