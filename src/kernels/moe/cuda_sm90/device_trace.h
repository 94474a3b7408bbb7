// The trace of the instrumented fused kernel as spans on one clock.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/moe/cuda_sm90/fused_trace.h"

namespace sluice::moe_sm90 {

/// One thing that one warp did. Warp 0 fetches, 2 and 3 move rows, 4 to 11 multiply; all of them
/// move rows at the end.
struct DeviceSpan {
  const char* name;  // a stage's, as kStageNames of the CLI has them, or one of the fetching warp
  int cta, warp, idx;
  uint64_t begin_ns, end_ns;  // since the first CTA began
};

struct DeviceTrace {
  std::vector<DeviceSpan> spans;  // CTA by CTA, warp by warp, in order
  uint64_t end_ns = 0;            // when the last CTA ended
  int64_t dropped = 0;            // that had no room
};

/// "sort", "waiting", "gate/up", "down", "activation" (writing what came out, after either
/// product), "input" (the fetching warp waits), "fetch", "gather" (rows sent), "unpack" (rows
/// quantised), "combine"; "?" for any other number.
const char* DidName(uint32_t what);

/// Every multiprocessor's ticks run at the median of the rates that the CTAs saw.
DeviceTrace ReadTrace(std::span<const CtaTrace> ctas);

}  // namespace sluice::moe_sm90
