// Writes a CtaTrace, or nothing: the normal kernel's tracer is empty, so that it costs no register.
#pragma once

#include "kernels/moe/cuda_sm90/fused_trace.h"
#include "kernels/moe/cuda_sm90/instructions.cuh"

namespace sluice::moe_sm90 {

/// Of one warp; one of its threads writes.
template <bool kInstrumented>
class Tracer {
 public:
  __device__ Tracer(CtaTrace*, int, bool) {}
  __device__ uint32_t Now() const { return 0; }
  __device__ void Add(Did, uint32_t, int) {}
};

template <>
class Tracer<true> {
 public:
  /// `trace` may be nullptr; `mine`: whether this thread writes. After StartTrace and a barrier.
  __device__ Tracer(CtaTrace* trace, int warp, bool mine)
      : trace_(mine ? trace : nullptr), warp_(warp) {
    if (trace_) start_ = trace_->begin_ticks;
  }
  __device__ uint32_t Now() const {
    return trace_ ? static_cast<uint32_t>(static_cast<uint64_t>(clock64()) - start_) : 0;
  }
  __device__ void Add(Did what, uint32_t begin, int idx) {
    if (!trace_) return;
    if (count_ < kTraceEvents)
      trace_->events[warp_][count_] = {begin, Now(), static_cast<uint32_t>(what), idx};
    trace_->counts[warp_] = ++count_;
  }

 private:
  CtaTrace* trace_;
  int warp_, count_ = 0;
  uint64_t start_ = 0;
};

/// One thread. The timer advances in steps of up to a microsecond: its next step.
__device__ inline void ReadClocks(uint64_t& ns, uint64_t& ticks) {
  const uint64_t before = Nanoseconds();
  for (int i = 0; i < 100000; ++i)
    if ((ns = Nanoseconds()) != before) break;
  ticks = static_cast<uint64_t>(clock64());
}
__device__ inline void StartTrace(CtaTrace* trace) {
  for (int& count : trace->counts) count = 0;
  ReadClocks(trace->begin_ns, trace->begin_ticks);
}
__device__ inline void EndTrace(CtaTrace* trace) { ReadClocks(trace->end_ns, trace->end_ticks); }

}  // namespace sluice::moe_sm90
