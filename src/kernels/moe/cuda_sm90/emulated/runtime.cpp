// The runtime API on the emulated device. Everything happens at once, in the order of the calls,
// but that a stream that is captured keeps it for later.
#include <cuda.h>
#include <cuda_runtime.h>

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <utility>
#include <vector>

#include "kernels/moe/cuda_sm90/emulated/copies.h"

struct CUgraph_st {
  std::vector<std::function<cudaError_t()>> work;
};
struct CUstream_st {
  std::unique_ptr<CUgraph_st> capture;
};

namespace {

using sluice::emulated::LaunchEnd;

cudaError_t last_error = cudaSuccess;  // like a device after a fault, it stays

cudaError_t Do(cudaStream_t stream, std::function<cudaError_t()> work) {
  if (stream && stream->capture) {
    stream->capture->work.push_back(std::move(work));
    return cudaSuccess;
  }
  return work();
}

// Rows behind, so that a write past the end is found when it is freed.
constexpr size_t kGuard = 256;
constexpr uint8_t kGuardByte = 0xA5;

struct Allocation {
  size_t bytes;
  char padding[kGuard - sizeof(size_t)];
};
static_assert(sizeof(Allocation) == kGuard);

}  // namespace

const char* cudaGetErrorString(cudaError_t error) {
  switch (error) {
    case cudaSuccess: return "no error";
    case cudaErrorInvalidValue: return "invalid argument";
    case cudaErrorMemoryAllocation: return "out of memory";
    case cudaErrorNotSupported: return "operation not supported";
    case cudaErrorLaunchTimeout: return "every thread of the launch waited";
    case cudaErrorLaunchFailure: return "the launch was stopped";
    case cudaErrorCooperativeLaunchTooLarge: return "too many CTAs in a cooperative launch";
  }
  return "?";
}
cudaError_t cudaGetLastError() { return last_error; }

cudaError_t cudaGetDeviceCount(int* count) {
  *count = 1;
  return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
  *properties = {.name = "emulated device", .major = 9, .minor = 0};
  return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr, int) {
  *value = sluice::emulated::kProcessors;
  return cudaSuccess;
}
cudaError_t cudaDeviceSynchronize() { return last_error; }

cudaError_t cudaMallocBytes(void** out, size_t bytes) {
  const size_t rounded = (bytes + kGuard - 1) / kGuard * kGuard;
  auto* memory = static_cast<uint8_t*>(std::aligned_alloc(kGuard, rounded + 2 * kGuard));
  if (!memory) return cudaErrorMemoryAllocation;
  reinterpret_cast<Allocation*>(memory)->bytes = bytes;
  std::memset(memory + kGuard, 0xFF, bytes);
  std::memset(memory + kGuard + bytes, kGuardByte, rounded + kGuard - bytes);
  *out = memory + kGuard;
  return cudaSuccess;
}
cudaError_t cudaFree(void* p) {
  if (!p) return cudaSuccess;
  uint8_t* const memory = static_cast<uint8_t*>(p) - kGuard;
  const size_t bytes = reinterpret_cast<Allocation*>(memory)->bytes;
  for (size_t i = 0; i < kGuard; ++i)
    if (static_cast<uint8_t*>(p)[bytes + i] != kGuardByte) {
      std::fprintf(stderr, "emulated device: something wrote %zu bytes behind an allocation\n", i);
      std::abort();
    }
  std::free(memory);
  return cudaSuccess;
}
cudaError_t cudaHostAllocBytes(void** out, size_t bytes) {
  *out = std::malloc(bytes);
  return *out ? cudaSuccess : cudaErrorMemoryAllocation;
}
cudaError_t cudaFreeHost(void* p) {
  std::free(p);
  return cudaSuccess;
}
cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind) {
  if (bytes > 0) std::memcpy(to, from, bytes);
  return last_error;
}
cudaError_t cudaMemset(void* p, int value, size_t bytes) {
  if (bytes > 0) std::memset(p, value, bytes);
  return last_error;
}
cudaError_t cudaMemsetAsync(void* p, int value, size_t bytes, cudaStream_t stream) {
  return Do(stream, [=] { return cudaMemset(p, value, bytes); });
}

cudaError_t cudaStreamCreate(cudaStream_t* stream) {
  *stream = new CUstream_st;
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  delete stream;
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t) { return last_error; }
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  stream->capture = std::make_unique<CUgraph_st>();
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  *graph = stream->capture.release();
  return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* exec, cudaGraph_t graph, unsigned) {
  *exec = new CUgraph_st(*graph);
  return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t) {
  for (const auto& work : exec->work)
    if (const cudaError_t error = work(); error != cudaSuccess) return error;
  return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
  delete exec;
  return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}

