// Test data to a GPU and back.
#pragma once

#include <cuda_runtime.h>
#include <gtest/gtest.h>

#include <utility>
#include <vector>

#include "kernels/moe/cuda_sm90/device_moe.h"

namespace sluice::moe_sm90 {

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
