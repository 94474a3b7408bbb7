#include "cli/bench/cuda_router.h"

#include <cmath>

#include "cli/bench/cuda_memory.h"
#include "cli/bench/layer_bench.h"
#include "kernels/moe/cuda_sm90/device_route.h"

namespace sluice {

using moe_sm90::DeviceBuffer;

Result<std::unique_ptr<CudaRouter>> CudaRouter::Make(const MoeShape& shape, int64_t tokens,
                                                     uint64_t seed) {
  std::unique_ptr<CudaRouter> router(new CudaRouter(shape, tokens));
  SplitMix64 random(seed);
  router->gate_ = RandomRows(random, shape.experts * shape.hidden);
  const float scale = 1 / std::sqrt(static_cast<float>(shape.hidden));
  for (float& weight : router->gate_) weight *= scale;
  router->bias_ = RandomRows(random, shape.experts);
  const auto floats = [](int64_t count) { return static_cast<uint64_t>(count) * sizeof(float); };
  TRY(router->device_gate_, ToDevice(router->gate_, "router"));
  TRY(router->device_bias_, ToDevice(router->bias_, "router"));
  TRY(router->ids_, DeviceBuffer::Allocate(floats(tokens * shape.top_k), "chosen experts"));
  TRY(router->weights_, DeviceBuffer::Allocate(floats(tokens * shape.top_k), "chosen weights"));
  TRY(router->scores_, DeviceBuffer::Allocate(floats(tokens * shape.experts), "router scores"));
  return router;
}

Status CudaRouter::Run(const void* x, CUstream_st* stream) const {
  const bool groups = shape_.n_group > 0;
  return moe_sm90::DeviceRoute({.tokens = static_cast<int>(tokens_),
                                .experts = static_cast<int>(shape_.experts),
                                .hidden = static_cast<int>(shape_.hidden),
                                .top_k = static_cast<int>(shape_.top_k),
                                .x = x,
                                .gate = device_gate_.data<float>(),
                                .bias = groups ? device_bias_.data<float>() : nullptr,
                                .softmax = !groups,
                                .n_group = shape_.n_group,
                                .topk_group = shape_.topk_group,
                                .ids = ids_.data<int32_t>(),
                                .weights = weights_.data<float>(),
                                .scores = scores_.data<float>()},
                               stream);
}

LayerWork CudaRouter::Work() const {
  const auto gate = static_cast<double>(gate_.size());
  return {.flop = 2 * static_cast<double>(tokens_) * gate, .bytes = sizeof(float) * gate};
}

Result<double> CudaRouter::Error(const std::vector<float>& x, Exec& exec) const {
  TRY(const std::vector<float> weights, ToHost<float>(weights_, "chosen weights"));
  const int64_t hidden = shape_.hidden, top_k = shape_.top_k;
  const bool groups = shape_.n_group > 0;
  std::vector<float> actual, expected, of_row(static_cast<size_t>(top_k));
  std::vector<int32_t> ids(of_row.size());
  for (const int64_t row : SampleRows(tokens_, 2.0 * static_cast<double>(gate_.size()))) {
    actual.insert(actual.end(), weights.begin() + row * top_k, weights.begin() + (row + 1) * top_k);
    RouteVariants().back().run({.x = {x.data() + row * hidden, {1, hidden}},
                                .gate = {gate_.data(), {shape_.experts, hidden}},
                                .bias = groups ? bias_.data() : nullptr,
                                .score = groups ? ScoreFunction::kSigmoid : ScoreFunction::kSoftmax,
                                .n_group = shape_.n_group,
                                .topk_group = shape_.topk_group,
                                .ids = {ids.data(), {1, top_k}},
                                .weights = {of_row.data(), {1, top_k}},
                                .scores = {}},
                               exec);
    expected.insert(expected.end(), of_row.begin(), of_row.end());
  }
  return WorstRowError(actual, expected, top_k);
}

}  // namespace sluice
