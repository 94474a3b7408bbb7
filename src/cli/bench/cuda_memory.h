// Between a GPU's memory and the host's, for the benches.
#pragma once

#include <cuda_runtime.h>

#include <vector>

#include "kernels/moe/cuda_sm90/device_moe.h"

namespace sluice {

inline Status FromCuda(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return {};
  return Error(Code::kInternal, "{}: {}", what, cudaGetErrorString(error));
}

template <class T>
Result<moe_sm90::DeviceBuffer> ToDevice(const std::vector<T>& host, const char* what) {
  TRY(auto buffer, moe_sm90::DeviceBuffer::Allocate(host.size() * sizeof(T), what));
  RETURN_IF_ERROR(FromCuda(
      cudaMemcpy(buffer.data(), host.data(), host.size() * sizeof(T), cudaMemcpyHostToDevice),
      what));
  return buffer;
}

template <class T>
Result<std::vector<T>> ToHost(const moe_sm90::DeviceBuffer& buffer, const char* what) {
  std::vector<T> host(buffer.bytes() / sizeof(T));
  RETURN_IF_ERROR(FromCuda(
      cudaMemcpy(host.data(), buffer.data(), buffer.bytes(), cudaMemcpyDeviceToHost), what));
  return host;
}

}  // namespace sluice
