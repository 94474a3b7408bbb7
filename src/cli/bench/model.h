// `sluice bench`: prefill and decode of a model on this machine, and where the time of a step goes.
#pragma once

#include <vector>

#include "sluice/engine.h"

namespace sluice {

struct BenchOptions {
  EngineOptions engine;
  int64_t prompt_tokens = 512;
  int64_t decode_tokens = 64;
  std::vector<int> concurrency = {1, 16};
  int runs = 3;
  uint64_t seed = 1;
};

/// Prints this machine's ceilings, then for each concurrency the medians of prefill and decode
/// tokens/s, and the milliseconds of each operation in a prefill and in a decode step. Exit status
/// as RunPrompt.
int RunBench(const BenchOptions& options);

}  // namespace sluice
