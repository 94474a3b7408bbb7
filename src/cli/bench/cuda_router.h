// The router of a layer on the GPU, for `sluice bench moe --device cuda --router`.
#pragma once

#include <memory>
#include <vector>

#include "cli/bench/layer_shapes.h"
#include "kernels/moe/cuda_sm90/device_moe.h"
#include "kernels/moe/route.h"

namespace sluice {

/// Random weights; the family's choice, as the shape's groups say: sigmoid with a bias, or softmax.
class CudaRouter {
 public:
  /// Errors: kOutOfMemory.
  static Result<std::unique_ptr<CudaRouter>> Make(const MoeShape& shape, int64_t tokens,
                                                  uint64_t seed);
  /// Enqueues; `x`: bf16 [tokens, hidden] on the device.
  Status Run(const void* x, CUstream_st* stream) const;
  LayerWork Work() const;
  /// Of the weights that the last run gave to sampled rows of `x`, against sums of doubles.
  Result<double> Error(const std::vector<float>& x, Exec& exec) const;

 private:
  CudaRouter(const MoeShape& shape, int64_t tokens) : shape_(shape), tokens_(tokens) {}

  MoeShape shape_;
  int64_t tokens_;
  std::vector<float> gate_, bias_;
  moe_sm90::DeviceBuffer device_gate_, device_bias_, ids_, weights_, scores_;
};

}  // namespace sluice