cudaError_t CheckSharedBytes(size_t bytes) {
  return bytes <= sluice::emulated::kSharedMax ? cudaSuccess : cudaErrorInvalidValue;
}
cudaError_t LaunchOnStream(const cudaLaunchConfig_t& config, std::function<void()> kernel) {
  sluice::emulated::LaunchShape shape{
      .grid_x = config.gridDim.x,
      .grid_y = config.gridDim.y,
      .threads = static_cast<int>(config.blockDim.x),
      .shared_bytes = static_cast<uint32_t>(config.dynamicSmemBytes)};
  for (unsigned i = 0; i < config.numAttrs; ++i)
    if (config.attrs[i].id == cudaLaunchAttributeCooperative)
      shape.cooperative = config.attrs[i].val.cooperative != 0;
  if (config.gridDim.x * config.gridDim.y == 0 || shape.threads == 0 || shape.threads > 1024 ||
      config.dynamicSmemBytes > sluice::emulated::kSharedMax)
    return last_error = cudaErrorInvalidValue;
  if (shape.cooperative && shape.grid_x * shape.grid_y > sluice::emulated::kProcessors)
    return cudaErrorCooperativeLaunchTooLarge;
  return Do(config.stream, [shape, kernel = std::move(kernel)] {
    if (last_error != cudaSuccess) return last_error;
    const LaunchEnd end = sluice::emulated::RunLaunch(shape, kernel);
    if (end != LaunchEnd::kDone)
      std::fprintf(stderr, "emulated device: %s\n", sluice::emulated::LastTrap().c_str());
    if (end == LaunchEnd::kDeadlock) last_error = cudaErrorLaunchTimeout;
    if (end == LaunchEnd::kTrapped) last_error = cudaErrorLaunchFailure;
    return cudaSuccess;  // a fault is found when somebody waits
  });
}

cudaError_t cudaGetDriverEntryPointByVersion(const char* name, void** function, unsigned,
                                             unsigned long long,
                                             cudaDriverEntryPointQueryResult* found) {
  *found = cudaDriverEntryPointSymbolNotFound;
  if (std::strcmp(name, "cuTensorMapEncodeTiled") != 0) return cudaErrorNotSupported;
  *function = reinterpret_cast<void*>(&cuTensorMapEncodeTiled);
  *found = cudaDriverEntryPointSuccess;
  return cudaSuccess;
}

// The conditions are those of the driver API's description.
CUresult cuTensorMapEncodeTiled(CUtensorMap* map, CUtensorMapDataType type, cuuint32_t rank,
                                void* address, const cuuint64_t* dims, const cuuint64_t* strides,
                                const cuuint32_t* box, const cuuint32_t* element_strides,
                                CUtensorMapInterleave, CUtensorMapSwizzle swizzle,
                                CUtensorMapL2promotion, CUtensorMapFloatOOBfill) {
  const cuuint32_t element = type == CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 ? 2 : 1;
  bool good = rank == 2 && swizzle == CU_TENSOR_MAP_SWIZZLE_128B &&  // no others are modelled
              reinterpret_cast<uintptr_t>(map) % 64 == 0 && address &&
              reinterpret_cast<uintptr_t>(address) % 16 == 0 && strides[0] % 16 == 0 &&
              strides[0] < uint64_t{1} << 40 && strides[0] >= dims[0] * element &&
              box[0] * element % 16 == 0 && box[0] * element <= 128;
  for (int i = 0; i < 2; ++i)
    good = good && dims[i] > 0 && dims[i] <= uint64_t{1} << 32 && box[i] > 0 && box[i] <= 256 &&
           element_strides[i] == 1;
  if (!good) return CUDA_ERROR_INVALID_VALUE;
  const sluice::emulated::TensorMap encoded{.magic = sluice::emulated::kTensorMapMagic,
                                            .data = static_cast<uint8_t*>(address),
                                            .columns = dims[0],
                                            .rows = dims[1],
                                            .row_bytes = strides[0],
                                            .box_columns = box[0],
                                            .box_rows = box[1],
                                            .element_bytes = element};
  static_assert(sizeof encoded <= sizeof(CUtensorMap));
  std::memcpy(map, &encoded, sizeof encoded);
  return CUDA_SUCCESS;
}
