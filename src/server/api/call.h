// A generation call: what /generate, /v1/completions and /v1/chat/completions become once they are
// parsed, and once their prompts are token ids.
#pragma once

#include <boost/json/object.hpp>
#include <boost/json/value.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "sluice/engine.h"

namespace sluice {

enum class Api { kNative, kCompletion, kChat };

/// Facts and settings that reading a request needs.
struct ApiConfig {
  std::string model_name;          // served name
  bool strict_model_name = false;  // another `model` is refused
  SamplingParams openai_defaults;  // of temperature, top_p, top_k, min_p, repetition_penalty
  boost::json::object preferred_sampling;  // under the sampling_params of native requests
  std::optional<bool> raw_logprobs;        // none: native processed, OpenAI raw
  int64_t max_logprobs = 20;               // of the OpenAI routes
  bool allow_auto_truncate = false;
  bool incremental_streaming = false;  // native frames carry only what is new
  int64_t stream_interval = 1;         // tokens a frame
  int64_t vocab_size = 0;
  int64_t context_length = 0;
};

/// A prompt as sent.
struct PromptSource {
  std::optional<std::string> text;  // or:
  std::vector<int32_t> ids;
};

/// Log-probabilities asked for one prompt.
struct LogprobRequest {
  bool enabled = false;
  int64_t start = -1;  // native: first prompt position, -1: the last
  int32_t top = 0;
  std::vector<int32_t> token_ids;
};

/// A parsed request: everything checked that can be without tokenizer and engine.
struct CallRequest {
  Api api = Api::kNative;
  std::string model;
  std::vector<std::string> rids;  // empty, one, or one a prompt
  bool stream = false;
  bool include_usage = false, continuous_usage = false;
  int64_t n = 1;
  bool list_answer = false;  // native: an array even for one prompt
  bool echo = false;
  bool return_text_in_logprobs = true, output_logprobs_only = false;
  bool return_token_ids = false, tokens_as_ids = false;
  std::optional<int64_t> stream_interval;

  std::vector<PromptSource> prompts;     // empty for chat
  std::vector<SamplingParams> sampling;  // one a prompt
  std::vector<LogprobRequest> logprobs;  // one a prompt

  // Chat. The values point into the request's document.
  const boost::json::value* messages = nullptr;
  const boost::json::value* tools = nullptr;
  boost::json::object template_kwargs;
  bool add_generation_prompt = true, continue_final_message = false;
};

/// A call that is ready for the engine.
struct Call {
  CallRequest request;
  std::string id;  // of the whole call
  int64_t created = 0;
  double received_seconds = 0;  // MonotonicSeconds()
  struct Prompt {
    std::vector<int32_t> ids;
    std::string text;  // what an echo shows
  };
  std::vector<Prompt> prompts;
  std::vector<GenerateRequest> generations;  // prompt-major: prompt * n + choice

  const Prompt& PromptOf(size_t generation) const {
    return prompts[generation / static_cast<size_t>(request.n)];
  }
  size_t PromptIndexOf(size_t generation) const {
    return generation / static_cast<size_t>(request.n);
  }
};

}  // namespace sluice
