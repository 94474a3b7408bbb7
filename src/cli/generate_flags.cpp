#include "cli/generate_flags.h"

#include <CLI/CLI.hpp>

#include "cli/number_checks.h"

namespace sluice {

void AddGenerateFlags(CLI::App& parser, GenerateFlags& flags) {
  AddEngineFlags(parser, flags.engine);
  RunOptions& o = flags.options;
  const char* const group = "Answer";
  parser
      .add_option("--max-new-tokens,--max-tokens", o.max_new_tokens,
                  "Longest answer [what the context leaves]")
      ->check(NotNegative)
      ->group(group);
  parser.add_option("--temperature", o.temperature, "0: greedy [the model's own default]")
      ->check(NotNegative)
      ->group(group);
  parser.add_option("--top-p", o.top_p, "Sample from the likeliest tokens of this total share")
      ->group(group);
  parser.add_option("--top-k", o.top_k, "Sample from so many of the likeliest tokens")
      ->group(group);
  parser.add_option("--seed", o.seed, "The same seed gives the same answer")
      ->check(NotNegative)
      ->group(group);
  parser.add_flag("--ignore-eos", o.ignore_eos, "Go on where the model would end its answer")
      ->group(group);
  parser.add_option("--system", o.system, "A system message before the first question")
      ->group(group);
  parser.add_flag("--think", flags.think, "Ask the model's template for thinking")->group(group);
  parser.add_flag("--no-think", flags.no_think, "Ask it for none")->group(group);
  parser.add_flag("--no-timing", flags.no_timing, "Do not print tokens per second")->group(group);
}

Status ApplyGenerateFlags(CLI::App& parser, GenerateFlags& flags) {
  if (parser.count("--log-level") == 0) flags.engine.log_level = "warning";
  RETURN_IF_ERROR(ApplyEngineFlags(flags.engine));
  RunOptions& o = flags.options;
  o.engine = flags.engine.options;
  if (flags.think || flags.no_think) o.enable_thinking = flags.think;
  o.show_timing = !flags.no_timing;
  return {};
}

}  // namespace sluice
