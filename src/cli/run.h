// `sluice run`: one prompt, one answer, on standard output.
#pragma once

#include <optional>
#include <string>

#include "sluice/engine.h"

namespace sluice {

struct RunOptions {
  EngineOptions engine;
  std::string prompt;                   // text; "-": standard input
  std::string input_ids;                // instead of text: "1,2,3"; then the answer is ids too
  std::string system;                   // a system message before the prompt
  bool raw = false;                     // no chat template even if the model has one
  bool show_timing = true;              // on standard error
  std::optional<bool> enable_thinking;  // chat_template_kwargs.enable_thinking
  std::optional<double> temperature, top_p;
  std::optional<int64_t> top_k, max_new_tokens;
  std::optional<uint64_t> seed;
  bool ignore_eos = false;
};

/// Exit status: 0, or 2 for what the user can mend, 1 for the rest.
int RunPrompt(const RunOptions& options);

/// The model's defaults with what the flags say laid over them.
SamplingParams SamplingFrom(const RunOptions& options, const EngineInfo& info);

}  // namespace sluice
