// The flags that `run` and `chat` share: the model's, and how to sample.
#pragma once

#include "cli/engine_flags.h"
#include "cli/run.h"

namespace sluice {

struct GenerateFlags {
  EngineFlags engine;
  RunOptions options;
  bool think = false, no_think = false, no_timing = false;
};

void AddGenerateFlags(CLI::App& parser, GenerateFlags& flags);

/// After parsing: applies the engine's flags and fills options.engine. The log is quiet (warnings
/// only) unless --log-level says otherwise: answers are what these commands show.
Status ApplyGenerateFlags(CLI::App& parser, GenerateFlags& flags);

}  // namespace sluice
