// Launches as plain C++.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>

namespace sluice::moe_sm90 {

/// kernel<<<grid, threads, shared_bytes, stream>>>(args...), which only CUDA's compilers can read.
template <class... Params, class... Args>
cudaError_t LaunchKernel(void (*kernel)(Params...), dim3 grid, int threads, size_t shared_bytes,
                         cudaStream_t stream, const Args&... args) {
  cudaLaunchConfig_t config = {};
  config.gridDim = grid;
  config.blockDim = dim3(static_cast<unsigned>(threads));
  config.dynamicSmemBytes = shared_bytes;
  config.stream = stream;
  return cudaLaunchKernelEx(&config, kernel, args...);
}

}  // namespace sluice::moe_sm90
