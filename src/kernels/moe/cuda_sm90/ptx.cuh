// Small wrappers around what CUDA C++ has no words for: mbarriers, bulk tensor copies, counters in
// global memory, register budgets. Source: PTX ISA 9.0. Include instructions.cuh instead.
#pragma once

#include <cuda.h>

#include <cstdint>

#include "kernels/moe/cuda_sm90/fault.h"

namespace sluice::moe_sm90 {

__device__ inline uint32_t SharedAddress(const void* p) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(p));
}

/// The launch's dynamic shared memory.
template <class T>
__device__ T* DynamicShared() {
  extern __shared__ __align__(1024) uint8_t dynamic_shared[];
  return reinterpret_cast<T*>(dynamic_shared);
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
/// Between two looks at a counter. What is waited for is of use to the emulated device only.
__device__ inline void Pause(const int*, int, int, Waiting, int) { __nanosleep(20); }
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
/// The last argument as in Pause.
__device__ inline bool BarrierTryWait(uint64_t* barrier, uint32_t parity, Waiting) {
  uint32_t done;
  asm volatile(
      "{\n.reg .pred p;\nmbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n"
      "selp.u32 %0, 1, 0, p;\n}\n"
      : "=r"(done)
      : "r"(SharedAddress(barrier)), "r"(parity)
      : "memory");
  return done != 0;
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

/// Two floats that no launch before the next writes. Volatile: else the loads of a whole tile are
/// hoisted, and registers spilled.
__device__ inline float2 LoadConstantPair(const float* address) {
  float2 pair;
  asm volatile("ld.global.nc.v2.f32 {%0, %1}, [%2];" : "=f"(pair.x), "=f"(pair.y) : "l"(address));
  return pair;
}
/// The device's clock; it advances in steps of up to a microsecond.
__device__ inline uint64_t Nanoseconds() {
  uint64_t ns;
  asm volatile("mov.u64 %0, %globaltimer;" : "=l"(ns)::"memory");
  return ns;
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
