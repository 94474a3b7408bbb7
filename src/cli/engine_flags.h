// The flags that every command that opens a model shares. Names and defaults are SGLang's.
#pragma once

#include <string>

#include "base/status.h"
#include "sluice/engine.h"

namespace CLI {
class App;
}

namespace sluice {

struct EngineFlags {
  EngineOptions options;
  std::string log_level = "info";
  std::string trace_path;  // Chrome trace written at the end; empty: none
};

void AddEngineFlags(CLI::App& parser, EngineFlags& flags);

/// Whether an environment variable that SGLang has too is set, and not to 0 or false.
bool IsOn(const char* variable);

/// After parsing: sets the log level, reads the environment (docs/wire-api.md), starts tracing.
/// Errors: kInvalidArgument naming the flag.
Status ApplyEngineFlags(EngineFlags& flags);

/// At the end: writes the trace, if one was asked for.
void FinishEngineFlags(const EngineFlags& flags);

}  // namespace sluice
