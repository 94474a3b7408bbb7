// The subcommands of `sluice bench` that open no model: machine, moe, linear.
#pragma once

#include "cli/bench/layers.h"
#include "cli/bench/machine.h"

namespace CLI {
class App;
}

namespace sluice {

struct BenchParts {
  BenchMachineOptions machine;
  BenchMoeOptions moe;
  BenchLinearOptions linear;
};

void AddBenchParts(CLI::App& bench, BenchParts& parts);

/// Runs the part that was asked for. The exit status, or -1: none was.
int RunBenchPart(const CLI::App& bench, const BenchParts& parts);

}  // namespace sluice
