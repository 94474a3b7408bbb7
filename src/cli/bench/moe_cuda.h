// `sluice bench moe --device cuda`.
#pragma once

#include "base/status.h"
#include "cli/bench/layers.h"

namespace sluice {

/// RunBenchMoe on a GPU: graph replays, the L2 cache emptied before each (unless `cached`), routing
/// drawn anew, beside a product of cuBLASLt and a read of the memory before and after every run;
/// errors against epmoe on the same device. Errors: kUnsupported where the program was built
/// without CUDA or there is no Hopper GPU; kInvalidArgument; kOutOfMemory; kInternal with CUDA's
/// message and what the kernel waited for.
Status BenchMoeOnCuda(const BenchMoeOptions& options);

}  // namespace sluice
