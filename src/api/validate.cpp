// The ranges of sampling parameters: the edge calls these, and Submit again.
#include <algorithm>
#include <cmath>

#include "base/status.h"
#include "sluice/sampling.h"
#include "text/tokenizer/stop_matcher.h"

namespace sluice {
namespace {

constexpr size_t kIdsMax = 1024;  // logit_bias entries, stop ids, asked ids
constexpr float kBiasMax = 100;
constexpr int32_t kTopLogprobsMax = 256;
constexpr int64_t kLogprobEntriesMax = int64_t{1} << 22;  // of one prompt: 32 MiB

Status InRange(std::string_view name, double value, double low, double high) {
  if (value >= low && value <= high) return {};
  return ParamError(Code::kInvalidArgument, name, "{} must be in [{}, {}], found {}", name, low,
                    high, value);
}

Status InVocabulary(std::string_view name, int32_t id, int64_t vocab_size) {
  if (id >= 0 && id < vocab_size) return {};
  return ParamError(Code::kInvalidArgument, name, "{}: id {} is outside the vocabulary [0, {})",
                    name, id, vocab_size);
}

Status AtMost(std::string_view name, size_t count, size_t most) {
  if (count <= most) return {};
  return ParamError(Code::kInvalidArgument, name, "{} has {} entries, allowed are {}", name, count,
                    most);
}

Status ValidateLengths(const SamplingParams& s) {
  if (s.max_new_tokens && *s.max_new_tokens < 0)
    return ParamError(Code::kInvalidArgument, "max_new_tokens",
                      "max_new_tokens must be at least 0, found {}", *s.max_new_tokens);
  if (s.min_new_tokens < 0 || (s.max_new_tokens && s.min_new_tokens > *s.max_new_tokens))
    return ParamError(Code::kInvalidArgument, "min_new_tokens",
                      "min_new_tokens must be in [0, max_new_tokens ({})], found {}",
                      s.max_new_tokens ? *s.max_new_tokens : -1, s.min_new_tokens);
  return {};
}

Status ValidateDistribution(const SamplingParams& s) {
  if (!(s.temperature >= 0) || std::isinf(s.temperature))
    return ParamError(Code::kInvalidArgument, "temperature",
                      "temperature must be non-negative and finite, found {}", s.temperature);
  if (!(s.top_p > 0 && s.top_p <= 1))
    return ParamError(Code::kInvalidArgument, "top_p", "top_p must be in (0, 1], found {}",
                      s.top_p);
  if (s.top_k < -1)
    return ParamError(Code::kInvalidArgument, "top_k",
                      "top_k must be -1 or 0 (all), or at least 1, found {}", s.top_k);
  RETURN_IF_ERROR(InRange("min_p", s.min_p, 0, 1));
  RETURN_IF_ERROR(InRange("frequency_penalty", s.frequency_penalty, -2, 2));
  RETURN_IF_ERROR(InRange("presence_penalty", s.presence_penalty, -2, 2));
  if (!(s.repetition_penalty > 0 && s.repetition_penalty <= 2))
    return ParamError(Code::kInvalidArgument, "repetition_penalty",
                      "repetition_penalty must be in (0, 2], found {}", s.repetition_penalty);
  return {};
}

}  // namespace

Status ValidateSampling(const SamplingParams& sampling, int64_t vocab_size) {
  RETURN_IF_ERROR(ValidateLengths(sampling));
  RETURN_IF_ERROR(ValidateDistribution(sampling));
  RETURN_IF_ERROR(AtMost("logit_bias", sampling.logit_bias.size(), kIdsMax));
  for (const auto& [id, bias] : sampling.logit_bias) {
    RETURN_IF_ERROR(InVocabulary("logit_bias", id, vocab_size));
    if (!(std::abs(bias) <= kBiasMax))
      return ParamError(Code::kInvalidArgument, "logit_bias",
                        "logit_bias of id {} must be in [-100, 100], found {}", id, bias);
  }
  RETURN_IF_ERROR(AtMost("stop_token_ids", sampling.stop_token_ids.size(), kIdsMax));
  for (const int32_t id : sampling.stop_token_ids)
    RETURN_IF_ERROR(InVocabulary("stop_token_ids", id, vocab_size));
  return StopMatcher::Create(sampling.stop, sampling.no_stop_trim).status();
}

Status ValidateLogprobs(const LogprobOptions& logprobs, int64_t vocab_size, int64_t prompt_length) {
  if (!logprobs.enabled) return {};
  if (logprobs.prompt_start < -1 || logprobs.prompt_start >= prompt_length)
    return ParamError(Code::kInvalidArgument, "logprob_start_len",
                      "logprob_start_len must be -1 or in [0, {}) (the prompt's tokens), found {}",
                      prompt_length, logprobs.prompt_start);
  if (logprobs.top < 0 || logprobs.top > kTopLogprobsMax)
    return ParamError(Code::kInvalidArgument, "top_logprobs_num",
                      "top_logprobs_num must be in [0, {}], found {}", kTopLogprobsMax,
                      logprobs.top);
  RETURN_IF_ERROR(AtMost("token_ids_logprob", logprobs.token_ids.size(), kIdsMax));
  for (const int32_t id : logprobs.token_ids)
    RETURN_IF_ERROR(InVocabulary("token_ids_logprob", id, vocab_size));
  if (logprobs.prompt_start < 0) return {};
  const int64_t entries = (prompt_length - logprobs.prompt_start) *
                          (logprobs.top + static_cast<int64_t>(logprobs.token_ids.size()));
  if (entries > kLogprobEntriesMax)
    return ParamError(Code::kInvalidArgument, "logprob_start_len",
                      "{} log-probabilities of the prompt asked for (positions times "
                      "top_logprobs_num and token_ids_logprob), allowed are {}",
                      entries, kLogprobEntriesMax);
  return {};
}

}  // namespace sluice
