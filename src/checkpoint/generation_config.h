// generation_config.json: which tokens end an answer, and what to sample with where a request does
// not say. Impossible values are refused when the model is loaded, not at the first request.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/status.h"

namespace sluice {

/// Absent fields stay empty: the server's own defaults then hold.
struct GenerationConfig {
  std::vector<int32_t> eos_token_ids;        // one id or a list in the file; each < vocab_size
  std::optional<double> temperature;         // [0, 100]
  std::optional<double> top_p;               // (0, 1]
  std::optional<int64_t> top_k;              // -1 or 0: all; otherwise 1 .. 2^31 - 1
  std::optional<double> min_p;               // [0, 1]
  std::optional<double> repetition_penalty;  // (0, 2]
};

/// Reads generation_config.json of a model directory; without the file every field is empty. Other
/// fields of the file are ignored. Errors: kInvalidArgument with one line for each field that is
/// wrong.
Result<GenerationConfig> ReadGenerationConfig(const std::string& directory, int64_t vocab_size);

}  // namespace sluice
