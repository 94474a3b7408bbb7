// `sluice bench machine`: what this machine can do at most.
#pragma once

namespace sluice {

struct BenchMachineOptions {
  int threads = 0;  // 0: every usable core
  bool json = false;
};

/// Prints peak rates of multiply-accumulate instructions (operands from registers, L1, L2), rates
/// at which stored weights are unpacked, read and copy bandwidth, and the latency of a barrier and
/// of an empty call of the team; medians, in a few seconds. Exit status as RunPrompt.
int RunBenchMachine(const BenchMachineOptions& options);

}  // namespace sluice
