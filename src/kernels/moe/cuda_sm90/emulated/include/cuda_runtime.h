// For the emulated device, in place of CUDA's header: the words of CUDA C++ and the part of the
// runtime API that the kernels, their host code and their tests use, and no more.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <tuple>

#include "kernels/moe/cuda_sm90/emulated/device.h"

#define __device__
#define __host__
#define __global__
#define __grid_constant__
#define __launch_bounds__(...)

// ---- Words of the language. ----

struct uint3 {
  unsigned x, y, z;
};
struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned a = 1, unsigned b = 1, unsigned c = 1) : x(a), y(b), z(c) {}
};
struct alignas(8) int2 {
  int x, y;
};
struct alignas(8) uint2 {
  unsigned x, y;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
inline float2 make_float2(float x, float y) { return {x, y}; }

extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;

inline int min(int a, int b) { return a < b ? a : b; }
inline int max(int a, int b) { return a > b ? a : b; }
inline unsigned max(unsigned a, unsigned b) { return a > b ? a : b; }
inline float __expf(float x) { return std::exp(x); }
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline float __uint_as_float(unsigned bits) {
  float x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}
inline unsigned __float_as_uint(float x) {
  unsigned bits;
  std::memcpy(&bits, &x, sizeof bits);
  return bits;
}

template <class T>
T __ldg(const T* p) {
  return *p;
}
template <class T>
T __ldcg(const T* p) {
  return *p;
}
template <class T>
T __ldcs(const T* p) {
  return *p;
}

template <class T>
T atomicAdd(T* p, T value) {
  sluice::emulated::Step();
  const T before = *p;
  *p = before + value;
  sluice::emulated::WakeAll(p);
  return before;
}
template <class T>
T atomicMax(T* p, T value) {
  sluice::emulated::Step();
  const T before = *p;
  *p = before > value ? before : value;
  sluice::emulated::WakeAll(p);
  return before;
}

inline void __syncthreads() { sluice::emulated::CtaBarrier(0, 0); }
inline void __threadfence_system() {}
[[noreturn]] inline void __trap() { sluice::emulated::Trap("__trap"); }
inline void __nanosleep(unsigned ns) {
  for (unsigned i = 0; i < ns / 1000 && i < 16; ++i) sluice::emulated::Yield();
}
inline long long clock64() { return static_cast<long long>(sluice::emulated::Ticks()); }

namespace sluice::emulated {
enum : int { kSyncWarp = 1, kShuffle, kShuffleXor, kShuffleUp, kBallot, kMatch, kReduceMax };

template <class T>
uint32_t WordOf(T value) {
  static_assert(sizeof(T) == 4);
  uint32_t word;
  std::memcpy(&word, &value, sizeof word);
  return word;
}
template <class T>
T FromWord(uint32_t word) {
  T value;
  std::memcpy(&value, &word, sizeof value);
  return value;
}
template <class T>
T ShuffleFrom(int kind, unsigned mask, T value, int lane) {
  const auto& all = WarpExchange(kind, mask, WordOf(value));
  if (lane < 0 || lane >= kWarpLanes) return value;
  if ((mask >> lane & 1) == 0) Trap("a shuffle from a lane that does not take part");
  return FromWord<T>(all[static_cast<size_t>(lane)]);
}
}  // namespace sluice::emulated

inline void __syncwarp(unsigned mask = 0xFFFFFFFF) {
  sluice::emulated::WarpExchange(sluice::emulated::kSyncWarp, mask, 0);
}
template <class T>
T __shfl_sync(unsigned mask, T value, int lane) {
  return sluice::emulated::ShuffleFrom(sluice::emulated::kShuffle, mask, value, lane % 32);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lanes) {
  const int lane = sluice::emulated::Here().lane();
  return sluice::emulated::ShuffleFrom(sluice::emulated::kShuffleXor, mask, value, lane ^ lanes);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, int by) {
  const int lane = sluice::emulated::Here().lane();
  return sluice::emulated::ShuffleFrom(sluice::emulated::kShuffleUp, mask, value, lane - by);
}
inline unsigned __ballot_sync(unsigned mask, bool value) {
  const auto& all = sluice::emulated::WarpExchange(sluice::emulated::kBallot, mask, value);
  unsigned out = 0;
  for (unsigned lane = 0; lane < 32; ++lane) out |= all[lane] << lane;
  return out;
}
template <class T>
unsigned __match_any_sync(unsigned mask, T value) {
  const uint32_t own = sluice::emulated::WordOf(value);
  const auto& all = sluice::emulated::WarpExchange(sluice::emulated::kMatch, mask, own);
  unsigned out = 0;
  for (unsigned lane = 0; lane < 32; ++lane)
    if (mask >> lane & 1 && all[lane] == own) out |= 1u << lane;
  return out;
}
inline unsigned __reduce_max_sync(unsigned mask, unsigned value) {
  const auto& all = sluice::emulated::WarpExchange(sluice::emulated::kReduceMax, mask, value);
  unsigned out = 0;
  for (unsigned lane = 0; lane < 32; ++lane)
    if (mask >> lane & 1) out = max(out, all[lane]);
  return out;
}

// ---- The runtime. ----

enum cudaError_t {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorMemoryAllocation = 2,
  cudaErrorNotSupported = 801,
  cudaErrorLaunchTimeout = 702,
  cudaErrorLaunchFailure = 719,
  cudaErrorCooperativeLaunchTooLarge = 720,
};
const char* cudaGetErrorString(cudaError_t error);
cudaError_t cudaGetLastError();

struct CUstream_st;
using cudaStream_t = CUstream_st*;
struct CUgraph_st;
using cudaGraph_t = CUgraph_st*;
using cudaGraphExec_t = CUgraph_st*;

struct cudaDeviceProp {
  char name[256];
  int major, minor;
};
enum cudaDeviceAttr { cudaDevAttrMultiProcessorCount };
cudaError_t cudaGetDeviceCount(int* count);
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device);
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device);
cudaError_t cudaDeviceSynchronize();

