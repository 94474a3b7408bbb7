// Test data to a GPU and back.
#pragma once

#include <cuda_runtime.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <utility>
#include <vector>

#include "kernels/moe/cuda_sm90/device_moe.h"

namespace sluice::moe_sm90 {

/// Whether to run all there is of a kind. The emulated device (emulated/) is slow: there tests take
/// fewer and smaller cases, unless SLUICE_EMULATED_ALL is set.
inline bool Thorough() {
#ifdef SLUICE_EMULATED_DEVICE
  return std::getenv("SLUICE_EMULATED_ALL") != nullptr;
#else
  return true;
#endif
}

template <class T>
DeviceBuffer ToDevice(const std::vector<T>& host) {
  DeviceBuffer buffer = std::move(*DeviceBuffer::Allocate(host.size() * sizeof(T), "test data"));
  EXPECT_EQ(cudaMemcpy(buffer.data(), host.data(), host.size() * sizeof(T), cudaMemcpyHostToDevice),
            cudaSuccess);
  return buffer;
}

template <class T>
std::vector<T> ToHost(const DeviceBuffer& buffer) {
  std::vector<T> host(buffer.bytes() / sizeof(T));
  EXPECT_EQ(cudaMemcpy(host.data(), buffer.data(), buffer.bytes(), cudaMemcpyDeviceToHost),
            cudaSuccess);
  return host;
}

}  // namespace sluice::moe_sm90
