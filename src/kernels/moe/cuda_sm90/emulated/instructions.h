// What ptx.cuh and wgmma.cuh have, for the emulated device: see there.
#pragma once

#include <cuda.h>
#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/moe/cuda_sm90/element.h"
#include "kernels/moe/cuda_sm90/emulated/copies.h"
#include "kernels/moe/cuda_sm90/emulated/device.h"
#include "kernels/moe/cuda_sm90/emulated/products.h"
#include "kernels/moe/cuda_sm90/fault.h"

namespace sluice::moe_sm90 {

inline uint32_t SharedAddress(const void* p) { return emulated::SharedAddressOf(p); }
template <class T>
T* DynamicShared() {
  return reinterpret_cast<T*>(emulated::Here().cta->shared);
}

inline int LoadAcquire(const int* counter) {
  emulated::Step();
  return *counter;
}
inline void AddRelease(int* counter, int value) {
  emulated::Step();
  *counter += value;
  emulated::WakeAll(counter);
}
/// Until the counter is no longer `found`.
inline void Pause(const int* counter, int found, int needed, Waiting what, int idx) {
  if (*counter != found) return;
  emulated::Block({.what = WaitingName(static_cast<int>(what)),
                   .on = counter,
                   .idx = idx,
                   .found = found,
                   .needed = needed});
}
inline void FenceCopyEngine() { emulated::Step(); }

inline void BarrierInit(uint64_t* barrier, uint32_t arrivals) {
  emulated::InitBarrier(barrier, arrivals);
}
inline void FenceBarrierInit() { emulated::Step(); }
inline void BarrierArrive(uint64_t* barrier) { emulated::ArriveAtBarrier(barrier, 0); }
inline void BarrierArriveExpecting(uint64_t* barrier, uint32_t bytes) {
  emulated::ArriveAtBarrier(barrier, bytes);
}
inline bool BarrierTryWait(uint64_t* barrier, uint32_t parity, Waiting what) {
  return emulated::TryWaitAtBarrier(barrier, parity, WaitingName(static_cast<int>(what)));
}
inline void NamedBarrier(int id, int threads) { emulated::CtaBarrier(id, threads); }

enum class CachePolicy { kEvictFirst, kEvictNormal, kEvictLast };
inline void CopyBox(void* shared, const CUtensorMap* map, int column, int row, uint64_t* barrier,
                    CachePolicy) {
  emulated::BeginCopy(shared, map, column, row, barrier);
}

inline float2 LoadConstantPair(const float* address) { return {address[0], address[1]}; }
inline uint64_t Nanoseconds() { return emulated::Ticks() / 32 * 32; }

template <int kRegisters>
void LowerRegisters() {
  emulated::Step();
}
template <int kRegisters>
void RaiseRegisters() {
  emulated::Step();
}

inline void WgmmaFence() { emulated::FenceProducts(); }
inline void WgmmaCommit() { emulated::CommitProducts(); }
template <int kPending>
void WgmmaWait() {
  emulated::WaitProducts(kPending);
}
template <int kCount>
void HoldRegisters(float (&)[kCount]) {}
template <Element kElement, int kColumns>
void Wgmma(float (&d)[kColumns / 2], uint64_t a, uint64_t b) {
  emulated::IssueProduct(d, kColumns, kElement, a, b);
}

}  // namespace sluice::moe_sm90
