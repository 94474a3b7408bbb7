// The instructions that CUDA C++ has no words for, and the waits and descriptions made of them. On
// a GPU they are those of ptx.cuh and wgmma.cuh; tests on a CPU have those of emulated/.
#pragma once

#ifdef __CUDACC__
#include "kernels/moe/cuda_sm90/ptx.cuh"
#include "kernels/moe/cuda_sm90/wgmma.cuh"
#else
#include "kernels/moe/cuda_sm90/emulated/instructions.h"
#endif

namespace sluice::moe_sm90 {

/// Some seconds of polling, then the launch dies instead of hanging the device.
inline constexpr uint32_t kPollsMax = 1u << 21;

__device__ inline void Stop(Fault* fault, Waiting what, int idx, int found, int expected) {
  fault->what = static_cast<int>(what);
  fault->cta = static_cast<int>(blockIdx.x);
  fault->idx = idx;
  fault->found = found;
  fault->expected = expected;
  __threadfence_system();
  __trap();
}

/// One thread waits; what the announcers wrote before is then visible to it and, after a barrier,
/// to its warp.
__device__ inline void WaitAtLeast(const int* counter, int expected, Fault* fault, Waiting what,
                                   int idx) {
  int found = LoadAcquire(counter);
  for (uint32_t polls = 0; found < expected; ++polls) {
    Pause(counter, found, expected, what, idx);
    if (polls == kPollsMax) Stop(fault, what, idx, found, expected);
    found = LoadAcquire(counter);
  }
}
__device__ inline void BarrierWait(uint64_t* barrier, uint32_t parity, Fault* fault, Waiting what) {
  for (uint32_t polls = 0; !BarrierTryWait(barrier, parity, what); ++polls)
    if (polls == kPollsMax) Stop(fault, what, static_cast<int>(parity), 0, 0);
}

/// Describes an operand of Wgmma: start address, 8 rows are 1,024 bytes, 128-byte swizzle. The next
/// 32 bytes of K: + 2.
__device__ inline uint64_t OperandDescriptor(uint32_t shared_address) {
  return uint64_t{(shared_address & 0x3FFFF) >> 4} | uint64_t{1} << 16 | uint64_t{64} << 32 |
         uint64_t{1} << 62;
}

}  // namespace sluice::moe_sm90
