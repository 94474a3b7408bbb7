// `sluice chat`: a conversation in the terminal.
#pragma once

#include "cli/run.h"

namespace sluice {

/// Reads lines until Ctrl-D or /exit; keeps the history; Ctrl-C stops an answer, not the program.
/// Commands: /help, /clear, /system TEXT, /think on|off, /exit. Uses the sampling flags of
/// `options`.
int RunChat(const RunOptions& options);

}  // namespace sluice