enum cudaMemcpyKind { cudaMemcpyHostToDevice, cudaMemcpyDeviceToHost };
enum { cudaHostAllocMapped = 2 };
cudaError_t cudaMallocBytes(void** out, size_t bytes);
template <class T>
cudaError_t cudaMalloc(T** out, size_t bytes) {
  return cudaMallocBytes(reinterpret_cast<void**>(out), bytes);
}
cudaError_t cudaFree(void* p);
cudaError_t cudaHostAllocBytes(void** out, size_t bytes);
template <class T>
cudaError_t cudaHostAlloc(T** out, size_t bytes, unsigned) {
  return cudaHostAllocBytes(reinterpret_cast<void**>(out), bytes);
}
cudaError_t cudaFreeHost(void* p);
cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind);
cudaError_t cudaMemset(void* p, int value, size_t bytes);
cudaError_t cudaMemsetAsync(void* p, int value, size_t bytes, cudaStream_t stream);

cudaError_t cudaStreamCreate(cudaStream_t* stream);
cudaError_t cudaStreamDestroy(cudaStream_t stream);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);
enum cudaStreamCaptureMode { cudaStreamCaptureModeGlobal };
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode);
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph);
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* exec, cudaGraph_t graph, unsigned flags);
cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream);
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec);
cudaError_t cudaGraphDestroy(cudaGraph_t graph);

enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize };
cudaError_t CheckSharedBytes(size_t bytes);
template <class T>
cudaError_t cudaFuncSetAttribute(T*, cudaFuncAttribute, int value) {
  return CheckSharedBytes(static_cast<size_t>(value));
}

enum cudaLaunchAttributeID { cudaLaunchAttributeCooperative };
struct cudaLaunchAttribute {
  cudaLaunchAttributeID id;
  struct {
    int cooperative;
  } val;
};
struct cudaLaunchConfig_t {
  dim3 gridDim, blockDim;
  size_t dynamicSmemBytes;
  cudaStream_t stream;
  cudaLaunchAttribute* attrs;
  unsigned numAttrs;
};
cudaError_t LaunchOnStream(const cudaLaunchConfig_t& config, std::function<void()> kernel);
template <class... Params, class... Args>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Params...),
                               Args&&... args) {
  const std::tuple<Params...> params(args...);
  return LaunchOnStream(*config, [kernel, params] { std::apply(kernel, params); });
}

enum { cudaEnableDefault = 0 };
enum cudaDriverEntryPointQueryResult {
  cudaDriverEntryPointSuccess = 0,
  cudaDriverEntryPointSymbolNotFound = 1,
};
cudaError_t cudaGetDriverEntryPointByVersion(const char* name, void** function, unsigned version,
                                             unsigned long long flags,
                                             cudaDriverEntryPointQueryResult* found);
