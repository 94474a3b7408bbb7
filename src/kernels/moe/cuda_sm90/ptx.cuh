// Small wrappers around what CUDA C++ has no words for: mbarriers, bulk tensor copies, counters in
// global memory, register budgets. Source: PTX ISA 9.0.
#pragma once

#include <cuda.h>

#include <cstdint>

#include "kernels/moe/cuda_sm90/fault.h"

namespace sluice::moe_sm90 {

__device__ inline uint32_t SharedAddress(const void* p) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(p));
}

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

// ---- Counters in global memory. All ranks are on one device; over NVLink `.gpu` becomes `.sys`.
// ----

__device__ inline int LoadAcquire(const int* counter) {
  int value;
  asm volatile("ld.acquire.gpu.global.s32 %0, [%1];" : "=r"(value) : "l"(counter) : "memory");
  return value;
}
/// After a barrier among the threads whose writes it announces.
__device__ inline void AddRelease(int* counter, int value) {
  asm volatile("red.release.gpu.global.add.s32 [%0], %1;" ::"l"(counter), "r"(value) : "memory");
}
/// One thread waits; what the announcers wrote before is then visible to it and, after a barrier,
/// to its warp.
__device__ inline void WaitAtLeast(const int* counter, int expected, Fault* fault, Waiting what,
                                   int idx) {
  int found = LoadAcquire(counter);
  for (uint32_t polls = 0; found < expected; ++polls) {
    __nanosleep(20);
    if (polls == kPollsMax) Stop(fault, what, idx, found, expected);
    found = LoadAcquire(counter);
  }
}
/// Orders plain accesses to global memory and those of the copy engine; on both sides.
__device__ inline void FenceCopyEngine() { asm volatile("fence.proxy.async.global;" ::: "memory"); }

// ---- mbarriers in shared memory. ----

__device__ inline void BarrierInit(uint64_t* barrier, uint32_t arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(SharedAddress(barrier)),
               "r"(arrivals)
               : "memory");
}
/// Makes initialised barriers visible to the copy engine.
__device__ inline void FenceBarrierInit() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}
__device__ inline void BarrierArrive(uint64_t* barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(SharedAddress(barrier)) : "memory");
}
__device__ inline void BarrierArriveExpecting(uint64_t* barrier, uint32_t bytes) {
  asm volatile(
      "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(SharedAddress(barrier)),
      "r"(bytes)
      : "memory");
}
__device__ inline bool BarrierTryWait(uint64_t* barrier, uint32_t parity) {
  uint32_t done;
  asm volatile(
      "{\n.reg .pred p;\nmbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n"
      "selp.u32 %0, 1, 0, p;\n}\n"
      : "=r"(done)
      : "r"(SharedAddress(barrier)), "r"(parity)
      : "memory");
  return done != 0;
}
__device__ inline void BarrierWait(uint64_t* barrier, uint32_t parity, Fault* fault, Waiting what) {
  for (uint32_t polls = 0; !BarrierTryWait(barrier, parity); ++polls)
    if (polls == kPollsMax) Stop(fault, what, static_cast<int>(parity), 0, 0);
}
/// Among `threads` threads that name the same `id` (1 .. 15).
__device__ inline void NamedBarrier(int id, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

// ---- The copy engine. ----

enum class CachePolicy : uint64_t {
  kEvictFirst = 0x12F0000000000000,
  kEvictNormal = 0x1000000000000000,
  kEvictLast = 0x14F0000000000000,
};

/// A box of a row-major matrix: `column`, in elements of the map, and `row` are its first ones.
/// Completes on `barrier` with the whole box's bytes; what lies outside the matrix becomes zero.
__device__ inline void CopyBox(void* shared, const CUtensorMap* map, int column, int row,
                               uint64_t* barrier, CachePolicy policy) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes"
      ".L2::cache_hint [%0], [%1, {%3, %4}], [%2], %5;" ::"r"(SharedAddress(shared)),
      "l"(map), "r"(SharedAddress(barrier)), "r"(column), "r"(row),
      "l"(static_cast<uint64_t>(policy))
      : "memory");
}
__device__ inline void PrefetchMap(const CUtensorMap* map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory");
}

// ---- Registers of a warpgroup; all its warps call. ----

template <int kRegisters>
__device__ void LowerRegisters() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}
template <int kRegisters>
__device__ void RaiseRegisters() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

}  // namespace sluice::moe_sm90
