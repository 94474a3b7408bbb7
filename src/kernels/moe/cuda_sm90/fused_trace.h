// What the warps of the instrumented fused kernel leave behind: begin and end of everything that
// they did.
#pragma once

#include <cstdint>

namespace sluice::moe_sm90 {

enum class Did : uint32_t {
  kSort,
  kWaitTask,  // math warpgroups
  kGateUp,
  kDown,
  kWrite,      // what came out of a product
  kWaitInput,  // fetching warp: for the task's rows or its place in the ring
  kFetch,
  kSend,  // row items, waits included
  kQuantize,
  kCombine,
};
inline constexpr int kDidKinds = 10;

/// Ticks of the multiprocessor's clock since the CTA's start.
struct TraceEvent {
  uint32_t begin, end;
  uint32_t what;  // a Did
  int32_t idx;    // row block of a task; position of a row item
};

inline constexpr int kTraceWarps = 12, kTraceEvents = 512;

/// One CTA's. Ticks of two multiprocessors begin and run differently; nanoseconds are the device's,
/// read where they advanced.
struct CtaTrace {
  uint64_t begin_ns, begin_ticks, end_ns, end_ticks;
  int32_t counts[kTraceWarps];  // of events, also of those for which there was no room
  TraceEvent events[kTraceWarps][kTraceEvents];
};

}  // namespace sluice::moe_sm90
