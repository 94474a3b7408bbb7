#include "kernels/moe/cuda_sm90/separate_shared.h"

#include <cuda_runtime.h>

#include <utility>

#include "kernels/moe/cuda_sm90/plain.h"

namespace sluice::moe_sm90 {
namespace {

Status FromCuda(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return Status();
  return Error(Code::kInternal, "{}: {}", what, cudaGetErrorString(error));
}

class SeparateShared : public DeviceMoe {
 public:
  SeparateShared(const MoeShape& shape, const DeviceWeights& weights)
      : shape_(shape),
        routed_weights_(weights.RoutedAlone()),
        shared_weights_(weights.SharedAlone()) {}

  Status Allocate(FusedOptions options) {
    options.shared_inside = true;
    const auto tokens = static_cast<uint64_t>(shape_.tokens_max);
    MoeShape routed = shape_, shared = shape_;
    routed.shared_intermediate = shared.shared_intermediate = 0;
    shared.experts = shared.top_k = 1;
    shared.intermediate = shape_.shared_intermediate;
    TRY(routed_, MakeFusedMoe(routed, routed_weights_, options));
    TRY(shared_, MakeFusedMoe(shared, shared_weights_, options));
    TRY(ids_, DeviceBuffer::Allocate(tokens * sizeof(int32_t), "ids of the shared expert"));
    TRY(ones_, DeviceBuffer::Allocate(tokens * sizeof(float), "weights of the shared expert"));
    TRY(y_, DeviceBuffer::Allocate(tokens * static_cast<uint64_t>(shape_.hidden) * 2,
                                   "rows of the shared expert"));
    RETURN_IF_ERROR(FromCuda(cudaMemset(ids_.data(), 0, ids_.bytes()), "ids"));
    return FromCuda(LaunchFill(ones_.data<float>(), shape_.tokens_max, 1, nullptr), "weights");
  }

  const char* name() const override { return "fused_v2"; }
  uint64_t scratch_bytes() const override {
    return routed_->scratch_bytes() + shared_->scratch_bytes() + y_.bytes();
  }
  Status Run(std::span<const RankArgs> ranks, CUstream_st* stream) override {
    RETURN_IF_ERROR(routed_->Run(ranks, stream));
    RankArgs shared = ranks[0];
    shared.ids = ids_.data<int32_t>();
    shared.weights = ones_.data<float>();
    shared.y = y_.data();
    RETURN_IF_ERROR(shared_->Run({&shared, 1}, stream));
    return FromCuda(
        LaunchAdd(ranks[0].y, y_.data(), int64_t{ranks[0].tokens} * shape_.hidden, stream),
        "adding the shared expert");
  }
  std::string FaultText() const override {
    const std::string text = routed_->FaultText();
    return text.empty() ? shared_->FaultText() : text;
  }
  Status Poison(CUstream_st* stream) override {
    RETURN_IF_ERROR(routed_->Poison(stream));
    return shared_->Poison(stream);
  }

 private:
  MoeShape shape_;
  DeviceWeights routed_weights_, shared_weights_;
  DeviceBuffer ids_, ones_, y_;
  std::unique_ptr<DeviceMoe> routed_, shared_;
};

}  // namespace

Result<std::unique_ptr<DeviceMoe>> MakeSeparateShared(const MoeShape& shape,
                                                      const DeviceWeights& weights,
                                                      const FusedOptions& options) {
  if (shape.ranks != 1 || options.trace)
    return Error(Code::kInvalidArgument,
                 "the shared expert in a launch of its own: {} ranks{}, allowed are 1, no trace",
                 shape.ranks, options.trace ? ", a trace" : "");
  auto moe = std::make_unique<SeparateShared>(shape, weights);
  RETURN_IF_ERROR(moe->Allocate(options));
  return std::unique_ptr<DeviceMoe>(std::move(moe));
}

}  // namespace sluice::moe_sm90
